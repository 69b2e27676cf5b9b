//! What all threads and connections see.
#![allow(clippy::disallowed_methods)] // the shell reads the clock for the core

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use muster_catalog::{Part, Reader, State};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use super::recursors::{FORWARDS_MAX, Recursors};
use crate::beyond::{Beyond, Errand};
use crate::bounds::{Answered, Asker, Bounds, TCP_BYTES_MAX, Tally, View};
use crate::config::{Config, Settings};
use crate::elsewhere::{Lacking, Told, UNTOLD, relay};
use crate::fast::Scratch;
use crate::question;
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
    recursors: ArcSwap<Recursors>,
    /// One for each question that others are asked.
    forwards: Semaphore,
    /// What they are made of: the configuration, and where we listen.
    made_of: Mutex<(Config, Vec<SocketAddr>)>,
}

impl Shared {
    pub(super) fn new(
        reader: Reader,
        settings: ArcSwap<Settings>,
        beyond: Beyond,
        (config, recursors): (Config, Arc<Recursors>),
    ) -> Self {
        let (forwards, made_of) = (Semaphore::new(FORWARDS_MAX), Mutex::new((config, Vec::new())));
        let recursors = ArcSwap::new(recursors);
        Self { reader, settings, stopped: AtomicBool::new(false), beyond, recursors, forwards, made_of }
    }

    /// From now on, other name servers are asked as this configuration says.
    pub(super) fn recur(&self, config: Config) {
        let mut made_of = self.made_of.lock().unwrap_or_else(PoisonError::into_inner);
        made_of.0 = config;
        self.recursors.store(Arc::new(Recursors::new(&made_of.0, &made_of.1)));
    }

    /// We are asked there, and ask nobody else there.
    pub(super) fn listen(&self, addresses: &[SocketAddr]) {
        let mut made_of = self.made_of.lock().unwrap_or_else(PoisonError::into_inner);
        made_of.1 = addresses.to_vec();
        self.recursors.store(Arc::new(Recursors::new(&made_of.0, &made_of.1)));
    }

    /// What a batch of queries is answered from.
    pub(super) fn view<'a>(&self, state: &'a State, settings: &'a Settings) -> View<'a> {
        let age = (self.beyond.age)();
        let (stale, too_old) = (!age.known_leader, settings.is_too_old(age));
        View { state, settings, now: unix_seconds(), stale, too_old, told: &UNTOLD }
    }

    /// Answers a query that could not be answered at once, with what can be had for it in time: what it is lacking, or newer rows if
    /// it lacks nothing. `out` becomes the answer.
    pub(super) async fn answer_late(
        &self,
        mut lacking: Lacking,
        query: &[u8],
        asker: Asker,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Answered {
        let (mut parts, mut told, mut state) = (BTreeSet::new(), Told::default(), None);
        let mut answered = None;
        for _ in 0..ROUNDS_MAX {
            if lacking.is_elsewhere() {
                let Ok(_place) = self.forwards.try_acquire() else { break };
                if lacking.outside {
                    answered = self.forward(query, asker, out).await;
                    break;
                }
                self.recursors.load_full().resolve(std::mem::take(&mut lacking.names), &mut told).await;
            } else {
                parts.append(&mut lacking.parts);
                let Ok(Some(fetched)) = timeout(ERRAND_MAX, self.fetch(parts.clone())).await else { break };
                state = Some(fetched);
            }
            let settings = self.settings.load_full();
            let now = state.clone().unwrap_or_else(|| self.reader.load().clone());
            let view = self.view(&now, &settings);
            // What was fetched is as new as it had to be.
            let fetched = state.is_some();
            let view = View { stale: !fetched && view.stale, too_old: !fetched && view.too_old, told: &told, ..view };
            out.resize(TCP_BYTES_MAX, 0);
            let made = respond(query, asker, view, scratch, out);
            if made.tally != Tally::Beyond {
                answered = Some(made);
                break;
            }
            lacking = std::mem::take(&mut scratch.lacking); // A name in an answer leads on.
        }
        let answered = answered.unwrap_or_else(|| {
            let (state, settings) = (self.reader.load(), self.settings.load());
            out.resize(TCP_BYTES_MAX, 0);
            refuse(query, asker, View { stale: false, ..self.view(&state, &settings) }, out)
        });
        out.truncate(answered.bytes);
        answered
    }

    /// What others say to a question that is not ours.
    async fn forward(&self, packet: &[u8], asker: Asker, out: &mut Vec<u8>) -> Option<Answered> {
        let query = question::parse(packet).ok()?;
        let question = query.question?;
        let room = Bounds::new(&query, asker.transport, &self.settings.load()).bytes;
        let reply = self.recursors.load_full().forward(packet, question, asker, room).await?;
        *out = relay(&reply, query.head.id, question, room);
        Some(Answered::new(out.len(), question.kind, out.len() < reply.len()))
    }

    /// Sees whether recursors are back that did not answer, by what was just asked.
    pub(super) async fn look_again(&self, query: &[u8]) {
        if let Ok(_place) = self.forwards.try_acquire() {
            self.recursors.load_full().look_again(query).await;
        }
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
