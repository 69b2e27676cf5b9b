//! The whole state as a stream of records, with a checksum: what a server keeps and sends to another.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::coordinate::Placed;
use crate::error::SnapshotError;
use crate::grave::Gone;
use crate::name::NodeName;
use crate::pack;
use crate::past::{Change, Subject};
use crate::rebuild::{NodeRecord, ServiceIndexes};
use crate::removal::RemovalMark;
use crate::row::{Entry, Index};
use crate::run::LogSession;
use crate::session::SessionIndexes;
use crate::state::{State, TableIndexes};

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
    pub(super) const AUTOPILOT: u8 = 11;
    pub(super) const SESSION: u8 = 12;
    pub(super) const SESSION_INDEXES: u8 = 13;
    pub(super) const HELD_BACK: u8 = 14;
    pub(super) const STAGED: u8 = 30;
    pub(super) const STAGED_CHUNK: u8 = 31;
    pub(super) const QUERY: u8 = 32;
    pub(super) const QUERIES_INDEX: u8 = 33;
    pub(super) const COORDINATE: u8 = 40;
    pub(super) const COORDINATES_INDEX: u8 = 41;
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
            out.record(tag::NODE, &NodeRecord::from(&**host))?;
        }
        for row in self.services.values() {
            out.record(tag::SERVICE, &**row)?;
        }
        for row in self.checks.values() {
            out.record(tag::CHECK, &**row)?;
        }
        let mut buckets: Vec<_> = self.buckets.iter().collect();
        buckets.sort_unstable_by_key(|(name, _)| *name); // One state, one stream: the hash map has another order in each process.
        for (_, bucket) in buckets {
            out.record(tag::SERVICE_INDEXES, &ServiceIndexes::from(&**bucket))?;
        }
        for entry in self.keys.values() {
            out.record(tag::KEY, &**entry)?;
        }
        for grave in self.graves.iter() {
            out.record(tag::GRAVE, &grave)?;
        }
        for mark in self.removals.iter() {
            out.record(tag::REMOVAL, &**mark)?;
        }
        for run in self.runs.iter() {
            out.record(tag::RUN, &run)?;
        }
        for ((node, subject), change) in self.past.iter() {
            let record = ChangeRecord { node: node.clone(), subject: subject.clone(), change: change.clone() };
            out.record(tag::CHANGE, &record)?;
        }
        if let Some(row) = &self.autopilot {
            out.record(tag::AUTOPILOT, &**row)?;
        }
        for placed in self.coordinates.values() {
            out.record(tag::COORDINATE, &**placed)?;
        }
        if self.coordinates_index > 0 {
            out.record(tag::COORDINATES_INDEX, &self.coordinates_index)?;
        }
        for session in self.sessions.iter() {
            out.record(tag::SESSION, &**session)?;
        }
        let indexes = self.sessions.indexes();
        if indexes.0 != SessionIndexes::default() {
            out.record(tag::SESSION_INDEXES, &indexes)?;
        }
        for held_back in self.sessions.held_back() {
            out.record(tag::HELD_BACK, &held_back)?;
        }
        if let Some(staged) = &self.staged {
            out.record(tag::STAGED, staged)?;
            for chunk in &staged.chunks {
                out.record(tag::STAGED_CHUNK, chunk)?;
            }
        }
        for row in self.queries.iter() {
            out.record(tag::QUERY, &**row)?;
        }
        if self.queries.index() > 0 {
            out.record(tag::QUERIES_INDEX, &self.queries.index())?;
        }
        out.raw(&[tag::END])?;
        let crc = out.crc.finalize();
        out.to.write_all(&crc.to_be_bytes())?;
        out.to.flush()
    }

    /// Reads what [`State::write_to`] wrote. Memory grows with what was read, never with what a length promises.
    pub fn read_from(mut from: impl Read) -> Result<Self, SnapshotError> {
        let (mut state, indexes) = read_rows(&mut from, None)?;
        state.assemble(indexes);
        Ok(state)
    }
}

