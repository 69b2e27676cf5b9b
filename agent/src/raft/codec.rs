//! The bytes of a record in the log and in a snapshot's header: a sealed envelope around a MessagePack map of our own.
//!
//! openraft documents its serde forms as unstable, so none of its types is ever written.
//!
//! ```text
//! mark "mRec" · version 1 · kind 1 · index 8 · length 4 · crc32 4 · body     (integers little-endian)
//! ```
//! The CRC covers version, kind, index, length and body, so a record that lies under another's key is found as well.
//! The mark lets a damaged file be searched for records when its tables can no longer be read.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::entry::RaftEntry as _;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

use super::types::{Entry, LogId, Membership, Payload, Peer, RaftId, SnapshotMeta, StoredMembership, Vote};

/// What a record is about. The number is on disk: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    RaftId = 1,
    Vote = 2,
    Committed = 3,
    Purged = 4,
    Entry = 5,
    SnapshotMeta = 6,
}

/// Why a record was not understood.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Fault {
    /// Bytes changed on disk: only a backup or a peer has them.
    #[error("its checksum does not fit (a byte was changed on disk)")]
    Checksum,
    /// The record ends before it is over, or does not start as one.
    #[error("it is not a whole record")]
    Shape,
    /// Written by a newer muster: run that one.
    #[error("it was written by a newer version ({0}) of muster")]
    Version(u8),
    /// The checksum fits, but the content is not known here: written by a newer muster.
    #[error("its content is not understood: {0}")]
    Content(String),
}

const MARK: [u8; 4] = *b"mRec";
const VERSION: u8 = 1;
/// Bytes before the body.
pub(super) const HEAD: usize = 4 + 1 + 1 + 8 + 4 + 4;

/// Puts `body` into an envelope.
pub(super) fn seal(kind: Kind, index: u64, body: &impl Serialize) -> Vec<u8> {
    let mut record = Vec::new();
    seal_behind(&mut record, kind, index, body);
    record
}

/// The same, behind what is there.
fn seal_behind(records: &mut Vec<u8>, kind: Kind, index: u64, body: &impl Serialize) {
    let start = records.len();
    records.resize(start + HEAD, 0);
    rmp_serde::encode::write_named(records, body)
        .expect("our own records have no unserialisable part, and a Vec takes all bytes");
    let record = &mut records[start..];
    let length = (record.len() - HEAD) as u32;
    record[..4].copy_from_slice(&MARK);
    record[4] = VERSION;
    record[5] = kind as u8;
    record[6..14].copy_from_slice(&index.to_le_bytes());
    record[14..18].copy_from_slice(&length.to_le_bytes());
    let crc = checksum(record);
    record[18..22].copy_from_slice(&crc.to_le_bytes());
}

/// Takes records apart that stand one behind the other. Where they end amiss, the last one is a fault.
pub(super) fn records(bytes: &[u8]) -> impl Iterator<Item = Result<&[u8], Fault>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let length = body_len(rest).ok().and_then(|length| HEAD.checked_add(usize::try_from(length).ok()?));
        let Some((record, behind)) = length.and_then(|length| rest.split_at_checked(length)) else {
            rest = &[];
            return Some(Err(Fault::Shape));
        };
        rest = behind;
        Some(Ok(record))
    })
}

/// Takes the body out of an envelope that must be of this kind and index.
pub(super) fn open<T: DeserializeOwned>(kind: Kind, index: u64, record: &[u8]) -> Result<T, Fault> {
    let length = body_len(record)?;
    if (record.len() - HEAD) as u64 != length {
        return Err(Fault::Shape);
    }
    if checksum(record).to_le_bytes() != record[18..22] {
        return Err(Fault::Checksum);
    }
    if record[4] != VERSION {
        return Err(Fault::Version(record[4]));
    }
    if record[5] != kind as u8 || record[6..14] != index.to_le_bytes() {
        return Err(Fault::Shape);
    }
    muster_catalog::unpack(&record[HEAD..]).map_err(|error| Fault::Content(error.to_string()))
}

/// The length of the body behind this head.
pub(super) fn body_len(head: &[u8]) -> Result<u64, Fault> {
    if head.len() < HEAD || head[..4] != MARK {
        return Err(Fault::Shape);
    }
    Ok(u64::from(u32::from_le_bytes([head[14], head[15], head[16], head[17]])))
}

