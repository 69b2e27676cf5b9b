//! The form of batches and beats between agents, and in a client's copy on disk.
//!
//! ```text
//! stream: record · record · …        in frames that may end anywhere; a frame that begins a batch begins with its head
//! record: tag 1 · length 4 · body    (length big-endian; the body a named MessagePack value)
//! batch:  BEGIN · rows … · END
//! ```

use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Batch, Beat, Head, HostIndexes};
use crate::cause::Cause;
use crate::error::FeedError;
use crate::interest::Interest;
use crate::pack;
use crate::row::Index;
use crate::state::TableIndexes;

/// Largest frame: what one answer on a shared connection may take before others have their turn.
pub const FRAME_BYTES_MAX: usize = 256 << 10;

/// Largest record: the largest row that an HTTP body can make, so this only stops a damaged length.
const RECORD_BYTES_MAX: usize = 64 << 20;

/// Most bytes of one batch. A catalog of a million instances takes less.
const BATCH_BYTES_MAX: usize = 1 << 30;

/// Tag and length.
const PREFIX_BYTES: usize = 5;

/// Causes that a reader remembers: one command's rows share theirs, and so do their copies at a follower.
const CAUSES: usize = 1024;

/// Tags of records; never reused. An unknown one is an error unless it may be skipped: leaving rows out would be losing them.
mod tag {
    pub(super) const END: u8 = 0;
    pub(super) const BEGIN: u8 = 1;
    pub(super) const NODE: u8 = 2;
    pub(super) const SERVICE: u8 = 3;
    pub(super) const CHECK: u8 = 4;
    pub(super) const SERVICE_INDEXES: u8 = 5;
    pub(super) const NODE_INDEXES: u8 = 6;
    pub(super) const GONE: u8 = 7;
    pub(super) const MARK: u8 = 8;
    pub(super) const MARK_GONE: u8 = 9;
    pub(super) const BEAT: u8 = 10;
    /// In a tag: who does not know it may leave the record out.
    pub(super) const MAY_SKIP: u8 = 0x80;
}

/// A head as it is written: the tables' indexes by place, for they ride on every change.
#[derive(Serialize, Deserialize)]
struct HeadRecord {
    #[serde(default)]
    from: Option<Index>,
    to: Index,
    #[serde(default)]
    time_ms: u64,
    history: Option<Uuid>,
    indexes: Vec<Index>,
    #[serde(default)]
    all_marks: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    interest: Option<Interest>,
}

impl From<&Head> for HeadRecord {
    fn from(head: &Head) -> Self {
        let TableIndexes { nodes, nodes_removed, services, services_removed, checks, passing, warning, critical, keys: _ } =
            head.indexes;
        Self {
            from: head.from,
            to: head.to,
            time_ms: head.time_ms,
            history: head.history,
            indexes: [nodes, nodes_removed, services, services_removed, checks, passing, warning, critical].into(),
            all_marks: head.all_marks,
            interest: head.interest.as_deref().cloned(),
        }
    }
}

impl From<HeadRecord> for Head {
    fn from(record: HeadRecord) -> Self {
        let at = |place: usize| record.indexes.get(place).copied().unwrap_or(0);
        let indexes = TableIndexes {
            nodes: at(0),
            nodes_removed: at(1),
            services: at(2),
            services_removed: at(3),
            checks: at(4),
            passing: at(5),
            warning: at(6),
            critical: at(7),
            keys: 0,
        };
        let HeadRecord { from, to, time_ms, history, all_marks, interest, .. } = record;
        Self { from, to, time_ms, history, indexes, all_marks, interest: interest.map(Arc::new) }
    }
}

impl Beat {
    /// A frame of its own.
    pub fn frame(&self) -> Bytes {
        let mut frame = Vec::new();
        put(&mut frame, tag::BEAT, self);
        Bytes::from(frame)
    }
}

impl Batch {
    /// Its frames, made one at a time: never is all of it in memory twice.
    pub fn frames(&self) -> Frames<'_> {
        Frames { batch: self, next: Next::Begin, over: Bytes::new() }
    }
}

/// The frames of a batch.
#[derive(Debug)]
pub struct Frames<'a> {
    batch: &'a Batch,
    next: Next,
    /// What is left of a row that is larger than a frame.
    over: Bytes,
}

/// What is written next.
#[derive(Debug, Clone, Copy)]
enum Next {
    Begin,
    Rows(usize),
    Nothing,
}

impl Iterator for Frames<'_> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.over.is_empty() {
            self.over = self.fill()?;
        }
        Some(self.over.split_to(self.over.len().min(FRAME_BYTES_MAX)))
    }
}

