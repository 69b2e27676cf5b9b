//! The options that reads have in common: consistency, waiting, filters, in Consul's words when they are wrong.
#![allow(clippy::manual_async_fn)] // an `async fn` holds its arguments twice, and there are thousands of these
#![allow(clippy::disallowed_methods)] // A wait is lengthened by chance, so that waiters do not return together.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderName, HeaderValue};
use muster_catalog::{Index, MetaFilter, Near};
use rand::RngExt;
use smol_str::SmolStr;

use super::Door;
use super::call::{Answering, Call};
use super::error::HttpError;
use super::near;
use super::query::Query;
use super::reply::{Meta, Reply};
use crate::config::duration;
use crate::desk::{Consistency, Seen, Travel, Wait, Who};

/// Ours: the answer is what was known so many milliseconds ago, when somebody could last be asked. Not sent with others.
const STALE: HeaderName = HeaderName::from_static("x-muster-stale-ms");

/// How a read is to be answered.
#[derive(Debug, Clone)]
pub(super) struct ReadOptions {
    consistency: Consistency,
    /// An answer of this age is too old; then it is asked for again without `stale`.
    max_stale: Option<Duration>,
    /// Answered from this agent's copy by request, and told how old it is.
    cached: bool,
    /// Nobody is asked, though the answer says the usual of its consistency.
    from_copy: bool,
    wait: Option<Wait>,
    elsewhere: bool,
    /// Answered in the order of the round trips from there, where the answer has an order.
    near: Option<SmolStr>,
    family: Family,
}

/// Which reads take Consul's index headers on their errors too, say their consistency, and may be made stale by configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// `catalog` and `health`.
    Catalog,
    /// Keys, and transactions that only read.
    Kv,
    /// Sessions: they take the index headers on their errors too.
    Session,
}

impl ReadOptions {
    /// Reads them, in the order in which Consul finds faults.
    pub(super) fn read(door: &Door, query: &Query, headers: &HeaderMap, family: Family) -> Result<Self, HttpError> {
        let bad = |text: &str| Err(HttpError::BadRequest(text.to_owned()));
        let said = Said::of(query);
        let Said { mut stale, consistent, leader, .. } = said;
        let cached = said.cached && door.config.use_cache && family == Family::Catalog;
        let mut max_stale = None;
        if let Some(text) = filled(said.max_stale) {
            match duration::parse(text) {
                Ok(bound) => max_stale = Some(bound).filter(|bound| !bound.is_zero()),
                Err(_) => return bad(&format!("Invalid max_stale value {text:?}")),
            }
            stale |= max_stale.is_some();
        }
        let nothing_said = !stale && !consistent && !leader;
        if nothing_said && family == Family::Catalog && !door.config.discovery_max_stale.is_zero() {
            max_stale = Some(door.config.discovery_max_stale);
            stale = true;
        }
        if stale && consistent {
            return bad("Cannot specify ?stale with ?consistent, conflicting semantics.");
        }
        if cached && consistent {
            return bad("Cannot specify ?cached with ?consistent, conflicting semantics.");
        }
        let wanted = cache_control(headers)?;
        let from_copy = cached && nothing_said && !wanted.revalidate;
        if from_copy && max_stale.is_none() {
            max_stale = wanted.max_age;
        }
        let consistency = match (stale, consistent) {
            (true, _) => Consistency::Stale,
            (_, true) => Consistency::Consistent,
            _ => Consistency::Default,
        };
        let elsewhere = filled(said.dc).is_some_and(|dc| *dc != door.config.datacenter);
        let (seen, timeout) = said.hold(door)?;
        let wait = (seen > 0).then_some(Wait { seen, timeout });
        let near = filled(said.near).cloned();
        Ok(Self { consistency, max_stale, cached, from_copy, wait, elsewhere, near, family })
    }

    /// The same for what nobody waits for.
    pub(super) fn at_once(self) -> Self {
        Self { wait: None, ..self }
    }

