//! The flags of `muster agent`: Consul's, each standing for a key of the configuration, over which it wins.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args as _, Command, FromArgMatches as _, value_parser};

use super::go::go_style;
use super::merge::{Format, Written};
use super::tree::{At, Node, Value};

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// Nothing, or `=true`, `=false`.
    Bool,
    /// A whole number.
    Number,
    /// A text; the last one counts.
    Text,
    /// A text; each is appended to a list.
    List,
    /// `key:value`; each is put to a map.
    Pair,
}

/// A flag and the key that it stands for.
#[derive(Debug, PartialEq, Eq)]
struct Flag {
    name: &'static str,
    key: &'static str,
    takes: Takes,
    help: &'static str,
}

const fn flag(name: &'static str, key: &'static str, takes: Takes, help: &'static str) -> Flag {
    Flag { name, key, takes, help }
}

/// What is said of flags of Consul's mesh and enterprise parts, which help does not show.
const IGNORED: &str = "Accepted and ignored";

/// All flags that stand for a key; `-dev`, `-config-*` and `-hcl` stand for none.
const FLAGS: &[Flag] = &[
    flag("advertise", "advertise_addr", Takes::Text, "Address that other agents are told"),
    flag("advertise-wan", "advertise_addr_wan", Takes::Text, "Address that agents of other datacenters are told"),
    flag(
        "allow-write-http-from",
        "http_config.allow_write_http_from",
        Takes::List,
        "Network that may write over HTTP; repeatable",
    ),
    flag("alt-domain", "alt_domain", Takes::Text, "Second DNS domain to answer for"),
    flag("auto-reload-config", "auto_reload_config", Takes::Bool, "Reload when files change"),
    flag("bind", "bind_addr", Takes::Text, "Address of the ports between agents"),
    flag("bootstrap", "bootstrap", Takes::Bool, "Make a cluster of this one server"),
    flag("bootstrap-expect", "bootstrap_expect", Takes::Number, "Make a cluster when this many servers have met"),
    flag("check_output_max_size", "check_output_max_size", Takes::Number, "Bytes of output kept of one check run"),
    flag("client", "client_addr", Takes::Text, "Addresses of HTTP and DNS, with blanks between"),
    flag("data-dir", "data_dir", Takes::Text, "Directory where everything is kept"),
    flag("datacenter", "datacenter", Takes::Text, "Name of the datacenter"),
    flag("default-query-time", "default_query_time", Takes::Text, "How long a blocking read waits if it does not say"),
    flag("disable-host-node-id", "disable_host_node_id", Takes::Bool, "Make the node id at random (always so here)"),
    flag("disable-keyring-file", "disable_keyring_file", Takes::Bool, "Keep no key ring in the data directory"),
    flag("dns-port", "ports.dns", Takes::Number, "Port of DNS; -1 is off"),
    flag("domain", "domain", Takes::Text, "DNS domain to answer for"),
    flag("enable-local-script-checks", "enable_local_script_checks", Takes::Bool, "Let checks of files run programs"),
    flag("enable-script-checks", "enable_script_checks", Takes::Bool, "Let all checks run programs, those told over HTTP too"),
    flag("encrypt", "encrypt", Takes::Text, "Key of gossip, as keygen prints it"),
    flag("grpc-port", "ports.grpc", Takes::Number, "Port of gRPC (without effect)"),
    flag("grpc-tls-port", "ports.grpc_tls", Takes::Number, "Port of gRPC over TLS (without effect)"),
    flag("http-port", "ports.http", Takes::Number, "Port of HTTP; -1 is off"),
    flag("https-port", "ports.https", Takes::Number, "Port of HTTPS (later version)"),
    flag("join", "retry_join", Takes::List, "The same as -retry-join"),
    flag("join-wan", "retry_join_wan", Takes::List, "Server of another datacenter to join (later version); repeatable"),
    flag("log-file", "log_file", Takes::Text, "File for logs, besides stderr"),
    flag("log-json", "log_json", Takes::Bool, "Write logs as JSON"),
    flag("log-level", "log_level", Takes::Text, "trace, debug, info, warn or error"),
    flag("log-rotate-bytes", "log_rotate_bytes", Takes::Number, "Begin a new log file after this many bytes"),
    flag("log-rotate-duration", "log_rotate_duration", Takes::Text, "Begin a new log file after this long"),
    flag("log-rotate-max-files", "log_rotate_max_files", Takes::Number, "Old log files kept; 0 is all, -1 none"),
    flag("max-query-time", "max_query_time", Takes::Text, "How long a blocking read waits at most"),
    flag("node", "node_name", Takes::Text, "Name of this node"),
    flag("node-id", "node_id", Takes::Text, "UUID of this node"),
    flag("node-meta", "node_meta", Takes::Pair, "Pair key:value of this node; repeatable"),
    flag("pid-file", "pid_file", Takes::Text, "File that holds the process id"),
    flag("primary-gateway", "primary_gateways", Takes::List, IGNORED),
    flag("protocol", "protocol", Takes::Number, "Accepted, without effect"),
    flag("raft-protocol", "raft_protocol", Takes::Number, "Version of raft: 3"),
    flag("read-replica", "read_replica", Takes::Bool, IGNORED),
    flag("recursor", "recursors", Takes::List, "DNS server that names of other domains are asked of; repeatable"),
    flag("rejoin", "rejoin_after_leave", Takes::Bool, "Join the members known before, also after a leave"),
    flag("retry-interval", "retry_interval", Takes::Text, "Time between attempts to join"),
    flag("retry-interval-wan", "retry_interval_wan", Takes::Text, "The same between datacenters (later version)"),
    flag("retry-join", "retry_join", Takes::List, "Agent to join: address, host name or SRV name; repeatable"),
    flag("retry-join-wan", "retry_join_wan", Takes::List, "Server of another datacenter to join (later version); repeatable"),
    flag("retry-max", "retry_max", Takes::Number, "Attempts to join after which the agent ends; 0 is never"),
    flag("retry-max-wan", "retry_max_wan", Takes::Number, "The same between datacenters (later version)"),
    flag("segment", "segment", Takes::Text, IGNORED),
    flag("serf-lan-allowed-cidrs", "serf_lan_allowed_cidrs", Takes::List, "Network of members (later version); repeatable"),
    flag("serf-lan-bind", "serf_lan", Takes::Text, "Address of gossip, if not that of -bind"),
    flag("serf-lan-port", "ports.serf_lan", Takes::Number, "Port of gossip; -1 is off"),
    flag("serf-wan-allowed-cidrs", "serf_wan_allowed_cidrs", Takes::List, "The same between datacenters; repeatable"),
    flag("serf-wan-bind", "serf_wan", Takes::Text, "The same between datacenters"),
    flag("serf-wan-port", "ports.serf_wan", Takes::Number, "The same between datacenters"),
    flag("server", "server", Takes::Bool, "Hold the catalog; without it a client agent"),
    flag("server-port", "ports.server", Takes::Number, "Port between servers; -1 is off"),
    flag("syslog", "enable_syslog", Takes::Bool, "Log to syslog too"),
    flag("ui", "ui_config.enabled", Takes::Bool, "Answer the web page"),
    flag("ui-content-path", "ui_config.content_path", Takes::Text, "Path of the web page"),
    flag("ui-dir", "ui_config.dir", Takes::Text, "Answer the files of this directory instead of the web page"),
];