/// Reads all rows, which are to be assembled then. With a survey nothing of them is kept: what can be read so can be read.
pub(crate) fn read_rows(
    from: &mut dyn Read,
    mut survey: Option<&mut Survey>,
) -> Result<(State, Vec<ServiceIndexes>), SnapshotError> {
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
        let tag = from.next()?;
        match tag {
            tag::END => break,
            tag::HEAD => {
                let head: Head = from.body()?;
                state.applied = head.applied;
                state.time_ms = head.time_ms;
                state.history = head.history;
                state.indexes = head.indexes;
                state.graves.set_trimmed(head.trimmed);
            }
            tag::NODE => state.add_node(from.body()?),
            tag::SERVICE => state.add_service(from.body()?),
            tag::CHECK => state.add_check(from.body()?),
            tag::SERVICE_INDEXES => indexes.push(from.body()?),
            tag::KEY => {
                let entry: Entry = from.body()?;
                state.sessions.passes(&entry.key, None, entry.session);
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
            tag::AUTOPILOT => state.autopilot = Some(Arc::new(from.body()?)),
            tag::STAGED => state.staged = Some(from.body()?),
            tag::STAGED_CHUNK => {
                let chunk = from.body()?;
                state.staged.get_or_insert_default().chunks.push_back(chunk);
            }
            tag::QUERY => state.queries.restore(from.body()?),
            tag::QUERIES_INDEX => state.queries.set_index(from.body()?),
            tag::SESSION => state.sessions.put(Arc::new(from.body()?)),
            tag::SESSION_INDEXES => state.sessions.set_indexes(from.body()?),
            tag::HELD_BACK => {
                let (until, key): (u64, Arc<str>) = from.body()?;
                state.sessions.hold_back(key, until);
            }
            tag::COORDINATE => {
                let placed: Placed = from.body()?;
                state.coordinates.insert(placed.node.folded(), Arc::new(placed));
            }
            tag::COORDINATES_INDEX => state.coordinates_index = from.body()?,
            unknown => return Err(from.damaged(&format!("unknown record {unknown}"))),
        }
        if let Some(survey) = &mut survey {
            survey.count(tag, from.record.len(), &state);
            state = State::default();
            indexes.clear();
        }
    }
    from.finish()?;
    Ok((state, indexes))
}

/// What is in a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// Up to which entry of the log it goes.
    pub index: Index,
    /// The leader's time of the last command, in milliseconds since 1970.
    pub time_ms: u64,
    /// Which history it is of.
    pub history: Option<Uuid>,
    /// Records by kind: how many, and their bytes.
    pub kinds: BTreeMap<&'static str, (u64, u64)>,
    /// The same of keys, by their first parts.
    pub keys: BTreeMap<String, (u64, u64)>,
    /// How many parts of a key, and under which prefix; nothing is said of keys without.
    pub detail: Option<(usize, String)>,
}

impl Survey {
    /// Reads and checks all of it; of its rows nothing is kept.
    pub fn of(mut from: impl Read, detail: Option<(usize, String)>) -> Result<Self, SnapshotError> {
        let mut survey = Self { detail, ..Self::default() };
        read_rows(&mut from, Some(&mut survey))?;
        Ok(survey)
    }

    fn count(&mut self, tag: u8, bytes: usize, read: &State) {
        if tag == tag::HEAD {
            (self.index, self.time_ms, self.history) = (read.applied, read.time_ms, read.history);
        }
        add(self.kinds.entry(kind(tag)).or_default(), bytes);
        if let (Some((depth, prefix)), Some(key)) = (&self.detail, read.keys.keys().next())
            && key.starts_with(prefix)
        {
            let end = key.match_indices('/').nth(depth.saturating_sub(1)).map_or(key.len(), |(at, _)| at);
            add(self.keys.entry(key[..end].to_owned()).or_default(), bytes);
        }
    }
}

fn add((count, sum): &mut (u64, u64), bytes: usize) {
    *count += 1;
    *sum += bytes as u64;
}

