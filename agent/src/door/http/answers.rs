//! Answers that many readers get: rendered once, then shared.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::io::{Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use muster_catalog::{Ask, Instance, Services, State, Topic};
use smallvec::{SmallVec, smallvec};
use uuid::Uuid;

use super::json;
use crate::desk::{Question, Travel};

/// Answers shorter than this are not compressed: it would cost more than it saves.
pub(super) const GZIP_BYTES_MIN: usize = 1400;

/// Bytes of rendered answers kept: some sixty answers of a hundred instances, small beside the agent's own 15 MB.
const KEPT_BYTES_MAX: usize = 4 << 20;
/// Shortest list whose answer is kept: fewer parts are joined faster than they are looked up.
const KEPT_PARTS_MIN: usize = 12;

/// An answer as JSON, and packed once the first reader wanted it so.
#[derive(Debug)]
pub(super) struct Rendered {
    plain: Bytes,
    packed: OnceLock<Bytes>,
}

impl Rendered {
    fn new(plain: Bytes) -> Self {
        Self { plain, packed: OnceLock::new() }
    }

    /// Compact JSON.
    pub(super) fn plain(&self) -> &Bytes {
        &self.plain
    }

    /// Packed by gzip, unless it is too short for that.
    pub(super) fn packed(&self) -> Option<Bytes> {
        (self.plain.len() >= GZIP_BYTES_MIN).then(|| self.packed.get_or_init(|| pack(&self.plain)).clone())
    }
}

/// Packs with the fastest level: an answer is read once or a few times, and the wire is mostly a local one.
pub(super) fn pack(plain: &[u8]) -> Bytes {
    let mut packer = GzEncoder::new(Vec::with_capacity(plain.len() / 4 + 64), Compression::fast());
    packer.write_all(plain).expect("memory takes every byte");
    packer.finish().expect("memory takes every byte").into()
}

/// Unpacks what this program was built with.
pub(super) fn unpack(packed: &[u8]) -> Bytes {
    let mut plain = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut plain).expect("the build packed it");
    plain.into()
}

/// The kept answers. What identifies one is the instances it was made of, so that no index and no history can mix them up.
#[derive(Debug, Default)]
pub(super) struct Answers {
    health: Mutex<Lists>,
    services: Mutex<Option<ServicesAnswer>>,
}

#[derive(Debug, Default)]
struct Lists {
    by_hash: HashMap<u64, List, foldhash::fast::FixedState>,
    oldest_first: VecDeque<u64>,
    bytes: usize,
}

#[derive(Debug)]
struct List {
    instances: Vec<Arc<Instance>>,
    rendered: Arc<Rendered>,
}

#[derive(Debug)]
struct ServicesAnswer {
    history: Option<Uuid>,
    index: u64,
    rendered: Arc<Rendered>,
}

/// A health answer: shared, or so short that it was made for one reader.
pub(super) enum Health {
    Own(Bytes),
    Shared(Arc<Rendered>),
}

impl Answers {
    /// The health entries of these instances, in this order. `packed` says that the reader wants them packed, which is
    /// worth sharing for a shorter list too.
    pub(super) fn health(&self, instances: Vec<Arc<Instance>>, datacenter: &str, packed: bool) -> Health {
        let entries = |instances: &[Arc<Instance>]| {
            let parts: SmallVec<[&Bytes; 16]> =
                instances.iter().map(|instance| json::health_entry(instance, datacenter)).collect();
            json::join(parts.iter().copied())
        };
        if instances.len() < KEPT_PARTS_MIN && !(packed && instances.len() > 1) {
            return Health::Own(entries(&instances));
        }
        let mut hasher = foldhash::fast::FixedState::default().build_hasher();
        for instance in &instances {
            hasher.write_usize(Arc::as_ptr(instance).addr());
        }
        let hash = hasher.finish();
        // Rendered under the lock: of a thousand readers that woke together one works, the others wait for it.
        let mut lists = hold(&self.health);
        if let Some(list) = lists.by_hash.get(&hash)
            && list.instances.len() == instances.len()
            && list.instances.iter().zip(&instances).all(|(a, b)| Arc::ptr_eq(a, b))
        {
            return Health::Shared(list.rendered.clone());
        }
        let rendered = Arc::new(Rendered::new(entries(&instances)));
        lists.keep(hash, List { instances, rendered: rendered.clone() });
        Health::Shared(rendered)
    }

    /// All services with their tags, as of this state.
    fn services(&self, state: &State) -> Arc<Rendered> {
        let (history, index) = (state.history(), state.index(&Topic::Services));
        let mut kept = hold(&self.services);
        if let Some(answer) = kept.as_ref().filter(|answer| answer.history == history && answer.index == index) {
            return answer.rendered.clone();
        }
        let rendered = Arc::new(Rendered::new(render_services(&Services::default().look(state))));
        *kept = Some(ServicesAnswer { history, index, rendered: rendered.clone() });
        rendered
    }
}

/// `catalog/services`: names with their tags.
pub(super) fn render_services(services: &[muster_catalog::ServiceTags]) -> Bytes {
    let mut out = Vec::with_capacity(32 * services.len() + 2);
    let pairs = services.iter().map(|service| (service.name.as_str(), &service.tags));
    json::map(&mut out, pairs, |out, tags| json::list(out, tags.iter(), |out, tag| json::text(out, tag)));
    out.into()
}

impl Lists {
    fn keep(&mut self, hash: u64, list: List) {
        let size = list.size();
        if size > KEPT_BYTES_MAX / 4 {
            return;
        }
        match self.by_hash.insert(hash, list) {
            Some(old) => self.bytes -= old.size(),
            None => self.oldest_first.push_back(hash),
        }
        self.bytes += size;
        while self.bytes > KEPT_BYTES_MAX {
            let Some(oldest) = self.oldest_first.pop_front() else { return };
            if let Some(gone) = self.by_hash.remove(&oldest) {
                self.bytes -= gone.size();
            }
        }
    }
}

impl List {
    /// With the packed form, though that may never be made, and the rows that it keeps from being freed.
    fn size(&self) -> usize {
        self.rendered.plain.len() * 2
    }
}

fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks for all services, answered ready-made.
pub(super) struct AllServices(pub(super) Arc<Answers>);

impl Travel for AllServices {
    fn question(&self) -> Question {
        Services::default().question()
    }

    fn read(&self, bytes: &[u8]) -> Option<Self::Answer> {
        Some(Arc::new(Rendered::new(render_services(&Services::default().read(bytes)?))))
    }
}

impl Ask for AllServices {
    type Answer = Arc<Rendered>;
    fn topics(&self) -> SmallVec<[Topic; 1]> {
        smallvec![Topic::Services]
    }
    fn look(&self, state: &State) -> Self::Answer {
        self.0.services(state)
    }
}
