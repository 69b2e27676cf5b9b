//! What must hold, looked at after every step: on what a core tells, at once; on tables and memory, every 100 ms.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use uuid::Uuid;

use super::node::host_of;
use super::report::{Buried, Detection, How};
use super::{LOOK_EVERY, What, World};
use crate::book::MEMBERS_MAX;
use crate::core::Standing;
use crate::member::{Cause, Event, Kind, Member, State};
use crate::metrics::Dropped;

/// Things that one core may hold beside its table, for each member and besides: each member has a timer or two, an update, a
/// record and a verdict that are told.
const HELD_PER_MEMBER: usize = 8;
const HELD_BESIDES: usize = 256;
/// How long after a host can be reached again its being taken for dead is still nobody's mistake: the news of before travels.
pub(super) const EXCUSED_AFTER: u64 = 15_000_000_000;
/// Events that a failure is told with.
const EVENTS_KEPT: usize = 40;

/// What the world is watched by.
#[derive(Default)]
pub(super) struct Watch {
    deaths: Vec<Death>,
    births: Vec<Birth>,
    pub(super) trace: Trace,
    events: VecDeque<String>,
    /// The pair that did not agree when it was last asked whether all agree: asked first the next time.
    last_pair: (usize, usize),
}

/// A process that ended, and who knows.
struct Death {
    node: Uuid,
    host: usize,
    epoch: u64,
    at: u64,
    how: How,
    /// Who runs and does not know yet.
    unknowing: BTreeSet<usize>,
    first: Option<u64>,
    all: Option<u64>,
    /// Another process came in its place.
    over: bool,
}

/// An agent that asks to be let in.
struct Birth {
    node: Uuid,
    at: u64,
    /// Who took part when it asked, and has not heard of it yet.
    unknowing: BTreeSet<usize>,
    all: Option<u64>,
}

/// All packets in eight bytes: of two equal runs they are equal.
#[derive(Default)]
pub(super) struct Trace(u64);

impl Trace {
    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    pub(super) fn packet(&mut self, now: u64, from: usize, to: SocketAddr, bytes: &[u8]) {
        self.mix(now);
        self.mix(from as u64);
        if let SocketAddr::V4(v4) = to {
            self.mix(u64::from(u32::from(*v4.ip())));
        }
        self.bytes(bytes);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in words.by_ref() {
            self.mix(u64::from_be_bytes(word.try_into().expect("it has eight bytes")));
        }
        for byte in words.remainder() {
            self.mix(u64::from(*byte));
        }
    }

    pub(super) fn value(&self) -> u64 {
        self.0
    }
}

/// Whether a death comes with the word of somebody who stands for it.
fn has_accuser(cause: &Cause) -> bool {
    cause.by.is_some() && matches!(cause.kind, Kind::Silent | Kind::Refused | Kind::Told)
}

impl World {
    pub(super) fn note(&mut self, text: String) {
        if self.watch.events.len() >= EVENTS_KEPT {
            self.watch.events.pop_front();
        }
        let text = format!("{:>9.3} s  {text}", self.now as f64 / 1e9);
        self.watch.events.push_back(text);
    }

    fn fail(&mut self, text: String) {
        self.note(text.clone());
        if self.report.failures.is_empty() {
            self.report.last = self.watch.events.iter().cloned().collect();
        }
        self.report.failures.push(format!("{:.3} s: {text}", self.now as f64 / 1e9));
    }

    /// A process ended: who finds out, and when?
    pub(super) fn died(&mut self, host: usize, how: How, epoch: u64) {
        let node = self.nodes[host].disk.node;
        for death in &mut self.watch.deaths {
            death.unknowing.remove(&host);
            if death.unknowing.is_empty() && death.all.is_none() && !death.over {
                death.all = Some(self.now);
            }
        }
        let unknowing = (0..self.nodes.len()).filter(|other| {
            let deaf = self.nodes[*other].input.all >= 1.0;
            let core = self.nodes[*other].core.as_ref().filter(|_| !deaf);
            core.and_then(|core| core.view(node)).is_some_and(|(_, state)| state == State::Alive)
        });
        let unknowing = unknowing.collect();
        let (at, first, all) = (self.now, None, None);
        self.watch.deaths.push(Death { node, host, epoch, at, how, unknowing, first, all, over: false });
    }