/// Looks through the raw bytes of a file whose tables cannot be read: the lowest entry of which only damaged copies are left.
pub(super) fn damaged_entry(file: &[u8]) -> Option<u64> {
    let mut damaged = BTreeSet::new();
    let mut whole = BTreeSet::new();
    let marks = file.windows(MARK.len()).enumerate().filter(|(_, window)| *window == MARK).map(|(at, _)| at);
    for at in marks {
        let rest = &file[at..];
        if rest.len() < HEAD || rest[5] != Kind::Entry as u8 {
            continue;
        }
        let index = u64::from_le_bytes(rest[6..14].try_into().expect("eight bytes of a slice that has them"));
        let length = body_len(rest).unwrap_or(u64::MAX);
        let record = usize::try_from(length).ok().and_then(|length| rest.get(..HEAD.checked_add(length)?));
        match record {
            Some(record) if checksum(record).to_le_bytes() == rest[18..22] => whole.insert(index),
            _ => damaged.insert(index),
        };
    }
    damaged.difference(&whole).next().copied()
}

fn checksum(record: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&record[4..18]);
    crc.update(&record[HEAD..]);
    crc.finalize()
}

// ---- bodies ------------------------------------------------------------------------------------

#[derive(Serialize, Deserialize)]
struct RaftIdBody {
    id: Uuid,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct VoteBody {
    term: u64,
    voted_for: Uuid,
    #[serde(default)]
    committed: bool,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct LogIdBody {
    term: u64,
    index: u64,
}

#[derive(Serialize, Deserialize)]
struct EntryBody {
    term: u64,
    payload: PayloadBody,
}

/// By name, so that a kind of entry that is not known here is an error and never taken for another.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PayloadBody {
    Blank,
    Command(Bytes),
    Membership(MembershipBody),
}

#[derive(Serialize, Deserialize)]
pub(super) struct MembershipBody {
    /// One set of voters; two while a change is under way.
    configs: Vec<BTreeSet<Uuid>>,
    /// Voters and learners.
    nodes: BTreeMap<Uuid, PeerBody>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct PeerBody {
    uuid: Uuid,
}

#[derive(Serialize, Deserialize)]
struct SnapshotMetaBody {
    last: Option<LogIdBody>,
    membership_at: Option<LogIdBody>,
    membership: MembershipBody,
}

// ---- ours to openraft's and back ---------------------------------------------------------------

pub(super) fn seal_raft_id(id: RaftId) -> Vec<u8> {
    seal(Kind::RaftId, 0, &RaftIdBody { id: id.0 })
}

pub(super) fn open_raft_id(record: &[u8]) -> Result<RaftId, Fault> {
    open(Kind::RaftId, 0, record).map(|body: RaftIdBody| RaftId(body.id))
}

pub(super) fn seal_vote(vote: &Vote) -> Vec<u8> {
    seal(Kind::Vote, 0, &VoteBody::from(*vote))
}

pub(super) fn open_vote(record: &[u8]) -> Result<Vote, Fault> {
    open(Kind::Vote, 0, record).map(|body: VoteBody| body.into())
}

pub(super) fn seal_log_id(kind: Kind, id: LogId) -> Vec<u8> {
    seal(kind, 0, &LogIdBody::from(id))
}

pub(super) fn open_log_id(kind: Kind, record: &[u8]) -> Result<LogId, Fault> {
    open(kind, 0, record).map(|body: LogIdBody| body.into())
}

/// Behind what is there: entries that are written together are one row of the log.
pub(super) fn seal_entry(records: &mut Vec<u8>, entry: &Entry) {
    let id = entry.log_id();
    let body = EntryBody { term: *id.leader_id, payload: PayloadBody::from(&entry.payload) };
    seal_behind(records, Kind::Entry, id.index, &body);
}

pub(super) fn open_entry(index: u64, record: &[u8]) -> Result<Entry, Fault> {
    let body: EntryBody = open(Kind::Entry, index, record)?;
    Ok(Entry::new(LogId::new_term_index(body.term, index), body.payload.try_into()?))
}

pub(super) fn seal_snapshot_meta(meta: &SnapshotMeta) -> Vec<u8> {
    let body = SnapshotMetaBody {
        last: meta.last_log_id.map(LogIdBody::from),
        membership_at: meta.last_membership.log_id().map(LogIdBody::from),
        membership: meta.last_membership.membership().into(),
    };
    seal(Kind::SnapshotMeta, 0, &body)
}

pub(super) fn open_snapshot_meta(record: &[u8]) -> Result<SnapshotMeta, Fault> {
    let body: SnapshotMetaBody = open(Kind::SnapshotMeta, 0, record)?;
    let membership = StoredMembership::new(body.membership_at.map(LogId::from), body.membership.try_into()?);
    Ok(SnapshotMeta { last_log_id: body.last.map(LogId::from), last_membership: membership })
}

impl From<Vote> for VoteBody {
    fn from(vote: Vote) -> Self {
        Self { term: vote.leader_id.term, voted_for: vote.leader_id.voted_for.0, committed: vote.committed }
    }
}

impl From<VoteBody> for Vote {
    fn from(body: VoteBody) -> Self {
        let leader_id = openraft::impls::leader_id_std::LeaderId { term: body.term, voted_for: RaftId(body.voted_for) };
        Vote { leader_id, committed: body.committed }
    }
}

impl From<&EntryPayload<Payload, RaftId, Peer>> for PayloadBody {
    fn from(payload: &EntryPayload<Payload, RaftId, Peer>) -> Self {
        match payload {
            EntryPayload::Blank => PayloadBody::Blank,
            EntryPayload::Normal(Payload(bytes)) => PayloadBody::Command(bytes.clone()),
            EntryPayload::Membership(membership) => PayloadBody::Membership(MembershipBody::from(membership)),
        }
    }
}

impl TryFrom<PayloadBody> for EntryPayload<Payload, RaftId, Peer> {
    type Error = Fault;

