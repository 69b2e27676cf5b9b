//! `info`: the agent's own figures, by section.

use std::collections::BTreeMap;

use clap::Args;
use serde::Deserialize;

use super::client::Client;
use super::error::Error;
use super::print::{Format, Out};
use super::remote::AgentArgs;
use super::target::Target;

#[derive(Args, Debug)]
pub(crate) struct Info {
    /// For people or for programs.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,

    #[command(flatten)]
    agent: AgentArgs,
}

#[derive(Debug, Deserialize)]
struct Own {
    #[serde(rename = "Stats", default)]
    stats: Option<BTreeMap<String, Option<BTreeMap<String, String>>>>,
}

impl Info {
    pub(crate) async fn run(self, out: &mut Out) -> Result<(), Error> {
        let own: Own = Client::new(&self.agent)?.get(&Target::at("/v1/agent/self")).await?.json()?;
        let sections = own.stats.unwrap_or_default();
        if self.format == Format::Json {
            return out.json(&sections);
        }
        for (section, figures) in &sections {
            out.line(format_args!("{section}:"))?;
            for (key, value) in figures.iter().flatten() {
                out.line(format_args!("\t{key} = {value}"))?;
            }
        }
        Ok(())
    }
}