    /// What `X-Consul-Effective-Consistency` says.
    pub(super) fn effective(&self) -> &'static str {
        match self.consistency {
            Consistency::Default => "leader",
            Consistency::Stale => "stale",
            Consistency::Consistent => "consistent",
        }
    }

    /// Refuses what another datacenter would have to answer: there is no way to any.
    pub(super) fn must_be_here(&self) -> Result<(), HttpError> {
        match (self.elsewhere, self.family) {
            (false, _) => Ok(()),
            (true, Family::Catalog | Family::Session) => Err(HttpError::ServerOfRead("No path to datacenter".into())),
            (true, Family::Kv) => Err(HttpError::Server("No path to datacenter".into())),
        }
    }

    /// Whether the state alone decides the answer, and what is asked for is asked of it at once.
    fn can_repeat(&self, door: &Door) -> bool {
        let plain = self.wait.is_none() && self.near.is_none() && self.max_stale.is_none() && !self.cached;
        plain && self.family == Family::Catalog && door.desk.is_at_once(self.consistency)
    }

    /// Asks the desk; an answer that is older than the bound is asked for again, without `stale`.
    pub(super) fn ask<'a, A: Travel + Sync>(
        &'a self,
        door: &'a Door,
        who: &'a Who,
        ask: &'a A,
    ) -> impl Future<Output = Result<Seen<A::Answer>, HttpError>> + Send + 'a {
        async move {
            let first = if self.from_copy { Consistency::Stale } else { self.consistency };
            let (mut consistency, mut wait) = (first, self.wait.as_ref());
            loop {
                let seen = door.desk.read(who, ask, consistency, wait).await?;
                let age = Duration::from_millis(seen.last_contact_ms);
                if consistency != Consistency::Stale || self.max_stale.is_none_or(|bound| age <= bound) {
                    return Ok(seen);
                }
                (consistency, wait) = (Consistency::Default, None);
            }
        }
    }

    /// Asks without waiting, for what is not rendered as other reads are.
    pub(super) async fn once<A: Travel + Sync>(&self, door: &Door, who: &Who, ask: &A) -> Result<(A::Answer, Meta), HttpError> {
        let Seen { index, known_leader, last_contact_ms, answer } =
            Self { wait: None, ..self.clone() }.ask(door, who, ask).await?;
        Ok((answer, Meta { index, known_leader, last_contact_ms }))
    }

    /// The answer with what these options add to it.
    pub(super) fn finish(&self, reply: Reply, meta: Meta) -> Reply {
        let mut reply = reply.with_meta(meta);
        if !meta.known_leader {
            reply = reply.with_header(STALE, HeaderValue::from(meta.last_contact_ms));
        }
        match self.family {
            Family::Catalog => {
                reply.with_consistency(self.effective()).with_age(self.cached.then_some(meta.last_contact_ms / 1000))
            }
            Family::Kv | Family::Session => reply,
        }
    }
}

/// Answers a read: `understand` makes of the call its options, its question, and how the answer is rendered. Nothing else is held
/// while the read waits: neither the call, whose headers hold on to the buffer that they were read into, nor room for it.
pub(super) fn read<A, R>(
    door: Arc<Door>,
    call: Call,
    understand: impl FnOnce(&Door, &Call) -> Result<(ReadOptions, A, R), HttpError>,
) -> Answering
where
    A: Travel<Answer: Send> + Send + Sync + 'static,
    R: FnOnce(&Door, A::Answer) -> Reply + Send + 'static,
{
    read_near(door, call, |door, call| {
        let (options, ask, render) = understand(door, call)?;
        Ok((ReadOptions { near: None, ..options }, ask, move |door: &Door, answer, _: &Near| render(door, answer)))
    })
}

/// As [`read`], of an answer with an order: it is rendered as near as its reader asks for.
pub(super) fn read_near<A, R>(
    door: Arc<Door>,
    call: Call,
    understand: impl FnOnce(&Door, &Call) -> Result<(ReadOptions, A, R), HttpError>,
) -> Answering
where
    A: Travel<Answer: Send> + Send + Sync + 'static,
    R: FnOnce(&Door, A::Answer, &Near) -> Reply + Send + 'static,
{
    let (options, ask, render) = match understand(&door, &call) {
        Ok(understood) => understood,
        Err(error) => return Box::pin(ready(Err(error))),
    };
    let (who, keeps) = (call.who, call.keeps && options.can_repeat(&door));
    Box::pin(async move {
        let Seen { index, known_leader, last_contact_ms, answer } = options.ask(&door, &who, &ask).await?;
        let near = match &options.near {
            Some(node) => Box::pin(near::order(&door, &who, node)).await,
            None => Near::default(),
        };
        let reply = options.finish(render(&door, answer, &near), Meta { index, known_leader, last_contact_ms });
        Ok(if keeps { reply.repeating(ask.part(), options.consistency) } else { reply })
    })
}

