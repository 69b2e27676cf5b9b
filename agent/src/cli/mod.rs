//! The command line: reads what was typed, runs one command, and turns its end into an exit code.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use done::Done;
use error::Error;
use print::Out;

use crate::config::go_style;
use crate::error::chain;

mod catalog;
mod client;
mod completions;
mod debug;
mod definition;
mod done;
mod elements;
mod error;
mod event;
mod import;
mod info;
mod input;
mod join;
mod keygen;
mod keyring;
mod kv;
mod lock;
mod maint;
mod members;
mod monitor;
mod operator;
mod print;
mod process;
mod remote;
mod rtt;
mod services;
mod simulate;
mod snapshot;
mod table;
mod target;
mod transfer;
mod validate;
mod value;
mod version;
mod watch;

/// What a command of this process needs from the rooms beside the command line.
pub(crate) struct Rooms {
    /// Runs an agent with the arguments as they were typed after `agent`.
    pub(crate) agent: fn(Vec<OsString>) -> ExitCode,
    /// Reads an agent's configuration for `validate`.
    pub(crate) validate: validate::Reads,
    /// Reads the settings of gossip for `simulate`.
    pub(crate) simulate: simulate::Reads,
}

const AFTER_HELP: &str = "Flags are written with one dash or two. Every command says more with -help.\n\
    An agent at another address than 127.0.0.1:8500 is named by -http-addr, MUSTER_HTTP_ADDR or CONSUL_HTTP_ADDR.";

/// Which services run where, and which of them are well.
#[derive(Parser, Debug)]
#[command(name = "muster", after_help = AFTER_HELP, disable_version_flag = true, subcommand_required = true, arg_required_else_help = true)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run an agent on this host (`agent -dev` for a first look)
    #[command(disable_help_flag = true)]
    Agent {
        /// The agent's own flags; `agent -help` lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FLAGS")]
        flags: Vec<OsString>,
    },
    #[command(flatten)]
    Ask(Box<Ask>),
    /// Check configuration files without starting an agent
    Validate(validate::Validate),
    /// Try the settings of gossip on a cluster that is made up
    Simulate(simulate::Simulate),
    /// Make a key of gossip
    Keygen(keygen::Keygen),
    /// Print the version of this program
    Version(version::Version),
    /// Print a script that completes these commands in a shell
    Completions(completions::Completions),
}

/// The commands that speak to an agent.
#[derive(Subcommand, Debug)]
enum Ask {
    /// List the members of the cluster
    Members(members::Members),
    /// Let the agent meet others, and so be in their cluster
    Join(join::Join),
    /// Let a member that failed count as one that left
    ForceLeave(join::ForceLeave),
    /// List and change the keys of gossip
    Keyring(keyring::Keyring),
    /// Look after servers
    #[command(subcommand, arg_required_else_help = true)]
    Operator(operator::Command),
    /// Estimate the round-trip time between two nodes
    Rtt(rtt::Rtt),
    /// Print what the agent counts and knows about itself
    Info(info::Info),
    /// Ask the catalog: datacenters, nodes, services
    #[command(subcommand, arg_required_else_help = true)]
    Catalog(catalog::Command),
    /// Register services with the agent, or remove them
    #[command(subcommand, arg_required_else_help = true)]
    Services(services::Command),
    /// Read and write the key-value store
    #[command(subcommand, arg_required_else_help = true)]
    Kv(kv::Command),
    /// Bring keys, external services and prepared queries here out of a running Consul
    Import(import::Import),
    /// Run a program while a lock is held
    Lock(lock::Lock),
    /// Save all of the catalog to a file, or restore it
    #[command(subcommand, arg_required_else_help = true)]
    Snapshot(snapshot::Command),
    /// Tell all agents of something
    Event(event::Event),
    /// Print what is asked for whenever it changes, or run a program with it
    Watch(watch::Watch),
    /// Gather what the agent says of itself over some time in an archive
    Debug(debug::Debug),
    /// Print the agent's log as it is written
    Monitor(monitor::Monitor),
    /// Take a node or a service out of the answers for maintenance, or back
    Maint(maint::Maint),
    /// Let the agent read its configuration files again
    Reload(process::Reload),
    /// Let the agent leave its cluster and stop
    Leave(process::Leave),
}

/// Reads the arguments of this process and runs the command they name.
pub(crate) fn main(rooms: &Rooms) -> ExitCode {
    let argv: Vec<OsString> = env::args_os().collect();
    let name = called(&argv);
    let shape = Line::command().bin_name(name.clone());
    let shape = override_everywhere(shape);
    let argv = match go_style(&shape, argv) {
        Ok(argv) => argv,
        Err(fault) => return refuse(&fault),
    };
    match shape.clone().try_get_matches_from(argv).and_then(|matches| Line::from_arg_matches(&matches)) {
        Ok(line) => dispatch(line.command, rooms, &name, shape),
        Err(error) => misread(&error),
    }
}

