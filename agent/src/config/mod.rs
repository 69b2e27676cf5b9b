//! Configuration: what was written in files and flags, and what it means.

pub(crate) mod duration;
mod fault;
mod hcl;
mod json;
mod toml;
mod tree;

pub(crate) use fault::{Fault, nearest};
pub(crate) use tree::{Node, Value};

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