    /// A new agent asks to be let in: who hears of it, and when?
    pub(super) fn asks(&mut self, host: usize, at: u64) {
        let takes_part = |node: &super::node::Node| node.core.as_ref().is_some_and(|core| *core.standing() == Standing::Inside);
        let unknowing = (0..self.nodes.len()).filter(|other| takes_part(&self.nodes[*other])).collect();
        let node = self.nodes[host].disk.node;
        self.watch.births.push(Birth { node, at, unknowing, all: None });
    }

    /// A process came in the place of one that ended.
    pub(super) fn returned(&mut self, host: usize) {
        for death in self.watch.deaths.iter_mut().filter(|death| death.host == host && death.all.is_none()) {
            death.over = true;
        }
    }

    /// What a core tells.
    pub(super) fn observed(&mut self, viewer: usize, event: Event) {
        match event {
            Event::Up(member) | Event::Updated(member) => self.saw(viewer, &member),
            Event::Down(member) => {
                if self.report.wrong.is_none() {
                    self.report.wrong = Some(self.wrong());
                }
                self.saw(viewer, &member);
                self.note(format!(
                    "node-{viewer} takes {} (epoch {:x}) for dead: {}, {}",
                    member.name(),
                    member.identity.epoch,
                    member.cause.kind.as_str(),
                    member.cause.by.and_then(host_of).map_or("nobody's word".to_owned(), |by| format!("by node-{by}")),
                ));
                if self.scenario.expect.accuser && !has_accuser(&member.cause) {
                    self.fail(format!("node-{viewer} takes {} for dead on nobody's word", member.name()));
                }
                self.buried(viewer, &member);
                self.knows(viewer, &member);
            }
            Event::Left(member) | Event::Reaped(member) => self.knows(viewer, &member),
            Event::Epoch(epoch) => {
                self.note(format!("node-{viewer} begins epoch {epoch:x}"));
                let (own, first) = (self.nodes[viewer].disk.node, self.nodes[viewer].first_epoch);
                let before = self.nodes[viewer].seen.insert(own, epoch).unwrap_or(first);
                if epoch <= before {
                    self.fail(format!("the epoch of node-{viewer} fell to {epoch:x}"));
                }
                self.report.renewals += 1;
            }
            Event::Quiet(why) => {
                self.note(format!("node-{viewer} goes quiet: {why}"));
                self.report.quiet += 1;
            }
            Event::Alone => self.note(format!("node-{viewer} is alone")),
            Event::Cluster(_) => {
                let core = self.nodes[viewer].core.as_ref();
                self.nodes[viewer].disk.cluster = core.and_then(|core| core.cluster());
            }
            Event::Clash { name, .. } => self.note(format!("node-{viewer} sees two of the name {name}")),
            Event::Refused { refusal, .. } => self.note(format!("node-{viewer} refuses: {refusal}")),
            Event::Checked(proof) => {
                let of = host_of(proof.identity.node).unwrap_or(usize::MAX);
                self.note(format!("node-{viewer} looked for node-{of}: {:?}, refused {}", proof.outcome, proof.refused.len()));
            }
            Event::Disagreement { with, .. } => {
                let with = host_of(with).unwrap_or(usize::MAX);
                self.note(format!("node-{viewer} and node-{with} do not agree"));
            }
            Event::Fired(_) | Event::Unreachable { .. } => {}
        }
    }

    fn saw(&mut self, viewer: usize, member: &Member) {
        let Member { identity, .. } = member;
        let now = self.now;
        for birth in self.watch.births.iter_mut().filter(|birth| birth.node == identity.node && birth.all.is_none()) {
            birth.unknowing.remove(&viewer);
            if birth.unknowing.is_empty() {
                birth.all = Some(now);
            }
        }
        let known = self.nodes[viewer].seen.insert(identity.node, identity.epoch);
        if known.is_some_and(|known| known > identity.epoch) {
            self.fail(format!("the epoch of {} fell to {:x} at node-{viewer}", member.name(), identity.epoch));
        }
    }

