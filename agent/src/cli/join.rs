//! `join` and `force-leave`: who is brought in, and who counts as gone.

use bytes::Bytes;
use clap::Args;

use super::client::Client;
use super::error::Error;
use super::print::{Out, note};
use super::remote::AgentArgs;
use super::target::Target;

#[derive(Args, Debug)]
pub(crate) struct Join {
    /// Agents to meet: addresses, host names or SRV names; the port is that of gossip.
    #[arg(required = true, value_name = "ADDRESS")]
    addresses: Vec<String>,

    /// Meet servers of other datacenters.
    #[arg(long)]
    wan: bool,

    #[command(flatten)]
    agent: AgentArgs,
}

impl Join {
    /// One that is met is enough; each that is not is told.
    pub(crate) async fn run(self, out: &mut Out) -> Result<(), Error> {
        let mut client = Client::new(&self.agent)?;
        let mut met = 0;
        let mut last = None;
        for address in &self.addresses {
            let target = Target::at("/v1/agent/join/").name(address);
            let target = if self.wan { target.param("wan", "1") } else { target };
            match client.put(&target, Bytes::new()).await?.done() {
                Ok(_) => met += 1,
                Err(error @ Error::Answer { .. }) => {
                    if let Some(earlier) = last.replace(error) {
                        note(format_args!("Error! {earlier}"));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        match (met, last) {
            (0, Some(error)) => Err(error),
            (met, last) => {
                if let Some(error) = last {
                    note(format_args!("Error! {error}"));
                }
                out.line(format_args!("Successfully joined cluster by contacting {met} nodes."))
            }
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct ForceLeave {
    /// The node that failed and does not come back.
    #[arg(value_name = "NODE")]
    node: String,

    /// Drop it from the list of members at once.
    #[arg(long)]
    prune: bool,

    /// The node is a server under its name across datacenters.
    #[arg(long)]
    wan: bool,

    #[command(flatten)]
    agent: AgentArgs,
}

impl ForceLeave {
    pub(crate) async fn run(self) -> Result<(), Error> {
        let mut target = Target::at("/v1/agent/force-leave/").name(&self.node);
        if self.prune {
            target = target.with("prune");
        }
        if self.wan {
            target = target.with("wan");
        }
        Client::new(&self.agent)?.put(&target, Bytes::new()).await?.done().map(|_| ())
    }
}
