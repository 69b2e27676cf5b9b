//! The whole way from files and flags to a configuration.

use std::ffi::OsString;
use std::path::Path;

use clap::{Args, FromArgMatches};

use super::*;

fn host() -> Host {
    Host { name: "host-1".to_owned(), addresses: vec![("eth0".to_owned(), IpAddr::from([10, 0, 0, 5]))] }
}

fn flags(args: &[&str]) -> AgentFlags {
    let args = go_style(std::iter::once("agent").chain(args.iter().copied()).map(OsString::from));
    let matches = AgentFlags::augment_args(clap::Command::new("agent")).try_get_matches_from(args).unwrap();
    AgentFlags::from_arg_matches(&matches).unwrap()
}

fn load_args(args: &[&str]) -> Result<Loaded, String> {
    load(&flags(args), &host()).map_err(|faults| faults.to_string())
}

/// A file of that name with that text, beside flags that make it enough to start.
fn load_text(name: &str, text: &str) -> Result<Loaded, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    load_args(&["-server", "-bootstrap", "-data-dir", "/x", "-config-file", path])
        .map_err(|message| message.replace(&format!("{}/", dir.path().display()), ""))
}

fn faults(text: &str) -> Vec<String> {
    let message = load_text("f.toml", text).unwrap_err();
    message.lines().skip(1).map(|line| line.trim().to_owned()).collect()
}

#[test]
fn dev_needs_nothing_else() {
    let loaded = load_args(&["-dev"]).unwrap();
    let config = loaded.config;
    assert!(config.server && config.bootstrap && config.http.pretty && config.data_dir.is_none() && config.enable_debug);
    assert_eq!(config.addresses.advertise, IpAddr::from([127, 0, 0, 1]));
    assert_eq!(config.addresses.http, [Listen::Tcp("127.0.0.1:8500".parse().unwrap())]);
    assert_eq!((config.log.level, config.raft.multiplier, config.node_name.as_str()), ("debug", 1, "host-1"));
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn what_is_missing_is_said_once_for_all() {
    let message = load_args(&[]).unwrap_err();
    assert_eq!(
        message,
        "the configuration has 2 faults:\n  \
         configuration: server: this version has no client agents yet: set server = true (flag -server), or start with -dev\n  \
         configuration: data_dir: must be given (flag -data-dir), or start with -dev to keep everything in memory"
    );
}

#[test]
fn flags_win_over_files_and_files_over_defaults() {
    let loaded = load_text("f.toml", "data_dir = \"/from-file\"\ndatacenter = \"Paris\"\n[ports]\nhttp = 1\ndns = 2\n").unwrap();
    assert_eq!(loaded.config.data_dir.as_deref(), Some(Path::new("/x")));
    assert_eq!(loaded.config.datacenter, "paris");
    assert_eq!(loaded.config.addresses.dns, ["127.0.0.1:2".parse().unwrap()]);
    assert_eq!(loaded.config.addresses.advertise, IpAddr::from([10, 0, 0, 5]));
    assert_eq!(loaded.config.addresses.server, Some("0.0.0.0:8300".parse().unwrap()));
}

#[test]
fn all_faults_of_all_files_are_told_together() {
    assert_eq!(
        faults(
            "nodename = \"a\"\nlog_level = 3\n[ports]\ndns = \"x\"\nhtp = 1\nhttp = 70000\n[dns_config]\nnode_ttl = \"5 s\"\n"
        ),
        [
            "f.toml:1:1: nodename = \"a\": unknown key; did you mean node_name?",
            "f.toml:2:1: log_level = 3: must be a text",
            "f.toml:4:1: ports.dns = \"x\": must be a whole number",
            "f.toml:5:1: ports.htp = 1: unknown key; did you mean http?",
            "f.toml:8:1: dns_config.node_ttl = \"5 s\": must be a duration such as \"10s\" or \"1h30m\"",
        ]
    );
}
