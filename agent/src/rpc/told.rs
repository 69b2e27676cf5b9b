//! What was said once is not said again until it changes: a peer that is refused comes back many times a second.

use std::collections::BTreeMap;
use std::sync::Mutex;

use uuid::Uuid;

/// Peers about which something was said: more than a cluster has servers, and a bound on what strangers can make us remember.
const PEERS_MAX: usize = 1024;

/// The last thing said about each peer.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<BTreeMap<Uuid, String>>);

impl Told {
    /// Whether this is news about the peer.
    pub(crate) fn is_news(&self, peer: Uuid, text: &str) -> bool {
        let mut told = self.0.lock().expect("no holder panics: a map of strings");
        if told.get(&peer).is_some_and(|last| last == text) {
            return false;
        }
        if told.len() >= PEERS_MAX {
            told.clear();
        }
        told.insert(peer, text.to_owned());
        true
    }

    /// All is well with the peer again; whether something was said before.
    pub(crate) fn is_mended(&self, peer: Uuid) -> bool {
        self.0.lock().expect("no holder panics: a map of strings").remove(&peer).is_some()
    }
}
