//! Look-ups that are made again and again: while the catalog stands as it was read, an answer is sent as it was sent before.
//!
//! Most of what a look-up costs beyond its bytes is the way to them: some hundred cache lines of code, fetched anew for each request.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use foldhash::fast::FixedState;
use http::{HeaderMap, Response, StatusCode, Uri};
use http_body::Body as _;
use http_body_util::Full;
use metrics::Histogram;
use muster_catalog::State;
use smol_str::SmolStr;

use super::reply::{Flow, Repeats, say_age};
use crate::desk::{Desk, Who};

/// Answers that are kept, each in the place that its request hashes to. A host's programs ask for some dozens of services.
const PLACES: usize = 256;
/// Bytes of the longest body that is kept, so all have 8 MB at most: a longer one costs more to send than to find.
const BODY_BYTES_MAX: usize = 32 << 10;
/// Bytes of the longest path and query of such a request.
const TARGET_BYTES_MAX: usize = 256;

/// The kept answers.
#[derive(Debug)]
pub(super) struct Again(Box<[Place]>);

#[derive(Debug, Default)]
struct Place {
    kept: ArcSwapOption<Kept>,
    /// Who came by last and found nothing, and when: what is asked for once is not kept.
    missed: AtomicU64,
}

/// A request for which an answer may be kept, as it is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asking<'u> {
    target: &'u str,
    gzip: bool,
    hash: u64,
}

/// A place to keep the answer in that is being made.
#[derive(Debug)]
pub(super) struct Keeping {
    target: SmolStr,
    gzip: bool,
    at: usize,
    state: Weak<State>,
    timer: Option<&'static Histogram>,
}

#[derive(Debug)]
struct Kept {
    keeping: Keeping,
    repeats: Repeats,
    headers: HeaderMap,
    body: Full<Bytes>,
}

impl Default for Again {
    fn default() -> Self {
        Self((0..PLACES).map(|_| Place::default()).collect())
    }
}

impl<'u> Asking<'u> {
    /// A `GET` of this, whose headers say nothing but whether the answer may be packed.
    pub(super) fn new(uri: &'u Uri, gzip: bool) -> Option<Self> {
        let target = uri.path_and_query()?.as_str();
        let hash = FixedState::default().hash_one(target.as_bytes());
        (target.len() <= TARGET_BYTES_MAX).then_some(Self { target, gzip, hash })
    }

    fn at(&self) -> usize {
        self.hash as usize % PLACES
    }
}

impl Again {
    /// How many answers are kept.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.0.iter().filter(|place| place.kept.load().is_some()).count()
    }

    /// The answer as it was sent before, if the same would be found now.
    pub(super) fn answer(
        &self,
        desk: &Desk,
        who: &Who,
        asking: &Asking<'_>,
    ) -> Option<(Response<Flow>, Option<&'static Histogram>)> {
        let kept = self.0[asking.at()].kept.load();
        let Kept { keeping, repeats, headers, body } = kept.as_deref()?;
        if keeping.target != asking.target || keeping.gzip != asking.gzip {
            return None;
        }
        let age_ms = desk.reads_again(who, &repeats.part, repeats.consistency, &keeping.state)?;
        if let Some(counted) = &repeats.counted {
            counted.again();
        }
        let mut response = Response::new(Flow::Whole(body.clone()));
        *response.headers_mut() = headers.clone();
        if age_ms != repeats.last_contact_ms {
            say_age(response.headers_mut(), age_ms);
        }
        Some((response, keeping.timer))
    }

    /// Where this answer is to be kept: it was asked for before, since the catalog last changed.
    pub(super) fn keeping(&self, desk: &Desk, asking: &Asking<'_>, timer: Option<&'static Histogram>) -> Option<Box<Keeping>> {
        let state = desk.reader().load();
        let now = asking.hash ^ Arc::as_ptr(&state).addr() as u64;
        let again = self.0[asking.at()].missed.swap(now, Ordering::Relaxed) == now;
        again.then(|| {
            let (target, gzip, at) = (SmolStr::new(asking.target), asking.gzip, asking.at());
            Box::new(Keeping { target, gzip, at, state: Arc::downgrade(&state), timer })
        })
    }

    /// Keeps an answer, unless the catalog has changed while it was made.
    pub(super) fn keep(&self, desk: &Desk, keeping: Keeping, repeats: Repeats, response: &Response<Flow>) {
        let Flow::Whole(body) = response.body() else { return };
        let short = body.size_hint().exact().is_some_and(|bytes| bytes <= BODY_BYTES_MAX as u64);
        if short && response.status() == StatusCode::OK && keeping.state.as_ptr() == Arc::as_ptr(&desk.reader().load()) {
            let (at, headers, body) = (keeping.at, response.headers().clone(), body.clone());
            self.0[at].kept.store(Some(Arc::new(Kept { keeping, repeats, headers, body })));
        }
    }
}
