//! User events: fired by anybody, carried by gossip, and the last of them kept by each agent that they are meant for.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use tokio::sync::watch;
use uuid::Uuid;

use super::{Desk, DeskError};

/// Events that an agent keeps (Consul's).
const KEPT_MAX: usize = 256;
/// Longest event as Consul counts it (serf's limit): with its name twice, its filters, and what it takes to write them down.
const BYTES_MAX: usize = 512;
/// What Consul needs besides: a prefix of the name, the id as text, and the names of the fields.
const OVERHEAD_BYTES: usize = 67;
/// The same for each filter.
const FILTER_BYTES: usize = 5;
/// Bytes of a filter's compiled expression: one that came from afar must not fill memory.
const FILTER_COMPILED_MAX: usize = 64 << 10;

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UserEvent {
    pub(crate) id: Uuid,
    pub(crate) name: SmolStr,
    pub(crate) payload: Bytes,
    /// Which agents it is meant for, by expressions; empty is all.
    pub(crate) node_filter: SmolStr,
    pub(crate) service_filter: SmolStr,
    pub(crate) tag_filter: SmolStr,
    /// Lamport's; 0 for one that is not fired yet.
    pub(crate) time: u64,
}

/// An event was not fired. The caller mends it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EventFault {
    /// An expression is none.
    #[error("Invalid {what} filter: error parsing regexp: {why}")]
    Filter { what: &'static str, why: String },
    /// Tags are those of services.
    #[error("Cannot provide tag filter without service filter")]
    TagAlone,
    /// It would not fit what gossip carries.
    #[error("user event exceeds configured limit of {BYTES_MAX} bytes before encoding")]
    TooLong,
}

/// What of an event is carried besides its name. It travels: fields are only added.
#[derive(Serialize, Deserialize)]
struct Carried {
    #[serde(rename = "i")]
    id: Uuid,
    #[serde(rename = "p", default, skip_serializing_if = "Bytes::is_empty")]
    payload: Bytes,
    #[serde(rename = "n", default, skip_serializing_if = "SmolStr::is_empty")]
    node: SmolStr,
    #[serde(rename = "s", default, skip_serializing_if = "SmolStr::is_empty")]
    service: SmolStr,
    #[serde(rename = "t", default, skip_serializing_if = "SmolStr::is_empty")]
    tag: SmolStr,
}

/// The last events that were meant for this agent.
#[derive(Debug)]
pub(crate) struct Events {
    kept: Mutex<VecDeque<Arc<UserEvent>>>,
    news: watch::Sender<u64>,
}

impl Events {
    pub(super) fn new() -> Self {
        Self { kept: Mutex::default(), news: watch::Sender::new(0) }
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Arc<UserEvent>>> {
        self.kept.lock().expect("no holder panics: pointers are moved")
    }

    /// Those of this name, oldest first; of no name, all.
    pub(crate) fn list(&self, name: &str) -> Vec<Arc<UserEvent>> {
        self.kept().iter().filter(|event| name.is_empty() || event.name == name).cloned().collect()
    }

    /// Rises with each event.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    fn keep(&self, event: UserEvent) {
        let mut kept = self.kept();
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(Arc::new(event));
        drop(kept);
        self.news.send_modify(|news| *news = news.wrapping_add(1));
    }
}

impl UserEvent {
    /// Consul's index of a list that ends with this event: no position, only another number for another event.
    pub(crate) fn index(&self) -> u64 {
        let (high, low) = self.id.as_u64_pair();
        (high ^ low).max(1)
    }

    fn check(&self) -> Result<(), EventFault> {
        let filters = [("node", &self.node_filter), ("service", &self.service_filter), ("tag", &self.tag_filter)];
        for (what, filter) in filters {
            expression(filter).map_err(|error| EventFault::Filter { what, why: error.to_string() })?;
        }
        if !self.tag_filter.is_empty() && self.service_filter.is_empty() {
            return Err(EventFault::TagAlone);
        }
        let filters: usize = filters.iter().filter(|(_, text)| !text.is_empty()).map(|(_, text)| text.len() + FILTER_BYTES).sum();
        if OVERHEAD_BYTES + 2 * self.name.len() + self.payload.len() + filters > BYTES_MAX {
            return Err(EventFault::TooLong);
        }
        Ok(())
    }

    fn carried(&self) -> Bytes {
        let carried = Carried {
            id: self.id,
            payload: self.payload.clone(),
            node: self.node_filter.clone(),
            service: self.service_filter.clone(),
            tag: self.tag_filter.clone(),
        };
        rmp_serde::to_vec_named(&carried).expect("plain data can be written to memory").into()
    }

