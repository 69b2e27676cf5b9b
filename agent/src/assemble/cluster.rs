//! What connects this agent with others: gossip, the pool of connections, and what of both is kept on disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use muster_gossip::{Driver, Event, Handle, Keep, Key, Keyring, Sockets, Timing};
use tokio::sync::broadcast;
use uuid::Uuid;

use super::home;
use crate::config::Config;
use crate::desk::feed::Lost;
use crate::desk::{Cluster, Desk, Member, Peers, carried};
use crate::rpc::{AddressBook, Identity, Part, Pool};

/// File with the id of the cluster that this agent belongs to.
const CLUSTER_ID: &str = "cluster-id";
/// File with the keys of gossip, the one to send with first: base64, a line each.
const KEYRING: &str = "keyring";
/// Largest file of the two that is read.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Whether this agent can be with others at all: its ports for that are open.
pub(super) fn is_open(config: &Config) -> bool {
    config.addresses.serf_lan.is_some() && (!config.server || config.addresses.server.is_some())
}

/// The pool of connections to other agents, and what this one says of itself. It connects to nobody before this agent is admitted:
/// it may be a copy of one that lives.
pub(super) fn pool(config: &Config, id: Uuid, peers: &Peers) -> Pool {
    let part = if config.server { Part::Server } else { Part::Client };
    let identity = Identity::new(id, config.datacenter.clone(), part);
    let book = AddressBook::new();
    for (node, address) in peers.kept().iter().filter_map(|peer| Some((peer.id, peer.server?))) {
        book.set(node, address);
    }
    Pool::new(identity, book)
}

/// The cluster that this agent belonged to when it last ran, unless it is to forget it.
fn kept_cluster(config: &Config) -> Result<Option<Uuid>> {
    let Some(dir) = config.data_dir.as_deref() else { return Ok(None) };
    let path = dir.join(CLUSTER_ID);
    if config.cluster.forget_cluster {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
            }
            _ => return Ok(None),
        }
    }
    let Some(text) = read(&path)? else { return Ok(None) };
    let id = Uuid::parse_str(text.trim()).with_context(|| {
        format!("{} holds no UUID: restore it, or start once with -forget-cluster to join another cluster", path.display())
    })?;
    Ok(Some(id))
}

/// Gossip, before it runs. The pool learns of the cluster when this agent is admitted to one.
pub(super) async fn gossip(config: &Config, member: &Member, epoch: u64, pool: &Pool, peers: &Peers) -> Result<Gossip> {
    let bind = config.addresses.serf_lan.context("gossip is off")?;
    let sockets = Sockets::bind(bind).await.with_context(|| format!("gossip cannot listen on {bind}"))?;
    let settings = &config.cluster.gossip;
    let raft = pool.identity().raft().map(|raft| (crate::desk::RAFT_TAG, raft.to_string()));
    let (tags, meta) = carried(member, &raft.into_iter().collect::<Vec<_>>());
    let advertise = (config.addresses.advertise, sockets.addr().port()).into();
    let gossip = muster_gossip::Config {
        datacenter: config.datacenter.clone(),
        epoch,
        cluster: kept_cluster(config)?,
        keys: keys(config)?,
        replace: config.cluster.replace,
        rpc: config.addresses.server.filter(|_| config.server).map(|address| address.port()),
        tags,
        meta,
        kept_peers: peers.kept().iter().map(|peer| peer.gossip).collect(),
        reconnect_timeout: settings.reconnect_timeout,
        timing: timing(config),
        mass_loss_hold: config.cluster.absence.mass_loss_hold,
        keep: keep(config),
        ..muster_gossip::Config::new(member.id, member.name.as_str(), advertise)
    };
    let (handle, driver) = muster_gossip::new(gossip, member.id.as_u64_pair().1 ^ epoch)?;
    Ok(Gossip { handle, driver, sockets })
}

/// How fast gossip goes.
pub(super) fn timing(config: &Config) -> Timing {
    let settings = &config.cluster.gossip;
    Timing {
        gossip_interval: settings.gossip_interval,
        gossip_nodes: settings.gossip_nodes.clamp(1, 255) as u8,
        probe_interval: settings.probe_interval,
        probe_timeout: settings.probe_timeout,
        retransmit_mult: settings.retransmit_mult.clamp(1, 255) as u8,
        suspicion_mult: settings.suspicion_mult.clamp(1, 255) as u8,
    }
}

/// Gossip, before it runs.
pub(super) struct Gossip {
    pub(super) handle: Handle,
    pub(super) driver: Driver,
    pub(super) sockets: Sockets,
}

/// What becomes of a server whose feed was lost here.
pub(super) fn lost(cluster: Cluster) -> impl Fn(Uuid, Lost) {
    move |server, lost| match lost {
        Lost::Broken => cluster.check(server),
        Lost::Silent => cluster.feed_silent(server),
    }
}

/// What must outlive this run is on disk before it is used.
fn keep(config: &Config) -> Keep {
    let dir: Option<PathBuf> = config.data_dir.clone();
    let cluster_dir = dir.clone();
    let keys_dir = dir.filter(|_| config.cluster.gossip.keep_keyring);
    Keep {
        cluster: Arc::new(move |cluster| {
            let Some(dir) = &cluster_dir else { return Ok(()) };
            home::write_durably(dir, CLUSTER_ID, cluster.to_string().as_bytes()).map_err(io::Error::other)
        }),
        keys: Arc::new(move |ring| {
            let Some(dir) = &keys_dir else { return Ok(()) };
            let lines: Vec<String> = ring.keys().iter().map(Key::to_base64).collect();
            home::write_durably(dir, KEYRING, lines.join("\n").as_bytes()).map_err(io::Error::other)
        }),
    }
}

