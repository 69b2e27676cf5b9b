//! Where nodes are reached: told by gossip, or by the peers that were kept; looked up at each connect.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use uuid::Uuid;

/// The RPC addresses of nodes. Clones are the same book.
#[derive(Debug, Clone, Default)]
pub(crate) struct AddressBook(Arc<ArcSwap<BTreeMap<Uuid, SocketAddr>>>);

impl AddressBook {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Where the node is reached, as far as is known.
    pub(crate) fn get(&self, node: Uuid) -> Option<SocketAddr> {
        self.0.load().get(&node).copied()
    }

    /// Tells where one node is. Connections that stand stay; the next one goes there.
    pub(crate) fn set(&self, node: Uuid, address: SocketAddr) {
        self.0.rcu(|book| {
            let mut book = BTreeMap::clone(book);
            book.insert(node, address);
            book
        });
    }

    /// Tells where all nodes are that are known at all.
    pub(crate) fn replace(&self, book: BTreeMap<Uuid, SocketAddr>) {
        self.0.store(Arc::new(book));
    }

    /// All of it, of one moment.
    pub(crate) fn all(&self) -> Arc<BTreeMap<Uuid, SocketAddr>> {
        self.0.load_full()
    }
}
