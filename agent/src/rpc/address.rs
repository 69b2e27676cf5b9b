//! Where nodes are reached: told by gossip, else as it was kept at the last run; looked up at each connect.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use uuid::Uuid;

/// The RPC addresses of nodes. Clones are the same book.
#[derive(Debug, Clone, Default)]
pub(crate) struct AddressBook(Arc<ArcSwap<Pages>>);

#[derive(Debug, Clone, Default)]
struct Pages {
    told: BTreeMap<Uuid, SocketAddr>,
    /// What is not told is looked up here: when everybody is gone, gossip tells nothing.
    kept: BTreeMap<Uuid, SocketAddr>,
}

impl AddressBook {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Where the node is reached, as far as is known.
    pub(crate) fn get(&self, node: Uuid) -> Option<SocketAddr> {
        let pages = self.0.load();
        pages.told.get(&node).or_else(|| pages.kept.get(&node)).copied()
    }

    /// Tells where one node is. Connections that stand stay; the next one goes there.
    pub(crate) fn set(&self, node: Uuid, address: SocketAddr) {
        self.change(|pages| {
            pages.told.insert(node, address);
        });
    }

    /// Tells where all nodes are that are known at all.
    pub(crate) fn replace(&self, told: BTreeMap<Uuid, SocketAddr>) {
        self.change(|pages| pages.told.clone_from(&told));
    }

    /// Where a node was the last time; what is told goes before it.
    pub(crate) fn keep(&self, node: Uuid, address: SocketAddr) {
        self.change(|pages| {
            pages.kept.insert(node, address);
        });
    }

    /// The node is no server any more: it is neither told nor kept.
    pub(crate) fn forget(&self, node: Uuid) {
        self.change(|pages| {
            pages.told.remove(&node);
            pages.kept.remove(&node);
        });
    }

    /// All of it, of one moment.
    pub(crate) fn all(&self) -> Arc<BTreeMap<Uuid, SocketAddr>> {
        let pages = self.0.load();
        let mut all = pages.kept.clone();
        all.extend(&pages.told);
        Arc::new(all)
    }

    fn change(&self, change: impl Fn(&mut Pages)) {
        self.0.rcu(|pages| {
            let mut pages = Pages::clone(pages);
            change(&mut pages);
            pages
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_goes_before_what_was_kept() {
        let (book, node, other) = (AddressBook::new(), Uuid::from_u128(1), Uuid::from_u128(2));
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        book.keep(node, at(1));
        book.keep(other, at(2));
        book.replace(BTreeMap::from([(node, at(3))]));
        assert_eq!((book.get(node), book.get(other)), (Some(at(3)), Some(at(2))));
        book.replace(BTreeMap::new());
        assert_eq!(book.get(node), Some(at(1)));
        assert_eq!(*book.all(), BTreeMap::from([(node, at(1)), (other, at(2))]));
        book.forget(node);
        assert_eq!((book.get(node), book.all().len()), (None, 1), "a server that was removed is not looked for");
    }
}
