//! The form of batches and beats between agents, and in a client's copy on disk.
//!
//! ```text
//! stream: record · record · …        in frames that may end anywhere; a frame that begins a batch begins with its head
//! record: tag 1 · length 4 · body    (length big-endian; the body a named MessagePack value)
//! batch:  BEGIN · rows … · END
//! ```

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Batch, Beat, Head, HostIndexes};
use crate::cause::Cause;
use crate::error::FeedError;
use crate::row::Index;
use crate::state::TableIndexes;

/// Largest frame: what one answer on a shared connection may take before others have their turn.
pub const FRAME_BYTES_MAX: usize = 256 << 10;

/// Largest record: the largest row that an HTTP body can make, so this only stops a damaged length.
const RECORD_BYTES_MAX: usize = 64 << 20;

/// Most bytes of one batch. A catalog of a million instances takes less.
const BATCH_BYTES_MAX: usize = 1 << 30;

/// Deepest nesting in a record: rows need a handful of levels, and a field that is left out must not fill the stack.
const DEPTH_MAX: usize = 32;

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
        let HeadRecord { from, to, time_ms, history, all_marks, .. } = record;
        Self { from, to, time_ms, history, indexes, all_marks }
    }
}

impl Beat {
    /// A frame of its own.
    pub fn frame(&self) -> Bytes {
        let mut frame = BytesMut::new();
        put(&mut frame, tag::BEAT, self);
        frame.freeze()
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
        let mut frame = BytesMut::new();
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
                frame.put_slice(&[tag::END, 0, 0, 0, 0]);
                self.next = Next::Nothing;
                return Some(frame.freeze());
            }
            at += 1;
        }
        self.next = Next::Rows(at);
        Some(frame.freeze())
    }
}

impl Batch {
    /// Writes the record at this place among all of them; says whether there is one.
    fn put(&self, frame: &mut BytesMut, mut at: usize) -> bool {
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

fn put(frame: &mut BytesMut, tag: u8, value: &impl Serialize) {
    let start = frame.len();
    frame.put_slice(&[tag, 0, 0, 0, 0]);
    let mut packer = rmp_serde::Serializer::new(frame.writer()).with_struct_map();
    value.serialize(&mut packer).expect("writing plain data to memory does not fail");
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

/// The first record's tag and body, and what follows it; `None` while its end is not there.
fn split(bytes: &[u8]) -> Result<Option<(u8, &[u8], &[u8])>, FeedError> {
    let Some((&[tag, a, b, c, d], rest)) = bytes.split_first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > RECORD_BYTES_MAX {
        return Err(FeedError::Record(format!("a record of {length} bytes")));
    }
    Ok(rest.split_at_checked(length).map(|(body, after)| (tag, body, after)))
}

fn unpack<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, FeedError> {
    let mut unpacker = rmp_serde::Deserializer::from_read_ref(body);
    unpacker.set_max_depth(DEPTH_MAX);
    T::deserialize(&mut unpacker).map_err(|error| FeedError::Record(error.to_string()))
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
