//! `operator`: what is done about servers.

use clap::Subcommand;

use super::error::Error;
use super::print::Out;

mod autopilot;
mod log;
mod servers;
mod usage;

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Look after raft
    #[command(subcommand, arg_required_else_help = true)]
    Raft(Raft),
    /// Look after how servers come and go
    #[command(subcommand, arg_required_else_help = true)]
    Autopilot(autopilot::Command),
    /// Count what is in the catalog
    #[command(subcommand, arg_required_else_help = true)]
    Usage(usage::Command),
}

#[derive(Subcommand, Debug)]
pub(crate) enum Raft {
    /// List the servers: who leads, who votes, who is how far behind
    ListPeers(servers::List),
    /// Take a server's vote away
    RemovePeer(servers::Remove),
    /// Let another server lead
    TransferLeader(servers::Transfer),
    /// Print the entries of a stopped agent's log: what was written, by whom, why
    Log(log::Log),
}

impl Command {
    pub(crate) async fn run(self, out: &mut Out) -> Result<(), Error> {
        let raft = match self {
            Command::Raft(raft) => raft,
            Command::Autopilot(command) => return command.run(out).await,
            Command::Usage(command) => return command.run(out).await,
        };
        match raft {
            Raft::ListPeers(list) => list.run(out).await,
            Raft::RemovePeer(remove) => remove.run(out).await,
            Raft::TransferLeader(transfer) => transfer.run(out).await,
            Raft::Log(log) => log.run(out),
        }
    }
}
