//! Others that a test makes up.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use muster_catalog::Coordinate;
use smol_str::SmolStr;
use tokio::sync::watch;
use uuid::Uuid;

use super::{Cluster, ClusterError, KeyChange, Keyring, Member, Membership, Standing};
use crate::config::{AgentFlags, Config, GossipKey, Host, load};

/// The id of the agent under test.
pub(crate) const OWN: Uuid = Uuid::from_u128(1);

/// Who is there, and who answers at which address.
#[derive(Clone)]
pub(crate) struct Others(Arc<State>);

struct State {
    members: Mutex<Vec<Member>>,
    /// Those who answer, and become members when they are met.
    answering: Mutex<Vec<Member>>,
    asked: Mutex<Vec<Vec<SocketAddr>>>,
    version: watch::Sender<u64>,
}

/// The configuration that these flags make.
pub(crate) fn config(flags: &[&str]) -> Config {
    let host = Host::with("own", "lo", "127.0.0.1/8");
    let flags = AgentFlags::parse(flags.iter().map(std::ffi::OsString::from)).unwrap();
    load(&flags, &host).unwrap().config
}

/// Somebody at 127.0.0.`number`, whose id is that number.
pub(crate) fn member(number: u8, role: &'static str) -> Member {
    let tags = [("role", role), ("port", "8300"), ("dc", "dc1")].map(|(key, value)| (key.into(), value.into())).into();
    let address = SocketAddr::from(([127, 0, 0, number], 8301));
    let name = if number == 1 { "own".into() } else { format!("n{number}").into() };
    Member {
        name,
        id: Uuid::from_u128(number.into()),
        address,
        tags,
        tagged: Default::default(),
        meta: Default::default(),
        raft: None,
        standing: Standing::Alive,
        why: "".into(),
        may_return: false,
        accusers: Vec::new(),
        unwell: false,
        wrong: 0,
    }
}

impl Others {
    /// This agent, and those who would answer.
    pub(crate) fn new(answering: &[Member]) -> Self {
        Self(Arc::new(State {
            members: Mutex::new(vec![member(1, "consul")]),
            answering: Mutex::new(answering.to_vec()),
            asked: Mutex::default(),
            version: watch::Sender::new(0),
        }))
    }

    /// The cluster that they are.
    pub(crate) fn cluster(&self) -> Cluster {
        Cluster::new(OWN, config(&["-dev"]).addresses, self.clone())
    }

    /// Makes these the members.
    pub(crate) fn set(&self, members: &[Member]) {
        *self.0.members.lock().unwrap() = members.to_vec();
        self.0.version.send_modify(|version| *version += 1);
    }

    /// Makes these answer.
    pub(crate) fn answer(&self, members: &[Member]) {
        *self.0.answering.lock().unwrap() = members.to_vec();
    }

    /// All addresses that were tried, each attempt by itself.
    pub(crate) fn asked(&self) -> Vec<Vec<SocketAddr>> {
        self.0.asked.lock().unwrap().clone()
    }
}

impl Membership for Others {
    fn tell(&self, _own: &Member) {}

    fn members(&self) -> Vec<Member> {
        self.0.members.lock().unwrap().clone()
    }

    fn version(&self) -> watch::Receiver<u64> {
        self.0.version.subscribe()
    }

    fn join(&self, addresses: Vec<SocketAddr>) -> BoxFuture<'_, Vec<(SocketAddr, Result<(), String>)>> {
        self.0.asked.lock().unwrap().push(addresses.clone());
        let answering = self.0.answering.lock().unwrap().clone();
        let met: BTreeSet<SocketAddr> = answering.iter().map(|member| member.address).collect();
        if addresses.iter().any(|address| met.contains(address)) {
            self.0.members.lock().unwrap().extend(answering.into_iter().filter(|member| addresses.contains(&member.address)));
            self.0.version.send_modify(|version| *version += 1);
        }
        let result = move |address| (address, if met.contains(&address) { Ok(()) } else { Err("refused".to_owned()) });
        async move { addresses.into_iter().map(result).collect() }.boxed()
    }

    fn force_leave(&self, name: SmolStr, _prune: bool) -> BoxFuture<'_, Result<(), ClusterError>> {
        let known = self.members().iter().any(|member| member.name == name);
        async move { if known { Ok(()) } else { Err(ClusterError::NoSuchMember(name)) } }.boxed()
    }

    fn check(&self, _: Uuid) {}

    fn feed_silent(&self, _: Uuid) {}

    fn coordinate(&self) -> Coordinate {
        Coordinate::default()
    }

    fn fire(&self, _name: &str, _payload: Bytes) -> Result<bool, ClusterError> {
        Ok(false)
    }

    fn keys(&self, _local: bool) -> BoxFuture<'_, Result<Keyring, ClusterError>> {
        async { Err(ClusterError::NotEncrypted) }.boxed()
    }

    fn change_keys(&self, _change: KeyChange, _key: GossipKey) -> BoxFuture<'_, Result<(), ClusterError>> {
        async { Err(ClusterError::NotEncrypted) }.boxed()
    }
}