impl Frames<'_> {
    /// The next records, until they fill a frame.
    fn fill(&mut self) -> Option<Bytes> {
        let mut frame = Vec::new();
        let mut at = match self.next {
            Next::Begin => {
                put(&mut frame, tag::BEGIN, &HeadRecord::from(&self.batch.head));
                0
            }
            Next::Rows(at) => at,
            Next::Nothing => return None,
        };
        while frame.len() < FRAME_BYTES_MAX {
            if !self.batch.put(&mut frame, at) {
                frame.extend_from_slice(&[tag::END, 0, 0, 0, 0]);
                self.next = Next::Nothing;
                return Some(Bytes::from(frame));
            }
            at += 1;
        }
        self.next = Next::Rows(at);
        Some(Bytes::from(frame))
    }
}

impl Batch {
    /// Writes the record at this place among all of them; says whether there is one.
    fn put(&self, frame: &mut Vec<u8>, mut at: usize) -> bool {
        macro_rules! among {
            ($rows:expr, $tag:expr) => {
                if let Some(row) = $rows.get(at) {
                    put(frame, $tag, row);
                    return true;
                }
                at -= $rows.len();
            };
        }
        among!(self.gone, tag::GONE);
        among!(self.nodes, tag::NODE);
        among!(self.hosts, tag::NODE_INDEXES);
        among!(self.services, tag::SERVICE);
        among!(self.checks, tag::CHECK);
        among!(self.buckets, tag::SERVICE_INDEXES);
        among!(self.marks_gone, tag::MARK_GONE);
        if let Some(mark) = self.marks.get(at) {
            put(frame, tag::MARK, mark);
            return true;
        }
        false
    }
}

fn put(frame: &mut Vec<u8>, tag: u8, value: &impl Serialize) {
    let start = frame.len();
    frame.extend_from_slice(&[tag, 0, 0, 0, 0]);
    pack::pack(frame, value);
    let length =
        u32::try_from(frame.len() - start - PREFIX_BYTES).expect("a row is made of one request, which is far below 4 GB");
    frame[start + 1..start + PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
}

/// What arrives on a feed.
#[derive(Debug)]
pub enum Incoming {
    /// Changes.
    Batch(Box<Batch>),
    /// A sign of life.
    Beat(Beat),
}

/// Puts batches and beats together out of what arrives. After an error nothing it says means anything.
#[derive(Debug, Default)]
pub struct Intake {
    /// The beginning of a record whose end has not come.
    partial: Vec<u8>,
    open: Option<Box<Batch>>,
    /// Bytes of the batch that is open.
    bytes: usize,
    causes: Causes,
}

impl Intake {
    /// Nothing read yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a frame: what it completes, in order.
    pub fn take(&mut self, frame: &[u8]) -> Result<Vec<Incoming>, FeedError> {
        let mut done = Vec::new();
        let mut partial = std::mem::take(&mut self.partial);
        let mut rest: &[u8] = if partial.is_empty() {
            frame
        } else {
            partial.extend_from_slice(frame);
            &partial
        };
        while let Some((tag, body, after)) = split(rest)? {
            done.extend(self.record(tag, body)?);
            rest = after;
        }
        self.partial = rest.to_vec();
        Ok(done)
    }

    /// Whether nothing is half read.
    pub fn is_between(&self) -> bool {
        self.partial.is_empty() && self.open.is_none()
    }

    fn record(&mut self, tag: u8, body: &[u8]) -> Result<Option<Incoming>, FeedError> {
        match tag {
            tag::BEAT => return Ok(Some(Incoming::Beat(unpack(body)?))),
            tag::BEGIN if self.open.is_none() => {
                let head = Head::from(unpack::<HeadRecord>(body)?);
                self.open = Some(Box::new(Batch { head, ..Batch::default() }));
                self.bytes = 0;
                return Ok(None);
            }
            tag if tag & tag::MAY_SKIP != 0 => return Ok(None),
            _ => {}
        }
        self.bytes += body.len() + PREFIX_BYTES;
        if self.bytes > BATCH_BYTES_MAX {
            return Err(FeedError::TooLarge(BATCH_BYTES_MAX));
        }
        let Some(batch) = &mut self.open else { return Err(FeedError::Record(format!("record {tag} outside a batch"))) };
        match tag {
            tag::END => return Ok(self.open.take().map(Incoming::Batch)),
            tag::NODE => {
                let mut node: crate::rebuild::NodeRecord = unpack(body)?;
                if let Some(row) = Arc::get_mut(&mut node.row) {
                    self.causes.share(&mut row.cause);
                }
                batch.nodes.push(node);
            }
            tag::NODE_INDEXES => batch.hosts.push(unpack::<HostIndexes>(body)?),
            tag::SERVICE => {
                let mut row: crate::row::Row<_> = unpack(body)?;
                self.causes.share(&mut row.cause);
                batch.services.push(Arc::new(row));
            }
            tag::CHECK => {
                let mut row: crate::row::Row<_> = unpack(body)?;
                self.causes.share(&mut row.cause);
                batch.checks.push(Arc::new(row));
            }
            tag::SERVICE_INDEXES => batch.buckets.push(unpack(body)?),
            tag::GONE => batch.gone.push(unpack(body)?),
            tag::MARK => batch.marks.push(unpack(body)?),
            tag::MARK_GONE => batch.marks_gone.push(unpack(body)?),
            unknown => return Err(FeedError::Record(format!("unknown record {unknown}"))),
        }
        Ok(None)
    }
}

/// A record's tag and body, and what follows it.
type Split<'a> = (u8, &'a [u8], &'a [u8]);

/// The first record; `None` while its end is not there.
fn split(bytes: &[u8]) -> Result<Option<Split<'_>>, FeedError> {
    let Some((&[tag, a, b, c, d], rest)) = bytes.split_first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > RECORD_BYTES_MAX {
        return Err(FeedError::Record(format!("a record of {length} bytes")));
    }
    Ok(rest.split_at_checked(length).map(|(body, after)| (tag, body, after)))
}

