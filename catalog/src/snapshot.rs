//! The whole state as a stream of records, with a checksum: what snapshots, and later feeds, carry.

use std::io::{self, Read, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use uuid::Uuid;

use crate::error::SnapshotError;
use crate::grave::Gone;
use crate::name::{NodeName, ServiceName};
use crate::past::{Change, Subject};
use crate::removal::RemovalMark;
use crate::row::{Check, Entry, Index, Instance, Node, Row, Service};
use crate::session::LogSession;
use crate::state::{Bucket, Host, State, TableIndexes};

const MAGIC: &[u8; 8] = b"mustersn";
const VERSION: u16 = 1;
/// Largest record: a key's value may have any size that the KV limit was set to, so this only stops a damaged length.
const RECORD_BYTES_MAX: usize = 64 << 20;

/// Tags of records; never reused. Unknown ones are an error: leaving rows out would be losing them.
mod tag {
    pub(super) const END: u8 = 0;
    pub(super) const HEAD: u8 = 1;
    pub(super) const NODE: u8 = 2;
    pub(super) const SERVICE: u8 = 3;
    pub(super) const CHECK: u8 = 4;
    pub(super) const SERVICE_INDEXES: u8 = 5;
    pub(super) const KEY: u8 = 6;
    pub(super) const GRAVE: u8 = 7;
    pub(super) const REMOVAL: u8 = 8;
    pub(super) const RUN: u8 = 9;
    pub(super) const CHANGE: u8 = 10;
}

#[derive(Serialize, Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Head {
    applied: Index,
    time_ms: u64,
    history: Option<Uuid>,
    indexes: TableIndexes,
    trimmed: (Index, Index),
}

#[derive(Serialize, Deserialize)]
struct NodeRecord {
    row: Row<Node>,
    index: Index,
    checks_index: Index,
}

#[derive(Serialize, Deserialize)]
struct ServiceIndexes {
    name: ServiceName,
    rows_index: Index,
    checks_index: Index,
    index: Index,
}

#[derive(Serialize, Deserialize)]
struct ChangeRecord {
    node: NodeName,
    subject: Subject,
    change: Change,
}

impl State {
    /// Writes everything, record by record: no copy of the state is made.
    pub fn write_to(&self, to: impl Write) -> io::Result<()> {
        let mut out = Writer { to, crc: crc32fast::Hasher::new(), record: Vec::new() };
        out.raw(MAGIC)?;
        out.raw(&VERSION.to_be_bytes())?;
        let head = Head {
            applied: self.applied,
            time_ms: self.time_ms,
            history: self.history,
            indexes: self.indexes.clone(),
            trimmed: self.graves.trimmed(),
        };
        out.record(tag::HEAD, &head)?;
        for host in self.nodes.values() {
            let record = NodeRecord { row: (*host.row).clone(), index: host.index, checks_index: host.checks_index };
            out.record(tag::NODE, &record)?;
        }
        for row in self.services.values() {
            out.record(tag::SERVICE, &**row)?;
        }
        for row in self.checks.values() {
            out.record(tag::CHECK, &**row)?;
        }
        for bucket in self.buckets.values() {
            let record = ServiceIndexes {
                name: bucket.name.clone(),
                rows_index: bucket.rows_index,
                checks_index: bucket.checks_index,
                index: bucket.index,
            };
            out.record(tag::SERVICE_INDEXES, &record)?;
        }
        for entry in self.keys.values() {
            out.record(tag::KEY, &**entry)?;
        }
        for grave in self.graves.iter() {
            out.record(tag::GRAVE, &grave)?;
        }
        for mark in self.removals.iter() {
            out.record(tag::REMOVAL, mark)?;
        }
        for run in self.runs.iter() {
            out.record(tag::RUN, &run)?;
        }
        for ((node, subject), change) in self.past.iter() {
            let record = ChangeRecord { node: node.clone(), subject: subject.clone(), change: change.clone() };
            out.record(tag::CHANGE, &record)?;
        }
        out.raw(&[tag::END])?;
        let crc = out.crc.finalize();
        out.to.write_all(&crc.to_be_bytes())?;
        out.to.flush()
    }

    /// Reads what [`State::write_to`] wrote. Memory grows with what was read, never with what a length promises.
    pub fn read_from(from: impl Read) -> Result<Self, SnapshotError> {
        let mut from = Reader { from, crc: crc32fast::Hasher::new(), offset: 0, record: Vec::new() };
        let mut start = [0; 10];
        from.raw(&mut start)?;
        if start[..8] != *MAGIC {
            return Err(from.damaged("this is no snapshot of muster"));
        }
        let version = u16::from_be_bytes([start[8], start[9]]);
        if version != VERSION {
            return Err(SnapshotError::Version(version));
        }
        let mut state = State::default();
        let mut indexes: Vec<ServiceIndexes> = Vec::new();
        loop {
            match from.next()? {
                tag::END => break,
                tag::HEAD => {
                    let head: Head = from.body()?;
                    state.applied = head.applied;
                    state.time_ms = head.time_ms;
                    state.history = head.history;
                    state.indexes = head.indexes;
                    state.graves.set_trimmed(head.trimmed);
                }
                tag::NODE => {
                    let NodeRecord { row, index, checks_index } = from.body()?;
                    let node = row.node.folded();
                    if let Some(id) = row.id {
                        state.node_ids.insert(id, node.clone());
                    }
                    state.nodes.insert(node, Arc::new(Host { row: Arc::new(row), checks: SmallVec::new(), index, checks_index }));
                }
                tag::SERVICE => {
                    let row: Row<Service> = from.body()?;
                    state.services.insert((row.node.folded(), row.id.clone()), Arc::new(row));
                }
                tag::CHECK => {
                    let row: Row<Check> = from.body()?;
                    state.checks.insert((row.node.folded(), row.id.clone()), Arc::new(row));
                }
                tag::SERVICE_INDEXES => indexes.push(from.body()?),
                tag::KEY => {
                    let entry: Entry = from.body()?;
                    state.keys.insert(entry.key.clone(), Arc::new(entry));
                }
                tag::GRAVE => {
                    let (index, gone): (Index, Gone) = from.body()?;
                    state.graves.dig(gone, index);
                }
                tag::REMOVAL => state.removals.mark(from.body::<RemovalMark>()?),
                tag::RUN => {
                    let (agent, session): (Uuid, LogSession) = from.body()?;
                    state.runs.restore(agent, session);
                }
                tag::CHANGE => {
                    let ChangeRecord { node, subject, change } = from.body()?;
                    state.past.restore((node, subject), change);
                }
                unknown => return Err(from.damaged(&format!("unknown record {unknown}"))),
            }
        }
        from.finish()?;
        state.assemble(indexes);
        Ok(state)
    }