    /// A member was taken for dead: is it?
    fn buried(&mut self, viewer: usize, member: &Member) {
        let Some(host) = host_of(member.node()).filter(|host| *host < self.nodes.len()) else { return };
        let node = &self.nodes[host];
        let lives = node.core.as_ref().is_some_and(|core| *core.standing() == Standing::Inside)
            && node.disk.node == member.node()
            && member.identity.epoch >= node.first_epoch;
        if !lives {
            return;
        }
        let by = member.cause.by.and_then(host_of);
        let excused = self.is_excused(host) || self.is_apart(viewer, host);
        let epoch = member.identity.epoch;
        let buried = Buried { node: host, epoch, at: self.now, by, excused };
        let known = self.report.buried.iter_mut().find(|known| (known.node, known.epoch) == (host, epoch));
        let news = match known {
            // One that nobody could reach was taken for dead by others too, who can.
            Some(known) if known.excused && !excused => {
                *known = buried;
                true
            }
            Some(_) => false,
            None => {
                self.report.buried.push(buried);
                !excused
            }
        };
        if news && self.scenario.expect.no_false_death {
            self.fail(format!("node-{host} lives and can be reached, and node-{viewer} takes it for dead"));
        }
    }

    /// Whether it is nobody's mistake that this one is taken for dead.
    fn is_excused(&self, host: usize) -> bool {
        let node = &self.nodes[host];
        let borne = super::nanos(self.scenario.expect.pause);
        let paused = node.paused.is_some_and(|pause| {
            self.now.min(pause.until).saturating_sub(pause.since) > borne && self.now < pause.until + EXCUSED_AFTER
        });
        paused || self.now < node.excused || node.input.all >= 1.0 || node.output.all >= 1.0
    }

    /// Whether the one cannot find out whether the other lives. What it then thinks is its own; that others believe it is not.
    fn is_apart(&self, viewer: usize, host: usize) -> bool {
        let (viewer, host) = (&self.nodes[viewer], &self.nodes[host]);
        let alone = viewer.input.all >= 1.0 || viewer.output.all >= 1.0 || self.now < viewer.excused;
        alone || viewer.group != host.group
    }

    /// A member is dead, as one agent knows now.
    fn knows(&mut self, viewer: usize, member: &Member) {
        let now = self.now;
        let news = |death: &&mut Death| {
            death.node == member.node() && death.epoch <= member.identity.epoch && !death.over && death.all.is_none()
        };
        for death in self.watch.deaths.iter_mut().filter(news) {
            death.first.get_or_insert(now);
            death.unknowing.remove(&viewer);
            if death.unknowing.is_empty() {
                death.all = Some(now);
            }
        }
    }

    /// Looks at every core.
    pub(super) fn look(&mut self) {
        let known = self.nodes.iter().map(|node| node.disk.wipes as usize + 1).sum::<usize>();
        let mut living = 0;
        for host in 0..self.nodes.len() {
            let node = &self.nodes[host];
            let Some(core) = &node.core else { continue };
            living += 1;
            let members = core.table_size();
            let held = core.held();
            let mut broken = None;
            if members > known.min(MEMBERS_MAX) {
                broken = Some(format!("the table of node-{host} has {members} members; {known} there ever were"));
            }
            if held > HELD_BESIDES + HELD_PER_MEMBER * known {
                broken = Some(format!("node-{host} holds {held} things; a cluster of {known} does not need so many"));
            }
            if core.identity().epoch < node.first_epoch {
                broken = Some(format!("the epoch of node-{host} fell"));
            }
            if let Some(broken) = broken {
                self.fail(broken);
            }
        }
        self.report.node_seconds += living as f64 * LOOK_EVERY as f64 / 1e9;
        let next = self.now + LOOK_EVERY;
        self.plan(next, What::Look);
    }

