//! The first call on a connection: both sides show who they are, and each decides whether the other is the right one.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::identity::{Identity, Part};
use super::refusal::{Code, Refusal};

/// The oldest protocol version that is spoken here.
const VERSION_MIN: u16 = 1;
/// The newest.
const VERSION_MAX: u16 = 1;
/// Longest hello, either way: some ids and a datacenter's name.
pub(crate) const HELLO_BYTES_MAX: usize = 4 << 10;

/// What each side says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// Oldest protocol version it speaks.
    pub(crate) version_min: u16,
    /// Newest.
    pub(crate) version_max: u16,
    /// The node.
    pub(crate) node: Uuid,
    /// Its cluster, if it has one.
    #[serde(default)]
    pub(crate) cluster: Option<Uuid>,
    #[serde(default)]
    pub(crate) datacenter: String,
    #[serde(default = "client")]
    pub(crate) part: Part,
    /// Its voter of the log.
    #[serde(default)]
    pub(crate) raft: Option<Uuid>,
    /// The node that is meant.
    #[serde(default)]
    pub(crate) to: Option<Uuid>,
    /// The voter that is meant, on connections of raft's.
    #[serde(default)]
    pub(crate) raft_to: Option<Uuid>,
}

fn client() -> Part {
    Part::Client
}

impl Hello {
    /// What this agent says to the one that it means.
    pub(crate) fn new(identity: &Identity, to: Option<Uuid>, raft_to: Option<Uuid>) -> Self {
        Self {
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            node: identity.node(),
            cluster: identity.cluster(),
            datacenter: identity.datacenter().to_owned(),
            part: identity.part(),
            raft: identity.raft(),
            to,
            raft_to,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        rmp_serde::to_vec_named(self).expect("plain data can be written to memory")
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        muster_catalog::unpack(bytes).map_err(|error| Refusal::new(Code::Body, format!("the hello was not understood: {error}")))
    }
}

/// Whether these two may talk, and in which version; each side asks it of the other's hello. The text is meant for the logs of
/// both, so it names both.
pub(crate) fn meet(identity: &Identity, theirs: &Hello) -> Result<u16, Refusal> {
    let (here, there) = (identity.node(), theirs.node);
    let refuse = |code, text: String| Err(Refusal::new(code, text));
    let version = VERSION_MAX.min(theirs.version_max);
    if version < VERSION_MIN.max(theirs.version_min) {
        return refuse(
            Code::Version,
            format!(
                "node {here} speaks protocol versions {VERSION_MIN} to {VERSION_MAX}, node {there} {} to {}: upgrade the older of the two",
                theirs.version_min, theirs.version_max
            ),
        );
    }
    if let Some(meant) = theirs.to
        && meant != here
    {
        return refuse(Code::Node, format!("node {there} looked for node {meant}, but node {here} answers at this address"));
    }
    if theirs.datacenter != identity.datacenter() {
        let (ours, others) = (identity.datacenter(), &theirs.datacenter);
        return refuse(
            Code::Datacenter,
            format!("node {here} is of datacenter {ours:?}, node {there} of {:?}", others.chars().take(64).collect::<String>()),
        );
    }
    match (identity.cluster(), theirs.cluster) {
        (Some(ours), Some(others)) if ours == others => {}
        (Some(ours), Some(others)) => {
            return refuse(
                Code::Cluster,
                format!(
                    "node {here} belongs to cluster {ours}, node {there} to cluster {others}: they do not talk. A node that is \
                     to change its cluster is started once with --forget-cluster"
                ),
            );
        }
        (None, _) => return refuse(Code::Cluster, format!("node {here} has not been admitted to a cluster yet")),
        (_, None) => return refuse(Code::Cluster, format!("node {there} has not been admitted to a cluster yet")),
    }
    if let Some(meant) = theirs.raft_to
        && identity.raft() != Some(meant)
    {
        let answers = identity.raft().map_or("no voter".to_owned(), |raft| format!("voter {raft}"));
        return refuse(
            Code::RaftId,
            format!("node {there} looked for voter {meant} of node {here}, which has {answers}: its disk is another one now"),
        );
    }
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn identity(node: u128) -> Identity {
        let identity = Identity::new(id(node), "dc1", Part::Server);
        identity.set_cluster(id(100));
        identity.set_raft(id(node + 1000));
        identity
    }

    #[test]
    fn two_of_one_cluster_talk() {
        let hello = Hello::new(&identity(1), Some(id(2)), Some(id(1002)));
        assert_eq!(Hello::decode(&hello.encode()).unwrap(), hello);
        assert_eq!(meet(&identity(2), &hello), Ok(1));
    }

    #[test]
    fn each_mismatch_is_told_with_both_sides() {
        let us = identity(2);
        let fits = Hello::new(&identity(1), Some(id(2)), Some(id(1002)));
        let cases: [(Code, Hello); 7] = [
            (Code::Version, Hello { version_min: 7, version_max: 9, ..fits.clone() }),
            (Code::Version, Hello { version_min: 0, version_max: 0, ..fits.clone() }),
            (Code::Node, Hello { to: Some(id(3)), ..fits.clone() }),
            (Code::Datacenter, Hello { datacenter: "dc2".to_owned(), ..fits.clone() }),
            (Code::Cluster, Hello { cluster: Some(id(101)), ..fits.clone() }),
            (Code::Cluster, Hello { cluster: None, ..fits.clone() }),
            (Code::RaftId, Hello { raft_to: Some(id(1)), ..fits.clone() }),
        ];
        for (code, hello) in cases {
            let refusal = meet(&us, &hello).unwrap_err();
            assert_eq!(refusal.code, code);
            assert!(refusal.text.contains(&id(1).to_string()), "{refusal}");
        }
        let text = meet(&us, &Hello { cluster: Some(id(101)), ..fits.clone() }).unwrap_err().text;
        assert!(text.contains(&id(100).to_string()) && text.contains(&id(101).to_string()), "{text}");
        let homeless = Identity::new(id(2), "dc1", Part::Client);
        assert_eq!(meet(&homeless, &fits).unwrap_err().code, Code::Cluster);
    }

    #[test]
    fn fields_of_a_newer_version_are_left_out() {
        #[derive(Serialize)]
        struct Newer {
            version_min: u16,
            version_max: u16,
            node: Uuid,
            features: Vec<u8>,
        }
        let newer = rmp_serde::to_vec_named(&Newer { version_min: 1, version_max: 4, node: id(1), features: vec![1] }).unwrap();
        assert_eq!(Hello::decode(&newer).unwrap().part, Part::Client);
        assert!(Hello::decode(&newer[..newer.len() - 3]).is_err());
    }
}
