//! What all threads and connections see.
#![allow(clippy::disallowed_methods)] // the shell reads the clock for the core

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use muster_catalog::{Part, Reader, State};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::beyond::{Beyond, Errand};
use crate::bounds::{Answered, Tally, Transport, View};
use crate::config::Settings;
use crate::fast::Scratch;
use crate::respond::{refuse, respond};

/// How long a question may wait for rows that are new enough: resolvers ask again after five seconds.
pub const ERRAND_MAX: Duration = Duration::from_secs(3);

/// The rows, the settings, and whether it is over.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) reader: Reader,
    pub(super) settings: ArcSwap<Settings>,
    pub(super) stopped: AtomicBool,
    pub(super) beyond: Beyond,
}

impl Shared {
    /// What a batch of queries is answered from.
    pub(super) fn view<'a>(&self, state: &'a State, settings: &'a Settings) -> View<'a> {
        let age = (self.beyond.age)();
        View { state, settings, now: unix_seconds(), stale: !age.known_leader, too_old: settings.is_too_old(age) }
    }

    /// Answers a query that could not be answered at once, with what can be had for it in time: `missing` is what it needs, nothing if
    /// the rows here are but too old.
    pub(super) async fn answer_late(
        &self,
        missing: BTreeSet<Part>,
        query: &[u8],
        transport: Transport,
        scratch: &mut Scratch,
        out: &mut [u8],
    ) -> Answered {
        let answering = async {
            let mut parts = missing;
            for _ in 0..ROUNDS_MAX {
                let state = self.fetch(parts.clone()).await?;
                let settings = self.settings.load_full();
                let view = View { stale: false, too_old: false, ..self.view(&state, &settings) };
                let answered = respond(query, transport, view, scratch, out);
                if answered.tally != Tally::Beyond {
                    return Some(answered);
                }
                parts.append(&mut scratch.missing); // A name in an answer leads on.
            }
            None
        };
        if let Ok(Some(answered)) = timeout(ERRAND_MAX, answering).await {
            return answered;
        }
        let (state, settings) = (self.reader.load(), self.settings.load());
        refuse(query, transport, View { stale: false, ..self.view(&state, &settings) }, out)
    }

    async fn fetch(&self, parts: BTreeSet<Part>) -> Option<Arc<State>> {
        let fresh = self.settings.load().is_too_old((self.beyond.age)());
        let (answer, answered) = oneshot::channel();
        self.beyond.errands.send(Errand { parts, fresh, answer }).await.ok()?;
        answered.await.ok()
    }
}

/// Names in answers that lead on: a service at a node's name, and as deep as answers follow.
const ROUNDS_MAX: usize = 4;

/// Seconds since 1970 as far as 32 bits go, and on from 0: serials are compared that way (RFC 1982).
pub(super) fn unix_seconds() -> u32 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() as u32)
}