/// The flags of `muster agent`, as given.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct AgentFlags {
    /// Whether everything stays in memory.
    pub(crate) dev: bool,
    /// Files and directories, in the order they were given.
    pub(crate) paths: Vec<PathBuf>,
    /// The language of all files, whatever their names say.
    pub(crate) format: Option<Format>,
    /// Fragments of HCL.
    pub(crate) hcl: Vec<String>,
    /// Whether this agent takes its name over from a member that still answers. It stands in no file: it is meant once.
    pub(crate) replace: bool,
    /// Whether what is kept of another cluster is dropped. It stands in no file either.
    pub(crate) forget_cluster: bool,
    /// Keys and values of all other flags.
    values: Vec<(&'static Flag, Vec<Value>)>,
}

impl AgentFlags {
    /// Reads what was typed after `muster agent`, in Go's style. The error is clap's: help, or a fault, to be printed.
    pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut command = Self::augment_args(Command::new("muster agent").about("Runs an agent on this host"));
        let line = std::iter::once(OsString::from("muster agent")).chain(arguments);
        let line = go_style(&command, line).map_err(|fault| command.error(ErrorKind::InvalidValue, fault))?;
        Self::from_arg_matches(&command.try_get_matches_from(line)?)
    }

    /// Reads all files and puts the flags over them.
    pub(crate) fn read(&self) -> Written {
        let mut written = Written::read(&self.paths, self.format);
        for fragment in &self.hcl {
            written.add_text("flag -hcl", fragment, Format::Hcl);
        }
        for (flag, values) in &self.values {
            let at = At::whole(format!("flag -{}", flag.name));
            if let Some(node) = tree(flag, values, &at) {
                written.add_tree(&node);
            }
        }
        written
    }
}

/// A flag as the file that would say the same.
fn tree(flag: &Flag, values: &[Value], at: &At) -> Option<Node> {
    let node = |value: Value| Node { value, at: at.clone() };
    let value = match flag.takes {
        Takes::Bool | Takes::Number | Takes::Text => values.last()?.clone(),
        Takes::List => Value::List(values.iter().cloned().map(node).collect()),
        Takes::Pair => Value::Map(
            values
                .iter()
                .map(|value| match value {
                    Value::Text(text) => text.split_once(':').unwrap_or((text, "")),
                    _ => ("", ""),
                })
                .map(|(key, value)| (key.to_owned(), node(Value::Text(value.to_owned()))))
                .collect(),
        ),
    };
    Some(flag.key.rsplit('.').fold(node(value), |inner, key| node(Value::Map(vec![(key.to_owned(), inner)]))))
}