/// What `Cache-Control` says of a cached read.
#[derive(Debug, Clone, Copy, Default)]
struct Freshness {
    /// An older answer is asked for again; zero is no bound, as in Consul.
    max_age: Option<Duration>,
    /// It is asked for in any case.
    revalidate: bool,
}

/// This agent's copy is kept up to date, not fetched now and then: it is as old as the last word of who keeps it so.
fn cache_control(headers: &HeaderMap) -> Result<Freshness, HttpError> {
    let invalid = || HttpError::BadRequest("Invalid Cache-Control header.".into());
    let mut wanted = Freshness::default();
    for (_, value) in headers.iter().filter(|(name, _)| **name == CACHE_CONTROL) {
        let text = value.to_str().map_err(|_| invalid())?.to_ascii_lowercase();
        for part in text.split(',') {
            wanted.revalidate |= part.trim() == "must-revalidate";
            if let Some((name @ ("max-age" | "stale-if-error"), seconds)) = part.trim().split_once('=') {
                let seconds: u64 = seconds.parse().map_err(|_| invalid())?;
                if name == "max-age" && seconds > 0 {
                    wanted.max_age = Some(Duration::from_secs(seconds));
                }
            }
        }
    }
    Ok(wanted)
}

/// What a query says of a read. Of an option that is there twice the first counts; an empty one is none.
#[derive(Debug, Clone, Copy, Default)]
struct Said<'q> {
    stale: bool,
    consistent: bool,
    leader: bool,
    cached: bool,
    max_stale: Option<&'q SmolStr>,
    dc: Option<&'q SmolStr>,
    near: Option<&'q SmolStr>,
    wait: Option<&'q SmolStr>,
    index: Option<&'q SmolStr>,
}

impl<'q> Said<'q> {
    /// In one pass: most queries have an option or two, and reads know a dozen.
    fn of(query: &'q Query) -> Self {
        let mut said = Self::default();
        for (key, value) in query.pairs() {
            let option = match key {
                "max_stale" => &mut said.max_stale,
                "dc" => &mut said.dc,
                "near" => &mut said.near,
                "wait" => &mut said.wait,
                "index" => &mut said.index,
                flag => {
                    said.stale |= flag == "stale";
                    said.consistent |= flag == "consistent";
                    said.leader |= flag == "leader";
                    said.cached |= flag == "cached";
                    continue;
                }
            };
            option.get_or_insert(value);
        }
        said
    }

    fn hold(&self, door: &Door) -> Result<(Index, Duration), HttpError> {
        let mut wish = Duration::ZERO;
        if let Some(text) = filled(self.wait) {
            match duration::parse_ns(text) {
                Ok(ns) => wish = u64::try_from(ns).map_or(Duration::ZERO, Duration::from_nanos),
                Err(_) => return Err(HttpError::BadRequest("Invalid wait time".into())),
            }
        }
        let seen = match filled(self.index).map(|text| text.parse()) {
            None => 0,
            Some(Ok(seen)) => seen,
            Some(Err(_)) => return Err(HttpError::BadRequest("Invalid index".into())),
        };
        if seen == 0 {
            return Ok((0, wish));
        }
        let wish = if wish.is_zero() { door.config.default_query_time } else { wish.min(door.config.max_query_time) };
        Ok((seen, wish + wish.mul_f64(rand::rng().random_range(0.0..1.0) / 16.0)))
    }
}

fn filled(option: Option<&SmolStr>) -> Option<&SmolStr> {
    option.filter(|value| !value.is_empty())
}

/// The index that the reader has seen (0 is none), and how long to hold the answer: the wish cut to the maximum, then
/// lengthened by up to a sixteenth.
pub(super) fn hold(door: &Door, query: &Query) -> Result<(Index, Duration), HttpError> {
    Said::of(query).hold(door)
}

/// The pairs that a node's meta must have (`node-meta=key:value`, repeated).
pub(super) fn node_meta(query: &Query) -> MetaFilter {
    let pairs = query.all("node-meta").map(|pair| pair.split_once(':').unwrap_or((pair, "")));
    pairs.map(|(key, value)| (SmolStr::new(key), SmolStr::new(value))).collect()
}

/// The tags that an instance must have, all of them.
pub(super) fn tags(query: &Query) -> Vec<SmolStr> {
    query.all("tag").cloned().collect()
}
