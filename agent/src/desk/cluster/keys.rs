//! Key rings as operators see them: which keys how many members have.

use std::collections::BTreeMap;

use crate::config::GossipKey;

/// What is done with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyChange {
    /// Members take it from now on.
    Install,
    /// Members send with it from now on; it must be installed.
    Use,
    /// Members take it no longer; it must not be the one they send with.
    Remove,
}

/// Which keys how many members have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Keyring {
    /// Each key, and how many members take it.
    pub(crate) keys: BTreeMap<GossipKey, usize>,
    /// Each key that somebody sends with, and how many do.
    pub(crate) primary: BTreeMap<GossipKey, usize>,
    /// Members that answered.
    pub(crate) members: usize,
    /// Members that did not, with what they said.
    pub(crate) messages: BTreeMap<String, String>,
}
