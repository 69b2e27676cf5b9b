//! Other name servers: who is asked first, what becomes of those that do not answer, and of questions that come back.
#![allow(clippy::disallowed_methods)] // the shell reads the clock, and draws whom to ask

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::seq::SliceRandom as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::exchange::{Way, exchange};
use crate::bounds::{Asker, Transport};
use crate::config::Config;
use crate::elsewhere::{self, Fit, RESOLVE_BYTES, Told};
use crate::question::Question;
use crate::wire::{HEADER, Name};

/// Questions that wait for other name servers at once, each with a socket and a few KB; further ones get SERVFAIL. With nobody
/// answering, that is a hundred questions a second.
pub const FORWARDS_MAX: usize = 256;
/// Queries in a row without a reply after which a recursor is asked last: one is lost now and then.
const SILENCES_MAX: u32 = 2;
/// How often a silent recursor is asked beside the others, so that it is found when it is back. Soon: it may know names that the
/// others do not.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Those that are asked, and the questions under way.
#[derive(Debug)]
pub(super) struct Recursors {
    all: Vec<Recursor>,
    random: bool,
    patience: Duration,
    /// By question, room for the reply and the rest of the packet: a question under way is asked once, however often it comes. So one
    /// that a recursor sends back to us waits for itself, instead of going round.
    flights: Mutex<BTreeMap<Box<[u8]>, Flight>>,
    said: AtomicBool,
}

#[derive(Debug)]
struct Recursor {
    address: SocketAddr,
    silences: AtomicU32,
    looked: Mutex<Option<Instant>>,
}

#[derive(Debug, Clone)]
struct Flight {
    /// `None` until there is a reply, or none is to be had.
    landed: watch::Receiver<Option<Option<Arc<[u8]>>>>,
    /// Whether a recursor's host asks the same meanwhile.
    came_back: Arc<AtomicBool>,
}

impl Recursors {
    /// Those of a configuration, without ourselves: `listens` is where we are asked.
    pub(super) fn new(config: &Config, listens: &[SocketAddr]) -> Self {
        let (ours, others) = config.recursors.iter().partition::<Vec<SocketAddr>, _>(|address| is_here(**address, listens));
        for address in ours {
            tracing::warn!(recursor = %address, "a recursor is this agent itself: it is not asked");
        }
        let all = others.into_iter().map(|address| Recursor { address, silences: AtomicU32::new(0), looked: Mutex::new(None) });
        Self {
            all: all.collect(),
            random: config.recursor_random,
            patience: config.recursor_timeout,
            flights: Mutex::default(),
            said: AtomicBool::new(false),
        }
    }

