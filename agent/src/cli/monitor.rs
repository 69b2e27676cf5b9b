//! `monitor`: the agent's log as it is written.

use clap::Args;

use super::client::Client;
use super::error::Error;
use super::print::Out;
use super::remote::AgentArgs;
use super::target::Target;

#[derive(Args, Debug)]
pub(crate) struct Monitor {
    /// From which level on: trace, debug, info, warn or error.
    #[arg(long, value_name = "LEVEL", default_value = "INFO")]
    log_level: String,

    /// Lines as JSON.
    #[arg(long)]
    log_json: bool,

    #[command(flatten)]
    agent: AgentArgs,
}

impl Monitor {
    pub(crate) async fn run(self, out: &mut Out) -> Result<(), Error> {
        let target = Target::at("/v1/agent/monitor").param("loglevel", &self.log_level);
        let target = if self.log_json { target.param("logjson", "true") } else { target };
        let mut client = Client::new(&self.agent)?;
        let lines = client.pieces(&target, |piece| {
            out.bytes(piece)?;
            out.flush()
        });
        tokio::select! {
            ended = lines => ended,
            _ = tokio::signal::ctrl_c() => Ok(()),
        }
    }
}
