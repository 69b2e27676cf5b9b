//! The other servers and their addresses, kept beside the log: a server finds them again when nobody tells it where they are.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::log::sync_dir;
use super::types::RaftId;
use crate::rpc::AddressBook;

const FILE: &str = "peers.json";
/// Longest file that is read: a cluster has a few servers.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The kept list.
#[derive(Debug)]
pub(super) struct Peers {
    dir: PathBuf,
    kept: Vec<Kept>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    raft: Uuid,
    node: Uuid,
    #[serde(default)]
    address: Option<SocketAddr>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Body {
    version: u32,
    servers: Vec<Kept>,
}

impl Peers {
    /// Reads the list, if there is one, and tells the book what it does not know. A list that cannot be read costs the
    /// addresses in it: gossip knows them, too.
    pub(super) fn open(dir: &Path, book: &AddressBook) -> Self {
        let path = dir.join(FILE);
        let kept = match read(&path) {
            Ok(kept) => kept,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the kept list of servers cannot be read; it is made anew");
                Vec::new()
            }
        };
        for server in &kept {
            if let Some(address) = server.address {
                book.keep(server.node, address);
            }
        }
        Self { dir: dir.to_owned(), kept }
    }

    /// The servers of the list: with any of them this directory belongs to a cluster, and never founds another.
    pub(super) fn nodes(&self) -> Vec<Uuid> {
        self.kept.iter().map(|server| server.node).collect()
    }

    /// Writes the list, if it changed.
    pub(super) async fn keep(&mut self, servers: impl Iterator<Item = (&RaftId, &Uuid)>, book: &AddressBook) {
        let known: BTreeMap<Uuid, Option<SocketAddr>> = self.kept.iter().map(|one| (one.node, one.address)).collect();
        let address = |node: Uuid| book.get(node).or(known.get(&node).copied().flatten());
        let servers: Vec<Kept> = servers.map(|(id, node)| Kept { raft: id.0, node: *node, address: address(*node) }).collect();
        if servers.is_empty() || servers == self.kept {
            return;
        }
        // A server that was taken out is not looked for; if it is still there, gossip tells of it again.
        let stays = |gone: &Kept| servers.iter().any(|server| server.node == gone.node);
        self.kept.iter().filter(|server| !stays(server)).for_each(|server| book.forget(server.node));
        let (dir, body) = (self.dir.clone(), Body { version: 1, servers: servers.clone() });
        let written = tokio::task::spawn_blocking(move || write(&dir, &body)).await;
        if let Err(error) = written.map_err(io::Error::other).flatten() {
            tracing::warn!(%error, "the list of servers could not be kept");
        }
        self.kept = servers;
    }
}

fn read(path: &Path) -> io::Result<Vec<Kept>> {
    match fs::metadata(path) {
        Ok(meta) if meta.len() > FILE_BYTES_MAX => return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too long")),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    }
    let body: Body = serde_json::from_slice(&fs::read(path)?)?;
    Ok(body.servers)
}

fn write(dir: &Path, body: &Body) -> io::Result<()> {
    let new = dir.join(format!("{FILE}.new"));
    let mut file = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
    file.write_all(&serde_json::to_vec_pretty(body)?)?;
    file.sync_all()?;
    fs::rename(&new, dir.join(FILE))?;
    sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_list_is_found_again_and_junk_is_no_list() {
        let dir = tempfile::tempdir().unwrap();
        let (id, node, address) = (RaftId::from(7), Uuid::from_u128(8), SocketAddr::from(([127, 0, 0, 1], 8300)));
        let book = AddressBook::new();
        let mut peers = Peers::open(dir.path(), &book);
        assert!(peers.nodes().is_empty());
        book.set(node, address);
        peers.keep([(&id, &node)].into_iter(), &book).await;
        let later = AddressBook::new();
        assert_eq!(Peers::open(dir.path(), &later).nodes(), [node]);
        assert_eq!(later.get(node), Some(address));
        let moved = SocketAddr::from(([127, 0, 0, 2], 8300));
        later.set(node, moved);
        Peers::open(dir.path(), &later);
        assert_eq!(later.get(node), Some(moved), "what is known already is newer");
        let other = Uuid::from_u128(9);
        Peers::open(dir.path(), &later).keep([(&id, &other)].into_iter(), &later).await;
        assert_eq!(later.get(node), None, "a server that was taken out is not looked for");
        fs::write(dir.path().join(FILE), b"{junk").unwrap();
        assert!(Peers::open(dir.path(), &AddressBook::new()).nodes().is_empty());
    }
}
