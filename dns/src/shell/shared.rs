//! What all threads and connections see.
#![allow(clippy::disallowed_methods)] // the shell reads the clock for the core

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use muster_catalog::{Reader, State};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::beyond::{Beyond, Errand};
use crate::bounds::{Answered, Transport, View};
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

    /// Rows that are new enough, if they can be had in time.
    pub(super) async fn renew(&self) -> Option<Arc<State>> {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            self.beyond.errands.send(Errand { answer }).await.ok()?;
            answered.await.ok()
        };
        timeout(ERRAND_MAX, asked).await.ok()?
    }

    /// Answers a query that could not be answered at once, with what is brought for it.
    pub(super) fn answer_with(
        &self,
        renewed: Option<&State>,
        query: &[u8],
        transport: Transport,
        scratch: &mut Scratch,
        out: &mut [u8],
    ) -> Answered {
        let (state, settings) = (self.reader.load(), self.settings.load());
        let view = View { state: renewed.unwrap_or(&state), too_old: false, ..self.view(&state, &settings) };
        match renewed {
            Some(_) => respond(query, transport, View { stale: false, ..view }, scratch, out),
            None => refuse(query, transport, view, out),
        }
    }
}

/// Seconds since 1970 as far as 32 bits go, and on from 0: serials are compared that way (RFC 1982).
pub(super) fn unix_seconds() -> u32 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() as u32)
}