    fn try_from(body: PayloadBody) -> Result<Self, Fault> {
        Ok(match body {
            PayloadBody::Blank => EntryPayload::Blank,
            PayloadBody::Command(bytes) => EntryPayload::Normal(Payload(bytes)),
            PayloadBody::Membership(membership) => EntryPayload::Membership(membership.try_into()?),
        })
    }
}

impl From<LogId> for LogIdBody {
    fn from(id: LogId) -> Self {
        Self { term: *id.leader_id, index: id.index }
    }
}

impl From<LogIdBody> for LogId {
    fn from(body: LogIdBody) -> Self {
        LogId::new_term_index(body.term, body.index)
    }
}

impl From<&Membership> for MembershipBody {
    fn from(membership: &Membership) -> Self {
        let configs = membership.get_joint_config().iter().map(|voters| voters.iter().map(|id| id.0).collect()).collect();
        let nodes = membership.nodes().map(|(id, peer)| (id.0, PeerBody { uuid: peer.uuid })).collect();
        Self { configs, nodes }
    }
}

impl TryFrom<MembershipBody> for Membership {
    type Error = Fault;

    fn try_from(body: MembershipBody) -> Result<Self, Fault> {
        if body.configs.is_empty() && body.nodes.is_empty() {
            return Ok(Self::default());
        }
        let configs = body.configs.into_iter().map(|voters| voters.into_iter().map(RaftId).collect()).collect();
        let nodes: BTreeMap<_, _> = body.nodes.into_iter().map(|(id, peer)| (RaftId(id), Peer { uuid: peer.uuid })).collect();
        Membership::new(configs, nodes).map_err(|error| Fault::Content(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> RaftId {
        RaftId::from(number)
    }

    fn membership() -> Membership {
        let nodes = BTreeMap::from([(id(1), Peer { uuid: Uuid::from_u128(11) }), (id(2), Peer { uuid: Uuid::from_u128(12) })]);
        Membership::new(vec![BTreeSet::from([id(1)])], nodes).unwrap()
    }

    fn seal_entry(entry: &Entry) -> Vec<u8> {
        let mut record = Vec::new();
        super::seal_entry(&mut record, entry);
        record
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Bytes that exist on disks: a change here needs a new version and a reader for the old one.
    #[test]
    fn the_bytes_on_disk_stay_as_they_are() {
        let vote =
            open_vote(&seal(Kind::Vote, 0, &VoteBody { term: 7, voted_for: Uuid::from_u128(1), committed: true })).unwrap();
        let command = Entry::new(LogId::new_term_index(3, 9), EntryPayload::Normal(Payload(Bytes::from_static(b"abc"))));
        let blank = Entry::new(LogId::new_term_index(3, 10), EntryPayload::Blank);
        let members = Entry::new(LogId::new_term_index(0, 0), EntryPayload::Membership(membership()));
        let meta = SnapshotMeta {
            last_log_id: Some(LogId::new_term_index(3, 9)),
            last_membership: StoredMembership::new(Some(LogId::new_term_index(0, 0)), membership()),
        };
        let records = [
            seal_raft_id(id(1)),
            seal_vote(&vote),
            seal_log_id(Kind::Committed, LogId::new_term_index(3, 9)),
            seal_entry(&command),
            seal_entry(&blank),
            seal_entry(&members),
            seal_snapshot_meta(&meta),
        ];
        for (at, record) in records.iter().enumerate() {
            assert_eq!(hex(record), GOLDEN[at].concat(), "record {at}");
        }
        assert_eq!(open_raft_id(&records[0]).unwrap(), id(1));
        assert_eq!(open_vote(&records[1]).unwrap(), vote);
        assert_eq!(open_log_id(Kind::Committed, &records[2]).unwrap(), LogId::new_term_index(3, 9));
        assert_eq!(open_entry(9, &records[3]).unwrap(), command);
        assert_eq!(open_entry(10, &records[4]).unwrap(), blank);
        assert_eq!(open_entry(0, &records[5]).unwrap(), members);
        assert_eq!(open_snapshot_meta(&records[6]).unwrap(), meta);
    }

    const GOLDEN: [&[&str]; 7] = [
        // raft id
        &["6d52656301010000000000000000160000007309ea9681a26964c41000000000000000000000000000000001"],
        // vote
        &[
            "6d526563010200000000000000002e0000008830df5283a47465726d07a9766f7465645f666f72c410000000000000000000",
            "00000000000001a9636f6d6d6974746564c3",
        ],
        // committed
        &["6d526563010300000000000000000e0000007367143582a47465726d03a5696e64657809"],
        // command
        &["6d526563010509000000000000001d00000083068ed982a47465726d03a77061796c6f616481a7636f6d6d616e64c4036162", "63"],
        // blank
        &["6d52656301050a0000000000000015000000774de5a282a47465726d03a77061796c6f6164a5626c616e6b"],
        // membership
        &[
            "6d526563010500000000000000009300000018d76bfd82a47465726d00a77061796c6f616481aa6d656d6265727368697082",
            "a7636f6e666967739191c41000000000000000000000000000000001a56e6f64657382c41000000000000000000000000000",
            "00000181a475756964c4100000000000000000000000000000000bc4100000000000000000000000000000000281a4757569",
            "64c4100000000000000000000000000000000c",
        ],
        // head of a snapshot
        &[
            "6d52656301060000000000000000b3000000f1297bb483a46c61737482a47465726d03a5696e64657809ad6d656d62657273",
            "6869705f617482a47465726d00a5696e64657800aa6d656d6265727368697082a7636f6e666967739191c410000000000000",
            "00000000000000000001a56e6f64657382c4100000000000000000000000000000000181a475756964c41000000000000000",
            "00000000000000000bc4100000000000000000000000000000000281a475756964c410000000000000000000000000000000",
            "0c",
        ],
    ];

    #[test]
    fn no_changed_byte_passes() {
        let record =
            seal_entry(&Entry::new(LogId::new_term_index(3, 9), EntryPayload::Normal(Payload(Bytes::from_static(b"abc")))));
        for at in 0..record.len() {
            for bit in 0..8 {
                let mut changed = record.clone();
                changed[at] ^= 1 << bit;
                assert!(open_entry(9, &changed).is_err(), "bit {bit} of byte {at}");
            }
        }
        for len in 0..record.len() {
            assert!(open_entry(9, &record[..len]).is_err(), "cut to {len}");
        }
        assert_eq!(open_entry(8, &record), Err(Fault::Shape), "under another's key");
    }

    #[test]
    fn records_in_a_row_come_apart_as_they_were_put_together() {
        let entry = |index| Entry::new(LogId::new_term_index(1, index), EntryPayload::Blank);
        let mut row = Vec::new();
        for index in 7..10 {
            super::seal_entry(&mut row, &entry(index));
        }
        let read = |row: &[u8]| records(row).map(|record| record.map(<[u8]>::to_vec)).collect::<Vec<_>>();
        assert_eq!(read(&row), (7..10).map(|index| Ok(seal_entry(&entry(index)))).collect::<Vec<_>>());
        let cut = read(&row[..row.len() - 1]);
        assert!(cut.len() == 3 && cut[1].is_ok() && cut[2] == Err(Fault::Shape));
        row[seal_entry(&entry(7)).len()] ^= 1;
        assert_eq!(read(&row), [Ok(seal_entry(&entry(7))), Err(Fault::Shape)]);
    }

    #[test]
    fn a_damaged_entry_is_found_among_raw_bytes() {
        let entry = |index| seal_entry(&Entry::new(LogId::new_term_index(1, index), EntryPayload::Blank));
        let mut damaged = entry(8);
        *damaged.last_mut().unwrap() ^= 1;
        let noise = vec![7; 100];
        assert_eq!(damaged_entry(&[entry(7), noise.clone(), damaged.clone(), entry(9)].concat()), Some(8));
        assert_eq!(damaged_entry(&[entry(7), noise, damaged, entry(8)].concat()), None, "another copy is whole");
    }
}
