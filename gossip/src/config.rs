//! What an agent is told about itself before it gossips.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU8, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::key::Keyring;
use crate::seal::{FRAME_BYTES_MAX, PACKET_BYTES_MAX};

/// What an agent is told about itself.
#[derive(Debug, Clone)]
pub struct Config {
    /// The node's UUID.
    pub node: Uuid,
    /// Its name, checked by the caller.
    pub name: String,
    /// Its datacenter: agents of another one are refused.
    pub datacenter: String,
    /// Its epoch: the count of starts times 2^16. The count must be on disk before the driver runs.
    pub epoch: u64,
    /// Where others reach its gossip port.
    pub advertise: SocketAddr,
    /// The cluster it belongs to, if it was ever in one.
    pub cluster: Option<Uuid>,
    /// Keys that packets and connections are sealed with, the primary first. Empty: nothing is sealed.
    pub keys: Keyring,
    /// Takes the place of a living holder of its UUID or name: an operator's word, for one start.
    pub replace: bool,
    /// Where its RPC port is, if it is a server.
    pub rpc: Option<u16>,
    /// The address it advertises inside the datacenter, where it is another than the one of `advertise`.
    pub lan: Option<IpAddr>,
    /// The address it advertises to other datacenters.
    pub wan: Option<IpAddr>,
    /// Tags of its record.
    pub tags: BTreeMap<String, String>,
    /// Metadata of its record. What is big belongs into the catalog.
    pub meta: BTreeMap<String, String>,
    /// Members of before, as [`crate::Handle::kept_peers`] gave them: dialed when nobody else is known.
    pub kept_peers: Vec<SocketAddr>,
    /// How long the failed are kept: Consul's `reconnect_timeout`.
    pub reconnect_timeout: Duration,
    /// How long those that left are kept.
    pub tombstone_timeout: Duration,
    /// How long nobody is buried while nobody else can be asked: it may be this agent that is cut off.
    pub mass_loss_hold: Duration,
    /// How fast gossip goes.
    pub timing: Timing,
    /// Where what must outlive this run is kept.
    pub keep: Keep,
}

/// So much more than the logarithm counts for how often an update is sent. Without it one death in a hundred among 8 misses somebody,
/// who finds out by itself, seconds later; it costs bytes only while there is news.
const TRANSMISSIONS_MORE: f64 = 1.0;

/// How fast gossip goes: Consul's `gossip_lan`, with its defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How often updates go out while there are any.
    pub gossip_interval: Duration,
    /// To how many members each time; as many are asked to ping for us.
    pub gossip_nodes: u8,
    /// How often a member is pinged.
    pub probe_interval: Duration,
    /// How long its answer may take before others are asked.
    pub probe_timeout: Duration,
    /// An update is sent this many times the logarithm of the cluster's size, and as often again.
    pub retransmit_mult: u8,
    /// A suspected member has this many probe intervals, times the logarithm of the size, to refute.
    pub suspicion_mult: u8,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            gossip_interval: Duration::from_millis(200),
            gossip_nodes: 3,
            probe_interval: Duration::from_secs(1),
            probe_timeout: Duration::from_millis(500),
            retransmit_mult: 4,
            suspicion_mult: 4,
        }
    }
}

impl Timing {
    /// [`Timing::probe_interval`], within bounds.
    pub(crate) fn period(&self) -> Duration {
        self.probe_interval.clamp(Duration::from_millis(20), Duration::from_secs(60))
    }

    /// [`Timing::probe_timeout`], within bounds.
    pub(crate) fn patience(&self) -> Duration {
        self.probe_timeout.clamp(Duration::from_millis(5), self.period() / 2)
    }

    /// foca's settings for a cluster of `members`. Announcing is off: members are found by exchange over TCP.
    pub(crate) fn foca(&self, members: usize, forget_after: Duration) -> foca::Config {
        let magnitude = (members.max(1) as f64 + 1.0).log10().ceil().max(1.0) + TRANSMISSIONS_MORE;
        let transmissions = (f64::from(self.retransmit_mult) * magnitude).clamp(1.0, 255.0) as u8;
        let patience = f64::from(self.suspicion_mult.max(1)) * (members.max(1) as f64).log10().max(1.0);
        let nodes = NonZeroUsize::new(self.gossip_nodes.into()).unwrap_or(NonZeroUsize::MIN);
        let period = self.period();
        foca::Config {
            probe_period: period,
            probe_rtt: self.patience(),
            num_indirect_probes: nodes,
            max_transmissions: NonZeroU8::new(transmissions).unwrap_or(NonZeroU8::MIN),
            suspect_to_down_after: period.mul_f64(patience),
            remove_down_after: Some(forget_after),
            max_packet_size: NonZeroUsize::new(PACKET_BYTES_MAX - FRAME_BYTES_MAX).unwrap_or(NonZeroUsize::MIN),
            notify_down_members: true,
            periodic_announce: None,
            periodic_announce_to_down_members: None,
            periodic_gossip: Some(foca::PeriodicParams {
                frequency: self.gossip_interval.clamp(Duration::from_millis(5), Duration::from_secs(10)),
                num_members: nodes,
            }),
        }
    }
}

/// Writes down a cluster id.
pub type KeepCluster = Arc<dyn Fn(Uuid) -> io::Result<()> + Send + Sync>;
/// Writes down a keyring.
pub type KeepKeys = Arc<dyn Fn(&Keyring) -> io::Result<()> + Send + Sync>;

/// Where what must outlive this run is kept, before it is used. Called off the driver's thread; must be durable when it returns.
#[derive(Clone)]
pub struct Keep {
    /// Keeps the id of the cluster this agent was admitted to.
    pub cluster: KeepCluster,
    /// Keeps the keyring.
    pub keys: KeepKeys,
}

impl Keep {
    /// Keeps nothing: for an agent without a disk.
    pub fn nothing() -> Self {
        Self { cluster: Arc::new(|_| Ok(())), keys: Arc::new(|_| Ok(())) }
    }
}

impl fmt::Debug for Keep {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("Keep")
    }
}

impl Config {
    /// A lone agent with Consul's defaults, which keeps nothing.
    pub fn new(node: Uuid, name: impl Into<String>, advertise: SocketAddr) -> Self {
        Self {
            node,
            name: name.into(),
            datacenter: "dc1".into(),
            epoch: 1 << 16,
            advertise,
            cluster: None,
            keys: Keyring::default(),
            replace: false,
            rpc: None,
            lan: None,
            wan: None,
            tags: BTreeMap::new(),
            meta: BTreeMap::new(),
            kept_peers: Vec::new(),
            reconnect_timeout: Duration::from_secs(72 * 3600),
            tombstone_timeout: Duration::from_secs(24 * 3600),
            mass_loss_hold: Duration::from_secs(60),
            timing: Timing::default(),
            keep: Keep::nothing(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_and_spread_grow_with_the_cluster() {
        let at = |n| Timing::default().foca(n, Duration::from_secs(1));
        assert_eq!(at(1).suspect_to_down_after, Duration::from_secs(4));
        assert_eq!(at(100).suspect_to_down_after, Duration::from_secs(8));
        assert_eq!((at(3).max_transmissions.get(), at(20).max_transmissions.get()), (8, 12));
        assert_eq!(at(usize::MAX).max_transmissions.get(), 84);
    }
}
