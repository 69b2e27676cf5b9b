//! How many connections there may be, in all and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::rules::Peer;

/// File descriptors that other rooms need: raft's and gossip's sockets, checks, the log.
const DESCRIPTORS_RESERVED: usize = 64;
/// Connections that are taken however few descriptors there are.
const CONNECTIONS_MIN: usize = 16;

/// Counts connections.
#[derive(Debug)]
pub(super) struct Limit {
    all: Arc<Semaphore>,
    /// What one address gets however much it may have.
    share_max: usize,
    by_client: Mutex<HashMap<IpAddr, usize>>,
}

/// A place among all connections; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place(OwnedSemaphorePermit);

/// Places among all connections and among those of one address; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Visit {
    limit: Arc<Limit>,
    /// Who is at the other end.
    pub(super) peer: Peer,
}

impl Limit {
    /// At most `all` connections, fewer where the process may not open so many files; one address never gets all of them.
    pub(super) fn new(all: usize) -> Self {
        let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let descriptors = descriptors.map_or(usize::MAX, |descriptors| usize::try_from(descriptors).unwrap_or(usize::MAX));
        let most = descriptors.saturating_sub(DESCRIPTORS_RESERVED).max(CONNECTIONS_MIN);
        let all = all.min(most).min(Semaphore::MAX_PERMITS);
        // Three quarters at most: whoever opens all it can, and sends nothing, leaves room for others.
        let share_max = (all / 4 * 3).max(1);
        Self { all: Arc::new(Semaphore::new(all)), share_max, by_client: Mutex::default() }
    }

    /// Waits until there is room for one more connection: until then new ones wait in the kernel's queue.
    pub(super) async fn place(&self) -> Place {
        Place(self.all.clone().acquire_owned().await.expect("nobody closes the semaphore"))
    }

    /// One more connection of this client, if its address may have one; else the client is given back. Unix sockets are not counted.
    pub(super) fn admit(self: &Arc<Self>, peer: Peer, place: Place, per_client_max: usize) -> Result<Visit, Peer> {
        if let Some(ip) = peer.ip {
            let mut counts = self.by_client.lock().unwrap_or_else(PoisonError::into_inner);
            let count = counts.entry(ip).or_insert(0);
            if *count >= per_client_max.min(self.share_max) {
                return Err(peer);
            }
            *count += 1;
        }
        place.0.forget(); // the visit gives it back
        Ok(Visit { limit: self.clone(), peer })
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.limit.all.add_permits(1);
        let Some(ip) = self.peer.ip else { return };
        let mut counts = self.limit.by_client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rules::By;
    use super::*;

    #[tokio::test]
    async fn one_address_gets_its_share_and_gives_it_back() {
        let limit = Arc::new(Limit::new(10));
        let client = |last| Peer { from: "".into(), ip: Some([10, 0, 0, last].into()), by: By::Network };
        let first = limit.admit(client(1), limit.place().await, 2).expect("room");
        let _second = limit.admit(client(1), limit.place().await, 2).expect("room");
        assert!(limit.admit(client(1), limit.place().await, 2).is_err());
        assert!(limit.admit(client(2), limit.place().await, 2).is_ok());
        assert_eq!(limit.all.available_permits(), 8);
        drop(first);
        assert!(limit.admit(client(1), limit.place().await, 2).is_ok());
        assert_eq!(limit.all.available_permits(), 9);
    }
}