/// The kept keyring; where there is none, the key of the configuration.
fn keys(config: &Config) -> Result<Keyring> {
    let settings = &config.cluster.gossip;
    let kept = match config.data_dir.as_deref().filter(|_| settings.keep_keyring) {
        Some(dir) => read(&dir.join(KEYRING))?,
        None => None,
    };
    let texts: Vec<String> = match (&kept, &settings.key) {
        // An operator who takes `encrypt` away wants no encryption any more, or made a mistake: the kept ring holds.
        (Some(kept), _) => kept.lines().map(str::to_owned).collect(),
        (None, Some(key)) => vec![key.base64()],
        (None, None) => Vec::new(),
    };
    let keys = texts.iter().map(|text| Key::parse(text)).collect::<Result<Vec<_>, _>>().context("a key of gossip")?;
    Ok(Keyring::new(keys)?)
}

fn read(path: &Path) -> Result<Option<String>> {
    let read = || -> io::Result<String> {
        let mut text = String::new();
        io::Read::read_to_string(&mut io::Read::take(fs::File::open(path)?, FILE_BYTES_MAX), &mut text)?;
        Ok(text)
    };
    match read() {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Says what gossip tells, keeps the address book, connects to nobody but as a member, and brings a later epoch to the desk. Runs until the agent stops.
pub(super) async fn watch(handle: Handle, desk: Desk, pool: Pool) {
    let mut events = handle.subscribe();
    let mut changes = handle.changes();
    let mut stop = std::pin::pin!(desk.stopping());
    loop {
        note_standing(&handle, &pool);
        note_servers(&handle, &pool);
        tokio::select! {
            () = &mut stop => return,
            event = events.recv() => match event {
                Ok(event) => {
                    if let Event::Reaped(member) = &event {
                        pool.book().forget(member.node());
                    }
                    tell(&event, &desk, &handle);
                }
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "membership changes faster than it is told here");
                }
                Err(broadcast::error::RecvError::Closed) => return,
            },
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

/// A member talks to its cluster; one that went quiet does not.
fn note_standing(handle: &Handle, pool: &Pool) {
    let identity = pool.identity();
    if handle.quiet().is_some() {
        identity.leave_cluster();
    } else if handle.is_inside()
        && let Some(cluster) = handle.cluster()
        && identity.cluster() != Some(cluster)
    {
        identity.set_cluster(cluster);
    }
}

/// Servers are found where gossip has them; what is known from before stays until gossip says otherwise.
fn note_servers(handle: &Handle, pool: &Pool) {
    let book = pool.book();
    let mut servers = std::collections::BTreeMap::clone(&book.all());
    for member in handle.members().iter() {
        match Member::from(member).server_address() {
            Some(address) if member.state != muster_gossip::State::Left => servers.insert(member.node(), address),
            _ => servers.remove(&member.node()),
        };
    }
    if servers != *book.all() {
        book.replace(servers);
    }
    let left = |member: &&muster_gossip::Member| member.state == muster_gossip::State::Left;
    handle.members().iter().filter(left).map(|member| member.node()).filter(|node| book.get(*node).is_some()).for_each(|node| {
        book.forget(node); // It may be kept from an earlier run, too.
    });
}

fn tell(event: &Event, desk: &Desk, handle: &Handle) {
    let why = |member: &muster_gossip::Member| Member::seen(member, &handle.members()).why;
    match event {
        Event::Up(member) => {
            let address = member.identity.addr;
            tracing::info!(node = member.name(), %address, "member is there");
            if address == handle.identity().addr {
                tracing::error!(
                    node = member.name(), %address,
                    "another member advertises this agent's own address, and others reach only one of the two: give one of them another \
                     (advertise_addr, bind_addr)"
                );
            }
        }
        Event::Down(member) => tracing::warn!(node = member.name(), why = %why(member), "member failed"),
        Event::Left(member) => tracing::info!(node = member.name(), why = %why(member), "member left"),
        Event::Updated(member) => tracing::debug!(node = member.name(), "member changed"),
        Event::Reaped(member) => tracing::info!(node = member.name(), why = %why(member), "a dead member is forgotten"),
        Event::Clash { name, nodes } => tracing::error!(node = name, ids = ?nodes, "two living members have one name"),
        Event::Refused { peer, refusal } => tracing::warn!(%peer, "an agent was not let in: {refusal}"),
        Event::Unreachable { by, advertised } => tracing::error!(
            %by, %advertised,
            "the member that let this agent in cannot reach the address it advertises: set advertise_addr, and open the port"
        ),
        Event::Checked(proof) => tracing::debug!(
            id = %proof.identity.node, outcome = ?proof.outcome, refused = proof.refused.len(), answered = ?proof.answered,
            "a member was looked for"
        ),
        Event::Disagreement { with, only_here, only_there } => tracing::error!(
            %with, ?only_here, ?only_there,
            "this agent and another do not come to agree on who lives"
        ),
        Event::Fired(fired) => desk.heard(&fired.name, &fired.payload, fired.time),
        Event::Quiet(why) => tracing::error!("{why}"),
        Event::Alone => tracing::warn!("every other member is lost: they are looked for"),
        Event::Epoch(epoch) => desk.raise_epoch(*epoch),
        Event::Cluster(cluster) => tracing::info!(%cluster, "this agent belongs to a cluster"),
    }
}
