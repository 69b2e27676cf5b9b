//! What is done to a key.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use uuid::Uuid;

use crate::row::Index;

/// Changes one key, or removes a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kv {
    /// The key, or the prefix.
    pub key: SmolStr,
    /// What is done to it.
    pub verb: KvVerb,
}

/// What is done to a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KvVerb {
    /// Writes it; with `cas`, only if its modify index is that (0: only if it is absent).
    Set {
        /// New value.
        value: Bytes,
        /// New flags.
        flags: u64,
        /// Expected modify index.
        cas: Option<Index>,
    },
    /// Removes it; with `cas`, only if its modify index is that or it is absent.
    Delete {
        /// Expected modify index.
        cas: Option<Index>,
    },
    /// Removes all keys with this prefix.
    DeleteTree,
    /// Writes it, and locks it for a session, if no other one holds it.
    Acquire {
        /// New value.
        value: Bytes,
        /// New flags.
        flags: u64,
        /// The session.
        session: Uuid,
    },
    /// Writes it, and unlocks it, if the session holds it.
    Release {
        /// New value.
        value: Bytes,
        /// New flags.
        flags: u64,
        /// The session.
        session: Uuid,
    },
}