    /// Whether all who live agree on who lives and who does not; else one who does not.
    pub(super) fn agreement(&mut self) -> Result<(), String> {
        let count = self.nodes.len();
        let (first, second) = self.watch.last_pair;
        self.pair_agrees(first.min(count - 1), second.min(count - 1))?;
        for viewer in 0..count {
            for host in 0..count {
                if let Err(text) = self.pair_agrees(viewer, host) {
                    self.watch.last_pair = (viewer, host);
                    return Err(text);
                }
            }
        }
        Ok(())
    }

    fn pair_agrees(&self, viewer: usize, host: usize) -> Result<(), String> {
        let Some(core) = &self.nodes[viewer].core else { return Ok(()) };
        match core.standing() {
            Standing::Inside => {}
            Standing::Left => return Ok(()),
            other => return Err(format!("node-{viewer} is not inside: {other:?}")),
        }
        if viewer == host {
            return Ok(());
        }
        let node = &self.nodes[host];
        let view = core.view(node.disk.node);
        let is = node.core.as_ref().filter(|core| *core.standing() != Standing::Left).map(|core| core.identity());
        let agrees = match (is, view) {
            (Some(is), Some((seen, State::Alive))) => is == seen,
            (Some(_), _) | (None, Some((_, State::Alive))) => false,
            (None, _) => true,
        };
        if agrees {
            return Ok(());
        }
        Err(format!("node-{host} {}, and node-{viewer} sees {view:?}", if is.is_some() { "lives" } else { "is dead" }))
    }

    /// What came of each death.
    pub(super) fn detections(&self) -> Vec<Detection> {
        let told = self.watch.deaths.iter().filter(|death| !death.over);
        let since = |death: &Death, at: Option<u64>| at.map(|at| std::time::Duration::from_nanos(at - death.at));
        told.map(|death| Detection {
            node: death.host,
            how: death.how,
            at: std::time::Duration::from_nanos(death.at),
            first: since(death, death.first),
            all: since(death, death.all),
        })
        .collect()
    }

    /// How long each that joined asked until all knew it.
    pub(super) fn joins(&self) -> Vec<Option<std::time::Duration>> {
        let took = |birth: &Birth| birth.all.map(|all| std::time::Duration::from_nanos(all - birth.at));
        self.watch.births.iter().map(took).collect()
    }

    /// Whatever an agent sends, another can read; but for what strangers send.
    pub(super) fn look_at_drops(&mut self) {
        let strangers = self.recorded.is_some();
        let unreadable = [Dropped::Truncated, Dropped::Oversize, Dropped::Version, Dropped::Malformed];
        let drops = self.drops();
        if let Some(cause) = unreadable.into_iter().find(|cause| !strangers && drops.contains_key(cause)) {
            self.fail(format!("{} packets of agents could not be read by others: {}", drops[&cause], cause.as_str()));
        }
    }

    /// Who accused wrongly, and how often, by the record of all.
    pub(super) fn wrong(&self) -> Vec<(usize, u64)> {
        let mut counts: BTreeMap<usize, u64> = BTreeMap::new();
        for member in self.nodes.iter().filter_map(|node| node.core.as_ref()).flat_map(|core| core.members()) {
            if let Some(host) = host_of(member.node()).filter(|_| member.wrong > 0) {
                *counts.entry(host).or_default() += u64::from(member.wrong);
            }
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(host, count)| (std::cmp::Reverse(*count), *host));
        counts
    }

    /// What the living did not take.
    pub(super) fn drops(&self) -> BTreeMap<Dropped, u64> {
        let mut drops = BTreeMap::new();
        for (cause, count) in self.nodes.iter().filter_map(|node| node.core.as_ref()).flat_map(|core| core.drops()) {
            *drops.entry(cause).or_default() += count;
        }
        drops
    }

    pub(super) fn disagreement(&mut self, text: String) {
        self.fail(text);
    }
}
