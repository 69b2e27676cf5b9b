//! A restore: a snapshot comes in chunks, which lie beside the live tables until one entry puts it in their place.

use bytes::Bytes;
use imbl::Vector;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Longest chunk: an entry of the log that is no longer than what raft sends at once.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;
/// Bytes that may lie beside the tables: several times a catalog of 100 000 instances with as many keys. It bounds what a restore
/// that never ends costs each server in memory.
pub const STAGED_BYTES_MAX: u64 = 1 << 30;

/// A piece of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Which restore: the first chunk of another one drops what is there.
    pub restore: Uuid,
    /// Where it begins; it follows what is there.
    pub offset: u64,
    /// At most [`CHUNK_BYTES_MAX`].
    pub bytes: Bytes,
}

/// The chunks take the place of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// Which restore.
    pub restore: Uuid,
    /// Bytes of all chunks.
    pub length: u64,
    /// Id of the history that begins.
    pub history: Uuid,
}

/// What has come of a restore.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Staged {
    pub(crate) restore: Uuid,
    pub(crate) length: u64,
    pub(crate) last_ms: u64,
    #[serde(skip)]
    pub(crate) chunks: Vector<Bytes>,
}