    /// Makes instances and buckets out of the rows.
    fn assemble(&mut self, indexes: Vec<ServiceIndexes>) {
        let mut own: std::collections::BTreeMap<_, SmallVec<[Arc<Row<Check>>; 2]>> = std::collections::BTreeMap::new();
        for ((node, _), check) in &self.checks {
            match &check.service_id {
                Some(id) => own.entry((node.clone(), id.clone())).or_default().push(check.clone()),
                None => {
                    if let Some(host) = self.nodes.get_mut(node) {
                        Arc::make_mut(host).checks.push(check.clone());
                    }
                }
            }
        }
        let mut buckets: std::collections::BTreeMap<ServiceName, Bucket> = std::collections::BTreeMap::new();
        for (key, service) in &self.services {
            let Some(host) = self.nodes.get(&key.0) else { continue };
            let checks = own.remove(key).unwrap_or_default().into_iter().chain(host.checks.iter().cloned());
            let instance = Instance::new(host.row.clone(), service.clone(), checks);
            let name = service.name.folded();
            buckets.entry(name).or_insert_with(|| Bucket::new(service.name.clone())).instances.push_back(Arc::new(instance));
        }
        for ServiceIndexes { name, rows_index, checks_index, index } in indexes {
            if let Some(bucket) = buckets.get_mut(&name.folded()) {
                *bucket = Bucket { name, rows_index, checks_index, index, instances: std::mem::take(&mut bucket.instances) };
            }
        }
        self.buckets = buckets.into_iter().map(|(name, bucket)| (name, Arc::new(bucket))).collect();
    }
}

struct Writer<W> {
    to: W,
    crc: crc32fast::Hasher,
    record: Vec<u8>,
}

impl<W: Write> Writer<W> {
    fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.crc.update(bytes);
        self.to.write_all(bytes)
    }

    fn record(&mut self, tag: u8, value: &impl Serialize) -> io::Result<()> {
        let mut record = std::mem::take(&mut self.record);
        record.clear();
        value.serialize(&mut rmp_serde::Serializer::new(&mut record).with_struct_map()).map_err(io::Error::other)?;
        let length = u32::try_from(record.len()).map_err(io::Error::other)?;
        self.raw(&[tag])?;
        self.raw(&length.to_be_bytes())?;
        self.raw(&record)?;
        self.record = record;
        Ok(())
    }
}

struct Reader<R> {
    from: R,
    crc: crc32fast::Hasher,
    offset: u64,
    record: Vec<u8>,
}

impl<R: Read> Reader<R> {
    fn damaged(&self, what: &str) -> SnapshotError {
        SnapshotError::Damaged { offset: self.offset, what: what.to_owned() }
    }

    fn raw(&mut self, bytes: &mut [u8]) -> Result<(), SnapshotError> {
        self.from.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("it ends too early"),
            _ => SnapshotError::Io(error),
        })?;
        self.crc.update(bytes);
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Reads the next record's tag, and its body into `self.record`.
    fn next(&mut self) -> Result<u8, SnapshotError> {
        let mut tag = [0];
        self.raw(&mut tag)?;
        if tag[0] == tag::END {
            return Ok(tag::END);
        }
        let mut length = [0; 4];
        self.raw(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > RECORD_BYTES_MAX {
            return Err(self.damaged(&format!("a record of {length} bytes")));
        }
        self.record.clear();
        let read = (&mut self.from).take(length as u64).read_to_end(&mut self.record)?;
        if read < length {
            return Err(self.damaged("it ends within a record"));
        }
        self.crc.update(&self.record);
        self.offset += length as u64;
        Ok(tag[0])
    }

    fn body<T: for<'de> Deserialize<'de>>(&self) -> Result<T, SnapshotError> {
        rmp_serde::from_slice(&self.record).map_err(|error| self.damaged(&error.to_string()))
    }

    fn finish(mut self) -> Result<(), SnapshotError> {
        let expected = self.crc.clone().finalize();
        let mut crc = [0; 4];
        self.raw(&mut crc)?;
        if u32::from_be_bytes(crc) != expected {
            return Err(self.damaged("the checksum does not fit"));
        }
        Ok(())
    }
}
