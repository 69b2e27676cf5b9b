//! Configuration: what was written in files and flags, and what it means.

mod address;
mod definition;
pub(crate) mod duration;
mod facility;
mod fault;
mod file;
mod flags;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod go;
mod hcl;
mod interface;
mod join;
mod json;
mod key;
mod meaning;
mod merge;
mod names;
mod read;
mod refuse;
mod reload;
mod section;
mod settled;
mod template;
mod toml;
mod tree;
mod validate;
mod version;
mod watch;

use std::path::PathBuf;

pub(crate) use address::{Host, Listen};
#[cfg(any(test, fuzzing))]
pub(crate) use definition::DefinitionLimits;
pub(crate) use definition::{DefinitionError, check_from_body, service_from_body, update_from_body};
pub(crate) use fault::{Fault, Faults, nearest};
pub(crate) use flags::AgentFlags;
pub(crate) use go::go_style;
pub(crate) use join::JoinAddress;
pub(crate) use key::{GossipKey, NEW_KEY_BYTES};
pub(crate) use merge::Format;
pub(crate) use settled::{
    AbsenceConfig, Addresses, AntiEntropy, AutopilotConfig, ChecksTls, Config, DefaultReads, Replica, RequestLimits, UiConfig,
    UnixSockets,
};
pub(crate) use tree::{Node, Value};
pub(crate) use validate::{understood, validate};
pub(crate) use version::{CONSUL_VERSION, MUSTER_VERSION};
pub(crate) use watch::{WatchConfig, WatchHandler, WatchParams, WatchPlan};

/// A configuration that can be started.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Loaded {
    /// What it means.
    pub(crate) config: Config,
    /// What is worth a word in the log.
    pub(crate) warnings: Vec<String>,
    /// The files that were read.
    pub(crate) files: Vec<PathBuf>,
}

/// Reads what the flags name and understands it; or says all that is wrong with it.
pub(crate) fn load(flags: &AgentFlags, host: &Host) -> Result<Loaded, Faults> {
    let mut written = flags.read();
    let files = std::mem::take(&mut written.files);
    let (mut config, warnings) = Config::new(written, flags.dev, host)?;
    config.cluster.replace = flags.replace;
    config.cluster.forget_cluster = flags.forget_cluster;
    Ok(Loaded { config, warnings, files })
}

/// Reads the text of a file whose name ends in `ending`: json, hcl or toml.
pub(crate) fn parse(source: &str, ending: &str, text: &str) -> Result<Node, Fault> {
    match ending {
        "json" => json::parse(source, text),
        "hcl" => hcl::parse(source, text),
        "toml" => toml::parse(source, text),
        _ => {
            let wanted = "the name of a file ends in .json, .hcl or .toml".to_owned();
            Err(Fault { at: tree::At::whole(source), key: String::new(), value: String::new(), wanted })
        }
    }
}

#[cfg(test)]
mod tests;
