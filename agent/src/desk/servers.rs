//! The servers as raft has them: asked of any of them, changed by the leader.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use muster_catalog::Index;
use serde::{Deserialize, Serialize};
use smol_str::{SmolStr, ToSmolStr as _};
use uuid::Uuid;

use super::travel::{self, Question};
use super::{Act, ClusterError, Consistency, Desk, DeskError, Who, allow};
use crate::raft::{MemberError, Raft};
use crate::rpc::{CallError, Code, Method, Refusal};

/// Time for a change of the servers, its way to the leader included: a hand-over that finds nobody level waits for less.
const CHANGE_MAX: Duration = Duration::from_secs(20);
/// Time in which a leader looks for somebody to hand over to.
const TRANSFER_MAX: Duration = Duration::from_secs(10);

/// The servers, and the log entry that made them such. It travels between agents: fields are only added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Servers {
    pub(crate) servers: Vec<Server>,
    pub(crate) index: Index,
}

/// One server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Server {
    /// The id of its voter in raft: another one after its disk was wiped.
    pub(crate) raft: SmolStr,
    /// Its node.
    pub(crate) node: Uuid,
    /// The node's name, if gossip knows it.
    pub(crate) name: Option<SmolStr>,
    /// Where it takes requests, if that is known.
    pub(crate) address: Option<SocketAddr>,
    pub(crate) leader: bool,
    pub(crate) votes: bool,
    /// The last entry that it is known to have.
    pub(crate) last_index: Index,
}

/// How an operator names a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ServerName {
    /// The id of its voter, or of its node.
    Id(SmolStr),
    /// Where it takes requests.
    Address(SmolStr),
}

/// What the leader is told to do about the servers; each named by its voter. It travels between agents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Change {
    /// Take its vote away.
    Remove(SmolStr),
    /// Let it lead, or whichever is best.
    Transfer(Option<SmolStr>),
    /// Nothing: say how healthy all of them are.
    Health,
}

impl Servers {
    /// The one that leads, if one is known.
    pub(crate) fn leader(&self) -> Option<&Server> {
        self.servers.iter().find(|server| server.leader)
    }

    /// The one server of that name: two may have one node's id, of which the older one lost its disk.
    pub(crate) fn named(&self, name: &ServerName) -> Result<&Server, ClusterError> {
        let all = || self.servers.iter();
        let found: Vec<&Server> = match name {
            ServerName::Address(text) => match text.parse::<SocketAddr>() {
                Ok(address) => all().filter(|server| server.address == Some(address)).collect(),
                Err(_) => Vec::new(),
            },
            ServerName::Id(text) => match all().find(|server| server.raft.eq_ignore_ascii_case(text)) {
                Some(voter) => vec![voter],
                None => {
                    let id = Uuid::try_parse(text).ok();
                    all().filter(|server| Some(server.node) == id).collect()
                }
            },
        };
        match (found.as_slice(), name) {
            ([one], _) => Ok(one),
            ([], ServerName::Id(id)) => Err(ClusterError::NoSuchServer { what: "id", name: id.clone() }),
            ([], ServerName::Address(address)) => Err(ClusterError::NoSuchServer { what: "address", name: address.clone() }),
            (several, _) => Err(ClusterError::SeveralServers(several.iter().map(|server| server.raft.clone()).collect())),
        }
    }
}

impl Desk {
    /// Who leads and who the servers are, as a server knows it.
    pub(crate) async fn servers(&self, who: &Who) -> Result<Servers, DeskError> {
        allow(who, &Act::Read)?;
        if self.raft().is_some() {
            return Ok(self.servers_here());
        }
        Ok(self.carry(who, Question::Servers, Consistency::Stale, None, travel::read).await?.answer)
    }

    /// As this server knows it.
    pub(crate) fn servers_here(&self) -> Servers {
        let Some(raft) = self.raft() else { return Servers::default() };
        let members = self.cluster().members();
        let member = |node: Uuid| members.iter().find(|member| member.id == node);
        let book = self.quorum().pool().map(|pool| pool.book().all());
        let address = |node: Uuid| match book.as_ref().and_then(|book| book.get(&node)) {
            Some(address) => Some(*address),
            None if node == self.id() => Some(self.server_address()),
            None => member(node).and_then(|member| member.server_address()),
        };
        let known = self.quorum().age().known_leader;
        let leader = raft.leader().filter(|_| known).map(|(voter, _)| voter);
        let status = raft.status();
        let servers = raft.servers().into_iter().map(|server| Server {
            raft: server.id.to_smolstr(),
            node: server.node,
            name: match member(server.node) {
                Some(member) => Some(member.name.clone()),
                None => (server.node == self.id()).then(|| SmolStr::new(self.name().as_str())),
            },
            address: address(server.node),
            leader: leader == Some(server.id),
            votes: server.voter,
            last_index: server.matching.unwrap_or(if server.node == self.id() { status.last_log_index } else { 0 }),
        });
        Servers { servers: servers.collect(), index: status.configuration_index }
    }

    /// Takes a server's vote away.
    pub(super) async fn remove_server(&self, who: &Who, name: &ServerName) -> Result<(), DeskError> {
        let servers = self.servers(who).await?;
        let voter = servers.named(name)?.raft.clone();
        self.change_servers(&servers, &Change::Remove(voter)).await
    }

    /// Has another server lead: this one, or whichever is best.
    pub(super) async fn transfer_leader(&self, who: &Who, to: Option<&ServerName>) -> Result<(), DeskError> {
        let servers = self.servers(who).await?;
        let to = to.map(|name| servers.named(name)).transpose()?.map(|server| server.raft.clone());
        self.change_servers(&servers, &Change::Transfer(to)).await
    }

