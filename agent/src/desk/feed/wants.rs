//! Which rows this agent's copy is to hold, where that is not all of them.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use muster_catalog::{Interest, NodeName, Part, ServiceName};
use smol_str::SmolStr;
use tokio::sync::watch;
use uuid::Uuid;

use super::metrics;

/// Services that a copy holds because they were asked for; then the one goes that was not asked for the longest. The whole interest
/// is sent with each connection, in at most 64 KB.
const SERVICES_MAX: usize = 256;
/// Questions for services that come together widen the copy once: each time all of it is sent anew.
pub(super) const GATHER: Duration = Duration::from_millis(100);

/// Which rows are wanted. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Wants(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Whether the copy grows by what is asked for.
    grows: bool,
    owner: Uuid,
    own: SmolStr,
    asked: Mutex<Asked>,
    /// Rises when something is wanted that was not.
    version: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Asked {
    /// Whose checks others of this agent's are judged by.
    nodes: BTreeSet<SmolStr>,
    /// The one that was asked for last at the end.
    services: VecDeque<ServiceName>,
}

impl Wants {
    /// This node's own rows; and, if it `grows`, those of the services asked for, beginning with what a kept copy holds.
    pub(crate) fn new(grows: bool, node: &NodeName, owner: Uuid, kept: Option<&Interest>) -> Self {
        let kept = kept.filter(|_| grows).map(|kept| kept.services.iter().take(SERVICES_MAX).cloned().collect());
        let asked = Asked { services: kept.unwrap_or_default(), ..Asked::default() };
        metrics::INTEREST.services.set(asked.services.len() as f64);
        let own = SmolStr::new(node.folded().as_str());
        Self(Arc::new(Inner { grows, owner, own, asked: Mutex::new(asked), version: watch::Sender::new(0) }))
    }

    /// All that is wanted now.
    pub(crate) fn interest(&self) -> Interest {
        let asked = self.asked();
        let mut nodes = asked.nodes.clone();
        nodes.insert(self.0.own.clone());
        let services = asked.services.iter().cloned().collect();
        Interest { nodes, services, owner: Some(self.0.owner), ..Interest::default() }
    }

    /// Something was asked for that may be wanted again.
    pub(crate) fn note(&self, part: &Part) {
        let Part::Service(name) = part else { return };
        if !self.0.grows {
            return;
        }
        let mut asked = self.asked();
        if asked.services.back() == Some(name) {
            return;
        }
        let known = asked.services.iter().position(|known| known == name);
        match known {
            Some(at) => drop(asked.services.remove(at)),
            None => self.0.version.send_modify(|version| *version += 1),
        }
        asked.services.push_back(name.clone());
        if asked.services.len() > SERVICES_MAX {
            asked.services.pop_front();
            metrics::INTEREST.dropped.increment(1);
        }
        metrics::INTEREST.services.set(asked.services.len() as f64);
    }

    /// From now on these nodes are wanted besides this one.
    pub(crate) fn hold(&self, nodes: BTreeSet<SmolStr>) {
        let mut asked = self.asked();
        if asked.nodes != nodes {
            asked.nodes = nodes;
            self.0.version.send_modify(|version| *version += 1);
        }
    }

    /// What [`Wants::interest`] says from now on is of this version or a later one.
    pub(super) fn version(&self) -> u64 {
        *self.0.version.borrow()
    }

    /// Returns when something is wanted that was not in this version.
    pub(super) async fn changed(&self, from: u64) {
        let mut version = self.0.version.subscribe();
        // It lives as long as this.
        let _ = version.wait_for(|version| *version != from).await;
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.0.asked.lock().expect("no holder panics: names are moved")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: impl AsRef<str>) -> Part {
        Part::Service(ServiceName::new(name).expect("a name"))
    }

    fn wants(grows: bool, kept: Option<&Interest>) -> Wants {
        Wants::new(grows, &NodeName::new("Here").expect("a name"), Uuid::nil(), kept)
    }

    #[tokio::test]
    async fn what_is_asked_for_is_wanted_until_others_were_asked_for_since() {
        let wants = wants(true, None);
        assert!(wants.interest().covers(&Part::Node("here".into())));
        for number in 0..SERVICES_MAX {
            wants.note(&service(format!("s{number}")));
        }
        wants.changed(0).await;
        let version = wants.version();
        wants.note(&service("s0")); // asked for again: the next one is older
        assert_eq!(wants.version(), version);
        wants.note(&service("new"));
        let interest = wants.interest();
        assert_eq!(interest.services.len(), SERVICES_MAX);
        let has = |name: &str| interest.covers(&service(name));
        assert!(has("s0") && has("new") && has("s2") && !has("s1"));
        assert_eq!(self::wants(true, Some(&interest)).interest(), interest, "a kept copy is gone on with");
    }

    #[test]
    fn without_growth_only_named_nodes_are_wanted() {
        let wants = wants(false, None);
        wants.note(&service("web"));
        wants.note(&Part::Catalog);
        wants.hold(BTreeSet::from(["db-1".into()]));
        let interest = wants.interest();
        assert!(interest.services.is_empty() && interest.nodes.len() == 2 && interest.covers(&Part::Node("DB-1".into())));
    }
}
