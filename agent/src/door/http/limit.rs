//! How many connections there may be, in all and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// File descriptors that other rooms need: raft's and gossip's sockets, checks, the log.
const DESCRIPTORS_RESERVED: usize = 64;
/// Connections that are taken however few descriptors there are.
const CONNECTIONS_MIN: usize = 16;

/// Counts connections.
#[derive(Debug)]
pub(super) struct Limit {
    all: Arc<Semaphore>,
    per_client_max: usize,
    by_client: Mutex<HashMap<IpAddr, usize>>,
}

/// A place among all connections; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// A place among the connections of one address; given back when it is dropped.
#[derive(Debug)]
pub(super) struct ClientPlace {
    limit: Arc<Limit>,
    client: Option<IpAddr>,
}

impl Limit {
    /// At most `all` connections, fewer where the process may not open so many files; one address never gets all of them.
    pub(super) fn new(all: usize, per_client_max: usize) -> Self {
        let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let descriptors = descriptors.map_or(usize::MAX, |descriptors| usize::try_from(descriptors).unwrap_or(usize::MAX));
        let most = descriptors.saturating_sub(DESCRIPTORS_RESERVED).max(CONNECTIONS_MIN);
        let all = all.min(most).min(Semaphore::MAX_PERMITS);
        // Three quarters at most: whoever opens all it can, and sends nothing, leaves room for others.
        let per_client_max = per_client_max.min((all / 4 * 3).max(1));
        Self { all: Arc::new(Semaphore::new(all)), per_client_max, by_client: Mutex::default() }
    }

    /// Waits until there is room for one more connection: until then new ones wait in the kernel's queue.
    pub(super) async fn place(&self) -> Place {
        Place(self.all.clone().acquire_owned().await.expect("nobody closes the semaphore"))
    }

    /// One more connection of this address, if it may have one. Unix sockets are not counted.
    pub(super) fn client(self: &Arc<Self>, client: Option<IpAddr>) -> Option<ClientPlace> {
        if let Some(client) = client {
            let mut counts = self.by_client.lock().unwrap_or_else(PoisonError::into_inner);
            let count = counts.entry(client).or_insert(0);
            if *count >= self.per_client_max {
                return None;
            }
            *count += 1;
        }
        Some(ClientPlace { limit: self.clone(), client })
    }
}

impl Drop for ClientPlace {
    fn drop(&mut self) {
        let Some(client) = self.client else { return };
        let mut counts = self.limit.by_client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_gets_its_share_and_gives_it_back() {
        let limit = Arc::new(Limit::new(10, 2));
        let (a, b) = (Some([10, 0, 0, 1].into()), Some([10, 0, 0, 2].into()));
        let first = limit.client(a).expect("room");
        let _second = limit.client(a).expect("room");
        assert!(limit.client(a).is_none());
        assert!(limit.client(b).is_some());
        drop(first);
        assert!(limit.client(a).is_some());
    }
}
