//! `reload` and `leave`: what an agent is told about itself.

use bytes::Bytes;
use clap::Args;

use super::client::Client;
use super::error::Error;
use super::print::Out;
use super::remote::AgentArgs;
use super::target::Target;

#[derive(Args, Debug)]
pub(crate) struct Reload {
    #[command(flatten)]
    agent: AgentArgs,
}

impl Reload {
    pub(crate) async fn run(self, out: &mut Out) -> Result<(), Error> {
        Client::new(&self.agent)?.put(&Target::at("/v1/agent/reload"), Bytes::new()).await?.done()?;
        out.line("Configuration reload triggered")
    }
}

#[derive(Args, Debug)]
pub(crate) struct Leave {
    #[command(flatten)]
    agent: AgentArgs,
}

impl Leave {
    pub(crate) async fn run(self, out: &mut Out) -> Result<(), Error> {
        Client::new(&self.agent)?.put(&Target::at("/v1/agent/leave"), Bytes::new()).await?.done()?;
        out.line("Graceful leave complete")
    }
}