impl clap::FromArgMatches for AgentFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self {
            dev: matches.get_one("dev").copied().unwrap_or(false),
            paths: matches.get_many("config-file").into_iter().flatten().cloned().collect(),
            format: matches.get_one("config-format").copied(),
            hcl: matches.get_many("hcl").into_iter().flatten().cloned().collect(),
            replace: matches.get_one("replace").copied().unwrap_or(false),
            forget_cluster: matches.get_one("forget-cluster").copied().unwrap_or(false),
            values: Vec::new(),
        };
        for flag in FLAGS {
            let values: Vec<Value> = match flag.takes {
                Takes::Bool => matches.get_many(flag.name).into_iter().flatten().map(|value| Value::Bool(*value)).collect(),
                Takes::Number => matches.get_many(flag.name).into_iter().flatten().map(|value| Value::Int(*value)).collect(),
                Takes::Text | Takes::List | Takes::Pair => {
                    matches.get_many::<String>(flag.name).into_iter().flatten().cloned().map(Value::Text).collect()
                }
            };
            if !values.is_empty() {
                flags.values.push((flag, values));
            }
        }
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for AgentFlags {
    fn augment_args(command: Command) -> Command {
        let command = command
            .arg(bare(Arg::new("dev").long("dev").help("Server of one, all in memory, on 127.0.0.1, with debug logs")))
            .arg(
                Arg::new("config-file")
                    .long("config-file")
                    .visible_alias("config-dir")
                    .value_name("PATH")
                    .action(ArgAction::Append)
                    .value_parser(value_parser!(PathBuf))
                    .help("File, or directory of *.toml, *.json and *.hcl files; repeatable, later ones win"),
            )
            .arg(
                Arg::new("config-format")
                    .long("config-format")
                    .value_parser(value_parser!(Format))
                    .help("Language of all files, whatever their names say"),
            )
            .arg(Arg::new("hcl").long("hcl").action(ArgAction::Append).value_name("TEXT").help("Fragment of HCL; repeatable"))
            .arg(bare(
                Arg::new("replace").long("replace").help("Take this node's name and UUID over from a member that still answers"),
            ))
            .arg(bare(
                Arg::new("forget-cluster").long("forget-cluster").help("Drop what is kept of another cluster, and join anew"),
            ));
        FLAGS.iter().fold(command, |command, flag| {
            let arg = Arg::new(flag.name).long(flag.name).help(flag.help).hide(flag.help == IGNORED);
            command.arg(match flag.takes {
                Takes::Bool => bare(arg),
                Takes::Number => {
                    arg.value_parser(value_parser!(i64)).value_name("N").action(ArgAction::Set).overrides_with(flag.name)
                }
                Takes::Text => arg.value_name("TEXT").action(ArgAction::Set).overrides_with(flag.name),
                Takes::List | Takes::Pair => arg.value_name("TEXT").action(ArgAction::Append),
            })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// A truth value as Go's flags have it: bare, or with `=`.
fn bare(arg: Arg) -> Arg {
    let id = arg.get_id().clone();
    arg.num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .value_parser(GoBool)
        .value_name("BOOL")
        .hide_possible_values(true)
        .overrides_with(id)
}

/// Parses Go's words for true and false.
#[derive(Debug, Clone, Copy)]
struct GoBool;

impl TypedValueParser for GoBool {
    type Value = bool;
    fn parse_ref(&self, command: &Command, _: Option<&Arg>, value: &std::ffi::OsStr) -> Result<bool, clap::Error> {
        match value.to_string_lossy().to_ascii_lowercase().as_str() {
            "1" | "t" | "true" => Ok(true),
            "0" | "f" | "false" => Ok(false),
            other => Err(command.clone().error(ErrorKind::InvalidValue, format!("{other:?} is neither true nor false"))),
        }
    }
}

/// The number of flags that stand for a key, and what a file would say that has one of them: for tests.
#[cfg(test)]
pub(super) fn every_flag() -> std::ops::Range<usize> {
    0..FLAGS.len()
}

/// The file that says the same as the flag of that number with some value.
#[cfg(test)]
pub(super) fn example(number: usize) -> Node {
    let flag = &FLAGS[number];
    let value = match flag.takes {
        Takes::Bool => Value::Bool(true),
        Takes::Number => Value::Int(1),
        Takes::Pair => Value::Text("a:b".to_owned()),
        // Reads as a text and as a duration.
        Takes::Text | Takes::List => Value::Text("1s".to_owned()),
    };
    tree(flag, &[value], &At::whole(format!("flag -{}", flag.name))).expect("one value is given")
}