fn kind(tag: u8) -> &'static str {
    match tag {
        tag::HEAD => "Head",
        tag::NODE => "Node",
        tag::SERVICE => "Service",
        tag::CHECK => "Check",
        tag::SERVICE_INDEXES => "ServiceIndexes",
        tag::KEY => "KVS",
        tag::GRAVE => "Tombstone",
        tag::REMOVAL => "RemovalMark",
        tag::RUN => "LogSession",
        tag::CHANGE => "Change",
        tag::AUTOPILOT => "Autopilot",
        tag::STAGED | tag::STAGED_CHUNK => "Restore",
        tag::QUERY | tag::QUERIES_INDEX => "PreparedQuery",
        _ => "Other",
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
        pack::pack(&mut record, value);
        let length = u32::try_from(record.len()).ok().filter(|_| record.len() <= RECORD_BYTES_MAX);
        let length =
            length.ok_or_else(|| io::Error::other(format!("a record of {} bytes could not be read back", record.len())))?;
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

    fn body<T: DeserializeOwned>(&self) -> Result<T, SnapshotError> {
        pack::unpack(&self.record).map_err(|error| self.damaged(&error.to_string()))
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

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::cause::{Cause, CauseKind};
    use crate::command::{Command, Deregister, Offer, Outcome, Proposal, Register, Run, Target};
    use crate::kv::{Kv, KvVerb};
    use crate::meta::Meta;
    use crate::name::{CheckId, ServiceId, ServiceName};
    use crate::row::{Check, Node, Service, Weights};
    use crate::status::Status;
    use crate::store::Store;

    /// A state with a record of every kind in it.
    fn small() -> State {
        let agent = Uuid::from_u128(0xa);
        let node = NodeName::new("N").expect("a name");
        let about = Node { id: Some(agent), address: "::1".into(), tagged_addresses: Meta::new(), meta: Meta::new() };
        let service = Service {
            id: ServiceId::new("s").expect("a name"),
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
        };
        let check = Check {
            id: CheckId::new("c").expect("a name"),
            name: "".into(),
            status: Status::Critical,
            notes: "".into(),
            output: "o".into(),
            service_id: Some(service.id.clone()),
            service_name: None,
            service_tags: vec![],
            kind: "".into(),
            interval: "".into(),
            timeout: "".into(),
            definition: None,
        };
        let other =
            Offer { generation: 4, ..Offer::unowned(Service { id: ServiceId::new("g").expect("a name"), ..service.clone() }) };
        let register = Register {
            node: node.clone(),
            about: Some(about),
            services: vec![Offer { generation: 3, ..Offer::unowned(service) }, other],
            checks: vec![Offer::unowned(check)],
            owner: Some(agent),
        };
        let set = |key: &str| Kv { key: key.into(), verb: KvVerb::Set { value: "v".into(), flags: 7, cas: None } };
        let gone = Target::Service(ServiceId::new("g").expect("a name"));
        let commands = [
            Command::OpenRun,
            Command::Found(Uuid::from_u128(0xf)),
            Command::Register(register),
            Command::Deregister(Deregister { node, target: gone, owner: None }),
            Command::Kv(set("k")),
            Command::Kv(set("x")),
            Command::Kv(Kv { key: "x".into(), verb: KvVerb::Delete { cas: None } }),
        ];
        let mut store = Store::new();
        for (number, command) in (0..).zip(commands) {
            let proposal = Proposal {
                request: Uuid::from_u128(1),
                run: Run { agent, epoch: 65536 },
                number,
                answered_below: number,
                time_ms: 5,
                cause: Cause::new("a", CauseKind::Api, 5, "r"),
                command,
            };
            assert!(!matches!(store.apply(number + 1, proposal).outcome, Outcome::Refused(_)));
        }
        store.state().clone()
    }

    fn written(state: &State) -> Vec<u8> {
        let mut bytes = Vec::new();
        state.write_to(&mut bytes).expect("memory takes all");
        bytes
    }

    /// The bytes with a checksum that fits them.
    fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_be_bytes());
        bytes
    }

    fn started() -> Vec<u8> {
        [MAGIC.as_slice(), &VERSION.to_be_bytes()].concat()
    }

    fn record(tag: u8, body: &[u8]) -> Vec<u8> {
        [&[tag], (body.len() as u32).to_be_bytes().as_slice(), body].concat()
    }

    #[test]
    fn the_form_on_disk_stays_as_it_is() {
        let hex: String = written(&small()).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, GOLDEN.concat());
    }

    #[test]
    fn a_cut_snapshot_is_an_error_at_every_byte() {
        let bytes = written(&small());
        for end in 0..bytes.len() {
            assert!(State::read_from(&bytes[..end]).is_err(), "cut at {end}");
        }
        assert_eq!(written(&State::read_from(&*bytes).expect("it is whole")), bytes);
    }

    #[test]
    fn a_flipped_bit_is_an_error_at_every_byte() {
        let mut bytes = written(&small());
        for at in 0..bytes.len() {
            for bit in [0x01, 0x80, 0xff] {
                bytes[at] ^= bit;
                assert!(State::read_from(&*bytes).is_err(), "byte {at} flipped by {bit:02x}");
                bytes[at] ^= bit;
            }
        }
    }

    #[test]
    fn a_length_promises_nothing() {
        let promise = [&[tag::KEY], (60_u32 << 20).to_be_bytes().as_slice(), b"short"].concat();
        let mut from = Reader { from: &*promise, crc: crc32fast::Hasher::new(), offset: 0, record: Vec::new() };
        assert!(matches!(from.next(), Err(SnapshotError::Damaged { .. })));
        assert!(from.record.capacity() < 1024, "{}", from.record.capacity());
        let promise = [&[tag::KEY], (65_u32 << 20).to_be_bytes().as_slice()].concat();
        let mut from = Reader { from: &*promise, crc: crc32fast::Hasher::new(), offset: 0, record: Vec::new() };
        assert!(matches!(from.next(), Err(SnapshotError::Damaged { offset: 5, .. })));
    }

    #[test]
    fn foreign_streams_are_told_apart() {
        assert!(matches!(State::read_from(&b"no snapshot of muster"[..]), Err(SnapshotError::Damaged { offset: 10, .. })));
        let newer = sealed([MAGIC.as_slice(), &2_u16.to_be_bytes(), &[tag::END]].concat());
        assert!(matches!(State::read_from(&*newer), Err(SnapshotError::Version(2))));
        let unknown = sealed([started(), record(99, b"\x80"), vec![tag::END]].concat());
        let Err(SnapshotError::Damaged { what, .. }) = State::read_from(&*unknown) else { panic!("it was taken") };
        assert_eq!(what, "unknown record 99");
        let empty = sealed([started(), vec![tag::END]].concat());
        assert_eq!(State::read_from(&*empty).expect("it is whole").last_applied(), 0);
    }

    #[test]
    fn a_field_of_a_newer_version_is_left_out() {
        let body = b"\x82\xa7applied\x07\xa3new\x93\x01\xc0\xa1x";
        let newer = sealed([started(), record(tag::HEAD, body), vec![tag::END]].concat());
        assert_eq!(State::read_from(&*newer).expect("it is whole").last_applied(), 7);
    }

    #[test]
    fn nesting_without_end_is_an_error() {
        let deep = [b"\x81\xa3new".as_slice(), &[0x91; 100_000]].concat();
        let bytes = sealed([started(), record(tag::HEAD, &deep), vec![tag::END]].concat());
        assert!(matches!(State::read_from(&*bytes), Err(SnapshotError::Damaged { .. })));
    }

    #[test]
    fn a_record_that_could_not_be_read_back_is_not_written() {
        let mut state = small();
        let mut entry = (**state.key("k").expect("it was set")).clone();
        entry.value = vec![0; RECORD_BYTES_MAX].into();
        state.keys.insert(entry.key.clone(), Arc::new(entry));
        assert!(state.write_to(io::sink()).is_err());
    }

    #[test]
    fn rows_without_their_node_are_no_panic() {
        let mut state = small();
        state.nodes.clear();
        let read = State::read_from(&*written(&state)).expect("it is whole");
        assert!(read.service("web").is_none());
    }

    /// Changed only together with the version, or when a field is added.
    const GOLDEN: &[&str] = &[
        "6d7573746572736e0001010000009d85a76170706c69656407a774696d655f6d7305a7686973746f7279c410000000000000000000000000",
        "0000000fa7696e646578657389a56e6f64657303ad6e6f6465735f72656d6f76656400a8736572766963657304b073657276696365735f72",
        "656d6f76656400a6636865636b7303a770617373696e6700a77761726e696e6700a8637269746963616c03a46b65797307a77472696d6d65",
        "6492000002000000b983a3726f7787a46e6f6465a14ea576616c756584a26964c4100000000000000000000000000000000aa76164647265",
        "7373a33a3a31b07461676765645f61646472657373657380a46d65746180a56f776e6572c0aa67656e65726174696f6e00a5636175736584",
        "a56163746f72a161a46b696e64a3617069a561745f6d7305a6726561736f6ea172ac6372656174655f696e64657803ac6d6f646966795f69",
        "6e64657803a5696e64657804ac636865636b735f696e6465780303000000f787a46e6f6465a14ea576616c75658ba26964a173a46e616d65",
        "a3576562a47461677391a174a761646472657373a0b07461676765645f61646472657373657380a46d65746180a4706f727450ab736f636b",
        "65745f70617468a0b3656e61626c655f7461675f6f76657272696465c2a77765696768747382a770617373696e6701a77761726e696e6701",
        "a472617265c0a56f776e6572c4100000000000000000000000000000000aaa67656e65726174696f6e03a5636175736584a56163746f72a1",
        "61a46b696e64a3617069a561745f6d7305a6726561736f6ea172ac6372656174655f696e64657803ac6d6f646966795f696e646578030400",
        "0000f587a46e6f6465a14ea576616c75658ca26964a163a46e616d65a0a6737461747573a8637269746963616ca56e6f746573a0a66f7574",
        "707574a16faa736572766963655f6964a173ac736572766963655f6e616d65a3576562ac736572766963655f7461677391a174a46b696e64",
        "a0a8696e74657276616ca0a774696d656f7574a0aa646566696e6974696f6ec0a56f776e6572c4100000000000000000000000000000000a",
        "aa67656e65726174696f6e00a5636175736584a56163746f72a161a46b696e64a3617069a561745f6d7305a6726561736f6ea172ac637265",
        "6174655f696e64657803ac6d6f646966795f696e64657803050000002b84a46e616d65a3576562aa726f77735f696e64657804ac63686563",
        "6b735f696e64657803a5696e64657804060000007088a36b6579a16ba576616c7565c40176a5666c61677307aa6c6f636b5f696e64657800",
        "a773657373696f6ec0a5636175736584a56163746f72a161a46b696e64a3617069a561745f6d7305a6726561736f6ea172ac637265617465",
        "5f696e64657805ac6d6f646966795f696e646578050700000010920481a77365727669636592a16ea1670700000009920781a36b6579a178",
        "080000007785a56f776e6572c4100000000000000000000000000000000aa772656d6f76656481a77365727669636592a16704a563617573",
        "6584a56163746f72a161a46b696e64a3617069a561745f6d7305a6726561736f6ea172a5696e64657804a7686973746f7279c41000000000",
        "00000000000000000000000f090000003f92c4100000000000000000000000000000000a83a565706f6368ce00010000ae616e7377657265",
        "645f62656c6f7706a86f7574636f6d6573810681a26b76c30a0000006d83a46e6f6465a16ea77375626a65637481a773657276696365a173",
        "a66368616e676585a5696e64657803a6737461747573c0a772656d6f766564c2a5636175736584a56163746f72a161a46b696e64a3617069",
        "a561745f6d7305a6726561736f6ea172a873657175656e6365000a0000006d83a46e6f6465a16ea77375626a65637481a773657276696365",
        "a167a66368616e676585a5696e64657803a6737461747573c0a772656d6f766564c2a5636175736584a56163746f72a161a46b696e64a361",
        "7069a561745f6d7305a6726561736f6ea172a873657175656e6365010a0000007383a46e6f6465a16ea77375626a65637481a5636865636b",
        "a163a66368616e676585a5696e64657803a6737461747573a8637269746963616ca772656d6f766564c2a5636175736584a56163746f72a1",
        "61a46b696e64a3617069a561745f6d7305a6726561736f6ea172a873657175656e6365020a0000006d83a46e6f6465a16ea77375626a6563",
        "7481a773657276696365a167a66368616e676585a5696e64657804a6737461747573c0a772656d6f766564c3a5636175736584a56163746f",
        "72a161a46b696e64a3617069a561745f6d7305a6726561736f6ea172a873657175656e63650300b223ade7",
    ];
}
