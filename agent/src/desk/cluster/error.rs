//! Why something could not be done about the cluster, in the words that Consul's operators know.

use smol_str::SmolStr;

/// Somebody who was not met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unmet {
    /// Who, as it was asked for.
    pub(crate) asked: String,
    pub(crate) why: String,
}

/// Why something could not be done about the cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClusterError {
    /// Nobody answered; membership is as it was. Mend the addresses, or try again.
    #[error("{text}", text = all_unmet(.0))]
    NobodyMet(Vec<Unmet>),
    /// Nothing was done: gossip is switched off here. The operator opens its port.
    #[error("gossip is off on this agent: set ports.serf_lan to a port")]
    NoGossip,
    /// Nothing was done: the caller named somebody whom nobody knows.
    #[error("agent: No node found with name '{0}'")]
    NoSuchMember(SmolStr),
    /// Nothing was done: members have no keys. The operator sets `encrypt` on all of them.
    #[error("1 error occurred:\n\t* Keyring is empty (encryption not enabled)\n\n")]
    NotEncrypted,
    /// The key ring could not be changed at some members, or at none; the text says which. The operator asks again.
    #[error("{0}")]
    Keys(String),
    /// Nothing was told to anybody; the text says why. Later may do.
    #[error("failed to fire event: {0}")]
    NotFired(String),
    /// Nothing was done: no leader is known. Later may do.
    #[error("No cluster leader")]
    NoLeader,
    /// Nothing was done: the caller named a server that raft does not have.
    #[error("{what} {name:?} was not found in the Raft configuration")]
    NoSuchServer { what: &'static str, name: SmolStr },
    /// Nothing was done: a node had its disk wiped, and both of its voters are there. The caller names one of them.
    #[error("several voters of that node are in the Raft configuration: name one of {list}", list = .0.join(", "))]
    SeveralServers(Vec<SmolStr>),
    /// Raft did not do it; the text says whether anything was changed.
    #[error("{0}")]
    Raft(String),
}

fn all_unmet(unmet: &[Unmet]) -> String {
    let count = unmet.len();
    let mut text = format!("{count} error{} occurred:\n", if count == 1 { "" } else { "s" });
    for Unmet { asked, why } in unmet {
        text.push_str(&format!("\t* Failed to join {asked}: {why}\n"));
    }
    text.push('\n');
    text
}
