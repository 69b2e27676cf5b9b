//! `version`: which program this is, and which Consul it may be taken for.

use clap::Args;
use serde_json::json;

use super::done::Done;
use super::error::Error;
use super::print::{Format, Out};
use crate::config::{CONSUL_VERSION, MUSTER_VERSION};

#[derive(Args, Debug)]
pub(crate) struct Version {
    /// For people or for programs.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
}

impl Version {
    /// `name` is what the program was called by: who calls it `consul` parses Consul's first line.
    pub(crate) fn run(self, name: &str, out: &mut Out) -> Result<Done, Error> {
        match self.format {
            Format::Json => out.json(&json!({
                "Version": CONSUL_VERSION,
                "Muster": MUSTER_VERSION,
                "Revision": "",
                "Prerelease": "",
                "RPC": { "Default": 2, "Min": 2, "Max": 3 },
            }))?,
            Format::Pretty if name == "consul" => {
                out.line(format_args!("Consul v{CONSUL_VERSION} (muster {MUSTER_VERSION})"))?;
            }
            Format::Pretty => {
                out.line(format_args!("Muster v{MUSTER_VERSION}"))?;
                out.line(format_args!("Speaks the HTTP API, DNS names and files of Consul {CONSUL_VERSION}"))?;
            }
        }
        Ok(Done::Well)
    }
}