    /// Has the leader do it.
    async fn change_servers(&self, servers: &Servers, change: &Change) -> Result<(), DeskError> {
        let leader = servers.leader().ok_or(DeskError::NoLeader)?.node;
        if leader == self.id() {
            return Ok(self.change_servers_here(change).await?);
        }
        self.tell_leader(leader, change).await.map(drop)
    }

    /// Asks the leader, as far as one is known, how healthy the servers are.
    pub(super) async fn ask_leader_for_health(&self, who: &Who) -> Result<Bytes, DeskError> {
        let leader = self.servers(who).await?.leader().ok_or(DeskError::NoLeader)?.node;
        if leader == self.id() {
            return self.health_here().ok_or(DeskError::NoLeader);
        }
        self.tell_leader(leader, &Change::Health).await
    }

    async fn tell_leader(&self, leader: Uuid, change: &Change) -> Result<Bytes, DeskError> {
        let pool = self.quorum().pool().ok_or(DeskError::NoLeader)?;
        let body = rmp_serde::to_vec_named(change).expect("plain data can be written to memory");
        match pool.call(leader, Method::Order, body, CHANGE_MAX).await {
            Ok(answer) => Ok(answer),
            // The leader's own words are worth more than that it refused.
            Err(CallError::Refused { refusal: Refusal { code: Code::NotLeader, .. }, .. }) => Err(DeskError::NoLeader),
            Err(CallError::Refused { refusal, .. }) => Err(ClusterError::Raft(refusal.text).into()),
            Err(error) => Err(DeskError::Away(error)),
        }
    }

    /// Does what another agent sent here because this one leads.
    pub(crate) async fn answer_order(&self, body: &[u8]) -> Result<Bytes, Refusal> {
        let change: Change = muster_catalog::unpack(body).map_err(|error| Refusal::new(Code::Body, error.to_string()))?;
        if change == Change::Health {
            return self.health_here().ok_or_else(|| Refusal::new(Code::NotLeader, "this server does not lead"));
        }
        match self.change_servers_here(&change).await {
            Ok(()) => Ok(Bytes::new()),
            Err(ClusterError::NoLeader) => Err(Refusal::new(Code::NotLeader, "this server does not lead")),
            Err(error) => Err(Refusal::new(Code::Failed, error.to_string())),
        }
    }

    async fn change_servers_here(&self, change: &Change) -> Result<(), ClusterError> {
        let raft = self.raft().ok_or(ClusterError::NoLeader)?;
        let voter = |text: &SmolStr| {
            let found = raft.servers().into_iter().map(|server| server.id).find(|id| id.to_smolstr() == *text);
            found.ok_or_else(|| ClusterError::NoSuchServer { what: "id", name: text.clone() })
        };
        match change {
            Change::Remove(text) => told(raft.remove_servers(&BTreeSet::from([voter(text)?])).await),
            Change::Transfer(None) => hand_over(raft, None).await,
            Change::Transfer(Some(text)) => hand_over(raft, Some(voter(text)?)).await,
            Change::Health => Ok(()),
        }
    }
}

async fn hand_over(raft: &Raft, to: Option<crate::raft::RaftId>) -> Result<(), ClusterError> {
    if to.is_some_and(|to| raft.leader().is_some_and(|(leader, _)| leader == to)) {
        return Ok(()); // it leads
    }
    told(raft.transfer_leader(to, TRANSFER_MAX).await.map(|_| ()))
}

fn told(result: Result<(), MemberError>) -> Result<(), ClusterError> {
    result.map_err(|error| match error {
        MemberError::NotLeader { .. } => ClusterError::NoLeader,
        error => ClusterError::Raft(error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(raft: &str, node: u128, port: u16) -> Server {
        let address = Some(([127, 0, 0, 1], port).into());
        Server { raft: raft.into(), node: Uuid::from_u128(node), address, leader: port == 1, ..Server::default() }
    }

    #[test]
    fn servers_are_named_by_voter_node_or_address() {
        let servers = Servers { servers: vec![server("aa", 1, 1), server("bb", 2, 2), server("cc", 2, 3)], index: 7 };
        let id = |text: &str| ServerName::Id(text.into());
        let node = |number| id(&Uuid::from_u128(number).to_string());
        let at = |text: &str| ServerName::Address(text.into());
        let found = |name: &ServerName| servers.named(name).map(|server| server.raft.to_string());
        assert_eq!(servers.leader().map(|server| server.raft.as_str()), Some("aa"));
        assert_eq!(found(&node(1)), Ok("aa".to_owned()));
        assert_eq!(found(&id("CC")), Ok("cc".to_owned()));
        assert_eq!(found(&at("127.0.0.1:2")), Ok("bb".to_owned()));
        let both = found(&node(2)).unwrap_err().to_string();
        assert!(both.ends_with("name one of bb, cc"), "{both}");
        for name in [id("x"), node(9), at("x"), at("127.0.0.1:9")] {
            let error = found(&name).unwrap_err().to_string();
            assert!(error.ends_with("was not found in the Raft configuration"), "{error}");
        }
    }

    #[test]
    fn what_travels_reads_back_and_a_newer_field_is_no_fault() {
        let servers = Servers { servers: vec![server("aa", 1, 1)], index: 7 };
        let bytes = rmp_serde::to_vec_named(&servers).unwrap();
        assert_eq!(travel::read::<Servers>(&bytes), Some(servers));
        let newer = rmp_serde::to_vec_named(&serde_json::json!({ "servers": [{ "raft": "aa", "later": 1 }] })).unwrap();
        assert_eq!(travel::read::<Servers>(&newer).map(|read| read.servers[0].raft.clone()), Some("aa".into()));
        assert_eq!(travel::read::<Servers>(&[0xc1]), None);
    }
}