    /// The reply to a query that is not ours to answer, as it came; `None` if nobody has one.
    pub(super) async fn forward(&self, query: &[u8], question: Question<'_>, asker: Asker, room: usize) -> Option<Arc<[u8]>> {
        let way = if asker.transport == Transport::Tcp { Way::Tcp } else { Way::Udp(room) };
        let mut key = question.wire.to_ascii_lowercase();
        let same = key.len();
        // Who takes less would get others a reply cut short; over connections it is more than over UDP.
        key.extend_from_slice(&room.to_be_bytes());
        key.extend_from_slice(&query[2..HEADER]);
        key.extend_from_slice(query.get(HEADER + same..).unwrap_or_default());
        let (departure, flight) = match self.board(key, same, asker.address) {
            Ok(departure) => departure,
            Err(mut flight) => {
                let landed = flight.landed.wait_for(Option::is_some).await.ok()?;
                return landed.clone().flatten();
            }
        };
        let reply = self.ask(query, way).await.map(Arc::from);
        if reply.is_none() && flight.came_back.load(Ordering::Relaxed) && !self.said.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                name = %text(question.name()),
                "no recursor answers, while the host of one asks this agent the same: it seems to ask back whom it is asked by"
            );
        }
        departure.landing.send_replace(Some(reply.clone()));
        reply
    }

    /// Begins a flight, or joins the one under way.
    fn board(&self, key: Vec<u8>, same: usize, asker: Option<IpAddr>) -> Result<(Departure<'_>, Flight), Flight> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if asker.is_some_and(|asker| self.all.iter().any(|recursor| recursor.address.ip() == asker.to_canonical())) {
            let alike = flights.range::<[u8], _>((std::ops::Bound::Included(&key[..same]), std::ops::Bound::Unbounded));
            for (_, flight) in alike.take_while(|(other, _)| other.starts_with(&key[..same])) {
                flight.came_back.store(true, Ordering::Relaxed);
            }
        }
        let key = key.into_boxed_slice();
        if let Some(flight) = flights.get(&key) {
            return Err(flight.clone());
        }
        let (landing, landed) = watch::channel(None);
        let flight = Flight { landed, came_back: Arc::default() };
        flights.insert(key.clone(), flight.clone());
        Ok((Departure { recursors: self, key, landing }, flight))
    }

    /// One after the other, until one has an answer: an error of one is no answer.
    async fn ask(&self, query: &[u8], way: Way) -> Option<Vec<u8>> {
        let mut order: Vec<&Recursor> = self.all.iter().collect();
        if self.random {
            order.shuffle(&mut rand::rng());
        }
        order.sort_by_key(|recursor| recursor.is_silent());
        for recursor in order {
            if let Some((Fit::Answer, reply)) = self.ask_one(recursor, query, way).await {
                return Some(reply);
            }
        }
        None
    }

    async fn ask_one(&self, recursor: &Recursor, query: &[u8], way: Way) -> Option<(Fit, Vec<u8>)> {
        let reply = timeout(self.patience, exchange(recursor.address, query, way)).await.map_err(std::io::Error::from);
        match reply.flatten() {
            Ok(reply) => {
                if recursor.silences.swap(0, Ordering::Relaxed) >= SILENCES_MAX {
                    tracing::info!(recursor = %recursor.address, "a recursor answers again");
                }
                Some(reply)
            }
            // Many answer datagrams alone: that they do not take connections says nothing of that.
            Err(_) if way == Way::Tcp => None,
            Err(error) => {
                let before = recursor.silences.fetch_add(1, Ordering::Relaxed);
                if before + 1 == SILENCES_MAX {
                    tracing::warn!(recursor = %recursor.address, %error, "a recursor does not answer: it is asked last until it does");
                }
                None
            }
        }
    }

    /// Asks the silent ones something that somebody wanted to know, to see whether they are back.
    pub(super) async fn look_again(&self, query: &[u8]) {
        for recursor in self.all.iter().filter(|recursor| recursor.is_silent()) {
            let now = Instant::now();
            {
                let mut looked = recursor.looked.lock().unwrap_or_else(PoisonError::into_inner);
                if looked.is_some_and(|looked| now.duration_since(looked) < LOOK_AGAIN) {
                    continue;
                }
                *looked = Some(now);
            }
            self.ask_one(recursor, query, Way::Udp(usize::from(RESOLVE_BYTES))).await;
        }
    }

    /// The addresses of names outside our domains, asked for at the same time.
    pub(super) async fn resolve(self: &Arc<Self>, names: Vec<(Name, u16)>, told: &mut Told) {
        let mut asking = JoinSet::new();
        for (name, wanted) in names {
            let recursors = self.clone();
            asking.spawn(async move {
                let reply = recursors.ask(&elsewhere::ask(&name, wanted), Way::UdpThenTcp(usize::from(RESOLVE_BYTES))).await;
                let records = reply.map(|reply| elsewhere::addresses(&reply, wanted)).unwrap_or_default();
                (name, wanted, records)
            });
        }
        while let Some(asked) = asking.join_next().await {
            if let Ok((name, wanted, records)) = asked {
                told.add(name, wanted, records);
            }
        }
    }
}

impl Recursor {
    fn is_silent(&self) -> bool {
        self.silences.load(Ordering::Relaxed) >= SILENCES_MAX
    }
}

/// A flight's beginning; when it is dropped, the next such question begins another.
struct Departure<'r> {
    recursors: &'r Recursors,
    key: Box<[u8]>,
    landing: watch::Sender<Option<Option<Arc<[u8]>>>>,
}

impl Drop for Departure<'_> {
    fn drop(&mut self) {
        self.recursors.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// Whether a name server is ourselves: at an address of ours where we listen, or at any of this host where we listen on all.
fn is_here(address: SocketAddr, listens: &[SocketAddr]) -> bool {
    let ip = address.ip().to_canonical();
    // Only what is this host's can be bound.
    let is_local = || std::net::UdpSocket::bind((ip, 0)).is_ok();
    let is = |at: &SocketAddr| at.ip().to_canonical() == ip || at.ip().is_unspecified() && is_local();
    listens.iter().any(|at| at.port() == address.port() && is(at))
}

/// A name for people.
fn text(wire: &[u8]) -> String {
    let (mut text, mut rest) = (String::new(), wire);
    while let Some((&length, after)) = rest.split_first()
        && length > 0
        && let Some((label, after)) = after.split_at_checked(usize::from(length))
    {
        text.extend([&label.escape_ascii().to_string(), "."]);
        rest = after;
    }
    text
}