    fn read(name: &str, carried: &[u8], time: u64) -> Option<Self> {
        let Carried { id, payload, node, service, tag } = muster_catalog::unpack(carried).ok()?;
        let name = SmolStr::new(name);
        Some(Self { id, name, payload, node_filter: node, service_filter: service, tag_filter: tag, time })
    }
}

fn expression(filter: &str) -> Result<Option<Regex>, regex::Error> {
    if filter.is_empty() {
        return Ok(None);
    }
    RegexBuilder::new(filter).size_limit(FILTER_COMPILED_MAX).dfa_size_limit(FILTER_COMPILED_MAX).build().map(Some)
}

impl Desk {
    /// The last events that were meant for this agent.
    pub(crate) fn events(&self) -> &Events {
        &self.0.events
    }

    pub(super) fn fire(&self, mut event: UserEvent) -> Result<(), DeskError> {
        event.check()?;
        if !self.cluster().fire(&event.name, event.carried())? {
            event.time = self.events().news().borrow().saturating_add(1); // Nobody carries it, so it is not heard of again.
            self.hear(event);
        }
        Ok(())
    }

    /// An event came by gossip.
    pub(crate) fn heard(&self, name: &str, carried: &[u8], time: u64) {
        match UserEvent::read(name, carried, time) {
            Some(event) => self.hear(event),
            None => tracing::debug!(name, "an event of another version is not understood"),
        }
    }

    fn hear(&self, event: UserEvent) {
        if self.is_meant(&event) {
            tracing::debug!(name = %event.name, id = %event.id, "user event");
            self.events().keep(event);
        }
    }

    /// An expression that is none fits nothing: another version may know more.
    fn is_meant(&self, event: &UserEvent) -> bool {
        let filters = [&event.node_filter, &event.service_filter, &event.tag_filter].map(|filter| expression(filter));
        let [Ok(node), Ok(service), Ok(tag)] = filters else { return false };
        let fits = |filter: &Option<Regex>, text: &str| filter.as_ref().is_none_or(|filter| filter.is_match(text));
        if !fits(&node, self.name().as_str()) {
            return false;
        }
        service.is_none()
            || self.local().look(|local| {
                local.services().values().any(|known| {
                    let known = &known.service;
                    fits(&service, known.name.as_str()) && (tag.is_none() || known.tags.iter().any(|has| fits(&tag, has)))
                })
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, payload: usize) -> UserEvent {
        UserEvent {
            id: Uuid::from_u128(9),
            name: name.into(),
            payload: vec![b'x'; payload].into(),
            node_filter: "".into(),
            service_filter: "".into(),
            tag_filter: "".into(),
            time: 0,
        }
    }

    #[test]
    fn an_event_is_as_long_as_consuls_may_be_and_fits_what_carries_it() {
        assert_eq!(event("big", 400).check(), Ok(()));
        assert_eq!(event("big", 450).check(), Err(EventFault::TooLong));
        for length in 0..=450 {
            let event = UserEvent { node_filter: "n".repeat(length / 4).into(), ..event(&"e".repeat(length / 3), length) };
            if event.check().is_ok() {
                assert!(event.name.len() + event.carried().len() <= muster_gossip::FIRED_BYTES_MAX, "{length}");
            }
        }
    }

    #[test]
    fn filters_are_expressions_and_a_tag_needs_its_service() {
        let bad = UserEvent { node_filter: "[".into(), ..event("a", 0) };
        assert!(bad.check().unwrap_err().to_string().starts_with("Invalid node filter: error parsing regexp: "));
        let tag = UserEvent { tag_filter: "x".into(), ..event("a", 0) };
        assert_eq!(tag.check(), Err(EventFault::TagAlone));
        let huge = UserEvent { node_filter: "(a{500}){500}".into(), ..event("a", 0) };
        assert!(huge.check().is_err());
    }

    #[test]
    fn what_is_carried_is_read_and_junk_is_not() {
        let event = UserEvent { tag_filter: "t".into(), service_filter: "s".into(), time: 5, ..event("a", 3) };
        assert_eq!(UserEvent::read("a", &event.carried(), 5), Some(event));
        assert_eq!(UserEvent::read("a", b"junk", 5), None);
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let events = Events::new();
        for number in 0..300_u128 {
            events.keep(UserEvent { id: Uuid::from_u128(number), ..event(if number % 2 == 0 { "even" } else { "odd" }, 0) });
        }
        assert_eq!((events.list("").len(), events.list("odd").len()), (KEPT_MAX, KEPT_MAX / 2));
        assert_eq!(events.list("")[0].id, Uuid::from_u128(44));
    }
}
