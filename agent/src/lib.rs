//! The agent of muster and the commands to one.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

mod cli;
mod config;
mod desk;
mod loops;
mod raft;
mod version;

/// Runs what the process' arguments ask for.
pub fn main() -> ExitCode {
    cli::main(&cli::Rooms { agent, validate })
}

fn agent(_arguments: Vec<OsString>) -> ExitCode {
    cli::refuse("This build of muster has the commands to an agent, and no agent yet.")
}

fn validate(_paths: &[PathBuf], _format: Option<&str>) -> Result<Vec<String>, String> {
    Err("This build of muster reads no agent configuration yet.".to_owned())
}