/// A fault in one line, and exit code 1.
pub(crate) fn refuse(fault: &str) -> ExitCode {
    print::note(format_args!("Error! {fault}"));
    ExitCode::FAILURE
}

fn dispatch(command: Command, rooms: &Rooms, name: &str, shape: clap::Command) -> ExitCode {
    let mut out = Out::new();
    let done = match command {
        Command::Ask(command) => ask(*command, &mut out),
        // The agent prints for itself, for as long as it lives.
        Command::Agent { flags } => {
            drop(out);
            return (rooms.agent)(flags);
        }
        Command::Completions(completions) => completions.run(shape, name, &mut out),
        Command::Validate(validate) => validate.run(rooms.validate, &mut out),
        Command::Simulate(simulate) => simulate.run(rooms.simulate, &mut out),
        Command::Keygen(keygen) => keygen.run(&mut out),
        Command::Version(version) => version.run(name, &mut out),
    };
    match done.and_then(|done| out.flush().map(|()| done)) {
        Ok(Done::Well) | Err(Error::Closed) => ExitCode::SUCCESS,
        Ok(Done::NoneFound | Done::ChildFailed) => ExitCode::from(2),
        Err(error) => {
            let _ = out.flush(); // what came before the fault is still true
            report(&error);
            ExitCode::FAILURE
        }
    }
}

/// Runs a command that speaks to an agent.
fn ask(command: Ask, out: &mut Out) -> Result<Done, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Usage(format!("This host gives the program no sockets: {error}")))?;
    runtime.block_on(async {
        match command {
            Ask::Members(members) => return members.run(out).await,
            Ask::Lock(lock) => return lock.run(out).await,
            Ask::Join(join) => join.run(out).await,
            Ask::ForceLeave(force_leave) => force_leave.run().await,
            Ask::Keyring(keyring) => keyring.run(out).await,
            Ask::Operator(command) => command.run(out).await,
            Ask::Rtt(rtt) => rtt.run(out).await,
            Ask::Info(info) => info.run(out).await,
            Ask::Catalog(command) => command.run(out).await,
            Ask::Services(command) => command.run(out).await,
            Ask::Kv(command) => command.run(out).await,
            Ask::Import(import) => import.run(out).await,
            Ask::Snapshot(command) => command.run(out).await,
            Ask::Event(event) => event.run(out).await,
            Ask::Watch(watch) => watch.run(out).await,
            Ask::Debug(debug) => debug.run(out).await,
            Ask::Monitor(monitor) => monitor.run(out).await,
            Ask::Maint(maint) => maint.run(out).await,
            Ask::Reload(reload) => reload.run(out).await,
            Ask::Leave(leave) => leave.run(out).await,
        }
        .map(|()| Done::Well)
    })
}

/// What clap has to say instead of a command: help, or a fault. Consul ends with 127 where no command was named, else with 1.
fn misread(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    let text = text.trim_end();
    match error.kind() {
        ErrorKind::DisplayHelp => {
            let mut out = Out::new();
            match out.line(text).and_then(|()| out.flush()) {
                Ok(()) | Err(Error::Closed) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand | ErrorKind::InvalidSubcommand => {
            print::note(text);
            ExitCode::from(if names_a_command() { 1 } else { 127 })
        }
        _ => {
            print::note(text);
            ExitCode::FAILURE
        }
    }
}

/// Whether the first argument is one of our commands, so that what was missing or unknown stands below it.
fn names_a_command() -> bool {
    let first = env::args_os().nth(1);
    first.and_then(|first| first.into_string().ok()).is_some_and(|first| Line::command().find_subcommand(first).is_some())
}

fn report(error: &Error) {
    print::note(format!("Error! {}", chain(error)));
    if let Some(advice) = error.advice() {
        print::note(advice);
    }
}

/// The name this program was called by: `consul` is a common one for it.
fn called(argv: &[OsString]) -> String {
    let name = argv.first().and_then(|path| Path::new(path).file_name()).and_then(|name| name.to_str());
    name.filter(|name| !name.is_empty()).unwrap_or("muster").to_owned()
}

/// In Go the last of a repeated flag counts.
fn override_everywhere(command: clap::Command) -> clap::Command {
    command.args_override_self(true).mut_subcommands(override_everywhere)
}