fn unpack<T: DeserializeOwned>(body: &[u8]) -> Result<T, FeedError> {
    pack::unpack(body).map_err(|error| FeedError::Record(error.to_string()))
}

/// The last causes read, by where their hash puts them.
#[derive(Debug, Default)]
struct Causes {
    last: Vec<Option<Arc<Cause>>>,
    hasher: foldhash::fast::FixedState,
}

impl Causes {
    /// Makes equal causes one.
    fn share(&mut self, cause: &mut Arc<Cause>) {
        use std::hash::BuildHasher;
        self.last.resize(CAUSES, None);
        let place = self.hasher.hash_one(&**cause) as usize % CAUSES;
        match &mut self.last[place] {
            Some(known) if *known == *cause => cause.clone_from(known),
            other => *other = Some(cause.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cause::CauseKind;
    use crate::command::Removed;
    use crate::grave::Gone;
    use crate::meta::Meta;
    use crate::name::{CheckId, NodeName, ServiceId, ServiceName};
    use crate::rebuild::{NodeRecord, ServiceIndexes};
    use crate::removal::{MarkedRow, RemovalMark};
    use crate::row::{Check, Node, Row, Service, Weights};
    use crate::status::Status;

    fn row<T>(value: T) -> Row<T> {
        Row {
            node: NodeName::new("N").expect("a name"),
            value,
            owner: Some(Uuid::from_u128(8)),
            generation: 3,
            cause: Arc::new(Cause::new("a", CauseKind::Api, 5, "r")),
            create_index: 4,
            modify_index: 5,
            owner_index: 6,
        }
    }

    fn service(id: &str) -> Service {
        Service {
            id: ServiceId::new(id).expect("a name"),
            name: ServiceName::new("Web").expect("a name"),
            tags: vec!["t".into()],
            address: "".into(),
            tagged_addresses: Default::default(),
            meta: Meta::new(),
            port: 80,
            socket_path: "".into(),
            enable_tag_override: false,
            weights: Weights::default(),
            rare: None,
        }
    }

    /// A record of every kind.
    fn full() -> Batch {
        let check = Check {
            id: CheckId::new("c").expect("a name"),
            name: "".into(),
            status: Status::Critical,
            notes: "".into(),
            output: "o".into(),
            service_id: Some(ServiceId::new("s").expect("a name")),
            service_name: Some(ServiceName::new("Web").expect("a name")),
            service_tags: vec![],
            kind: "ttl".into(),
            interval: "".into(),
            timeout: "".into(),
            definition: None,
        };
        let about =
            Node { id: Some(Uuid::from_u128(8)), address: "::1".into(), tagged_addresses: Meta::new(), meta: Meta::new() };
        let name = NodeName::new("n").expect("a name");
        let mark = RemovalMark {
            owner: Uuid::from_u128(8),
            removed: Removed::Service(ServiceId::new("g").expect("a name"), 2),
            cause: Arc::new(Cause::new("a", CauseKind::Api, 5, "r")),
            index: 6,
            history: Some(Uuid::from_u128(15)),
        };
        let indexes = TableIndexes {
            nodes: 1,
            nodes_removed: 2,
            services: 3,
            services_removed: 4,
            checks: 5,
            passing: 6,
            warning: 7,
            critical: 300,
            keys: 0,
        };
        Batch {
            head: Head {
                from: Some(2),
                to: 6,
                time_ms: 70,
                history: Some(Uuid::from_u128(15)),
                indexes,
                all_marks: true,
                interest: None,
            },
            nodes: vec![NodeRecord { row: Arc::new(row(about)), index: 5, checks_index: 6 }],
            hosts: vec![HostIndexes { name: name.clone(), index: 3, checks_index: 4 }],
            services: vec![Arc::new(row(service("s")))],
            checks: vec![Arc::new(row(check))],
            buckets: vec![ServiceIndexes {
                name: ServiceName::new("Web").expect("a name"),
                rows_index: 4,
                checks_index: 5,
                index: 6,
            }],
            gone: vec![
                Gone::Node(name.clone()),
                Gone::Service(name.clone(), ServiceId::new("g").expect("a name")),
                Gone::Check(name, CheckId::new("d").expect("a name")),
            ],
            marks: vec![Arc::new(mark)],
            marks_gone: vec![(Uuid::from_u128(9), MarkedRow::Check(CheckId::new("e").expect("a name")))],
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn written(batch: &Batch) -> Vec<u8> {
        batch.frames().flatten().collect()
    }

    fn read(bytes: &[u8]) -> Result<Vec<Incoming>, FeedError> {
        Intake::new().take(bytes)
    }

    #[test]
    fn the_form_between_agents_stays_as_it_is() {
        assert_eq!(hex(&written(&full())), GOLDEN.concat());
        let beat = Beat { applied: 6, time_ms: 70, known_leader: true, last_contact_ms: 8 };
        let golden =
            "0a0000003284a76170706c69656406a774696d655f6d7346ac6b6e6f776e5f6c6561646572c3af6c6173745f636f6e746163745f6d7308";
        assert_eq!(hex(&beat.frame()), golden);
        assert!(matches!(&*read(&beat.frame()).expect("it was just written"), [Incoming::Beat(read)] if *read == beat));
    }

    #[test]
    fn frames_may_be_cut_anywhere() {
        let bytes = written(&full());
        for cut in 0..=bytes.len() {
            let mut intake = Intake::new();
            let mut arrived = intake.take(&bytes[..cut]).expect("it was just written");
            arrived.extend(intake.take(&bytes[cut..]).expect("it was just written"));
            assert!(intake.is_between());
            let [Incoming::Batch(batch)] = &*arrived else { panic!("{arrived:?}") };
            assert_eq!(written(batch), bytes);
        }
    }

    #[test]
    fn a_row_larger_than_a_frame_is_sent_in_several() {
        let mut batch = full();
        batch.services = (0..4)
            .map(|n| {
                let tags = vec!["x".repeat(FRAME_BYTES_MAX * n / 2).into()];
                Arc::new(row(Service { tags, ..service(&format!("s{n}")) }))
            })
            .collect();
        let mut intake = Intake::new();
        let mut arrived = Vec::new();
        for frame in batch.frames() {
            assert!(frame.len() <= FRAME_BYTES_MAX && !frame.is_empty());
            arrived.extend(intake.take(&frame).expect("it was just written"));
        }
        let [Incoming::Batch(read)] = &*arrived else { panic!("{arrived:?}") };
        assert_eq!(read.services, batch.services);
    }

    #[test]
    fn damaged_bytes_and_false_lengths_are_errors_or_other_batches_but_no_panic() {
        let whole = written(&full());
        for at in 0..whole.len() {
            for byte in [0x00, 0x93, 0xc1, 0xc6, 0xdb, 0xdd, 0xdf, 0xff, whole[at] ^ 1] {
                let mut other = whole.clone();
                other[at] = byte;
                let _ = read(&other);
            }
        }
        assert!(matches!(read(&[tag::NODE, 0xff, 0xff, 0xff, 0xff]), Err(FeedError::Record(_))));
        assert!(matches!(read(&[99, 0, 0, 0, 0]), Err(FeedError::Record(_))));
        let deep = [&[tag::BEGIN, 0, 1, 0x86, 0xa5], b"\x81\xa3new".as_slice(), &[0x91; 100_000]].concat();
        assert!(matches!(read(&deep), Err(FeedError::Record(_))));
        let mut intake = Intake::new();
        assert!(intake.take(&[tag::NODE, 3, 0, 0, 0, 1]).expect("it may be whole yet").is_empty());
        assert!(intake.partial.capacity() < 1024, "a length promises nothing");
    }

    #[test]
    fn what_may_be_skipped_is_and_nothing_else() {
        let newer = [&[tag::MAY_SKIP | 33, 0, 0, 0, 1, 0xc0][..], &written(&full())].concat();
        assert!(matches!(&*read(&newer).expect("the rest is known"), [Incoming::Batch(_)]));
        let mut within = Vec::new();
        put(&mut within, tag::BEGIN, &HeadRecord::from(&full().head));
        put(&mut within, 34, &1);
        assert!(matches!(read(&within), Err(FeedError::Record(_))));
    }

    #[test]
    fn a_newer_servers_head_is_understood() {
        #[derive(Serialize)]
        struct Newer {
            to: Index,
            history: Option<Uuid>,
            indexes: Vec<Index>,
            future: &'static str,
        }
        let mut bytes = Vec::new();
        put(&mut bytes, tag::BEGIN, &Newer { to: 9, history: None, indexes: (1..=12).collect(), future: "x" });
        bytes.extend_from_slice(&[tag::END, 0, 0, 0, 0]);
        let arrived = read(&bytes).expect("the rest has defaults");
        let [Incoming::Batch(batch)] = &*arrived else { panic!("{arrived:?}") };
        assert_eq!((batch.from(), batch.head.to, batch.head.indexes.critical), (None, 9, 8));
    }

    /// Changed only when a field is added.
    const GOLDEN: &[&str] = &[
        "010000004c86a466726f6d02a2746f06a774696d655f6d7346a7686973746f7279c4100000000000000000000000000000000fa7696e6465",
        "7865739801020304050607cd012ca9616c6c5f6d61726b73c3070000000881a46e6f6465a16e070000000e81a77365727669636592a16ea1",
        "67070000000c81a5636865636b92a16ea16402000000d783a3726f7788a46e6f6465a14ea576616c756584a26964c4100000000000000000",
        "0000000000000008a761646472657373a33a3a31b07461676765645f61646472657373657380a46d65746180a56f776e6572c41000000000",
        "000000000000000000000008aa67656e65726174696f6e03a5636175736584a56163746f72a161a46b696e64a3617069a561745f6d7305a6",
        "726561736f6ea172ac6372656174655f696e64657804ac6d6f646966795f696e64657805ab6f776e65725f696e64657806a5696e64657805",
        "ac636865636b735f696e64657806060000001d83a46e616d65a16ea5696e64657803ac636865636b735f696e64657804030000010488a46e",
        "6f6465a14ea576616c75658ba26964a173a46e616d65a3576562a47461677391a174a761646472657373a0b07461676765645f6164647265",
        "7373657380a46d65746180a4706f727450ab736f636b65745f70617468a0b3656e61626c655f7461675f6f76657272696465c2a777656967",
        "68747382a770617373696e6701a77761726e696e6701a472617265c0a56f776e6572c41000000000000000000000000000000008aa67656e",
        "65726174696f6e03a5636175736584a56163746f72a161a46b696e64a3617069a561745f6d7305a6726561736f6ea172ac6372656174655f",
        "696e64657804ac6d6f646966795f696e64657805ab6f776e65725f696e64657806040000010388a46e6f6465a14ea576616c75658ca26964",
        "a163a46e616d65a0a6737461747573a8637269746963616ca56e6f746573a0a66f7574707574a16faa736572766963655f6964a173ac7365",
        "72766963655f6e616d65a3576562ac736572766963655f7461677390a46b696e64a374746ca8696e74657276616ca0a774696d656f7574a0",
        "aa646566696e6974696f6ec0a56f776e6572c41000000000000000000000000000000008aa67656e65726174696f6e03a5636175736584a5",
        "6163746f72a161a46b696e64a3617069a561745f6d7305a6726561736f6ea172ac6372656174655f696e64657804ac6d6f646966795f696e",
        "64657805ab6f776e65725f696e64657806050000002b84a46e616d65a3576562aa726f77735f696e64657804ac636865636b735f696e6465",
        "7805a5696e64657806090000001c92c4100000000000000000000000000000000981a5636865636ba165080000007785a56f776e6572c410",
        "00000000000000000000000000000008a772656d6f76656481a77365727669636592a16702a5636175736584a56163746f72a161a46b696e",
        "64a3617069a561745f6d7305a6726561736f6ea172a5696e64657806a7686973746f7279c4100000000000000000000000000000000f0000",
        "000000",
    ];
}
