//! Members that were met, kept in the data directory: where a restarted agent looks for its cluster first.

use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use uuid::Uuid;

use super::{Member, Standing};

/// The file in the data directory.
const FILE: &str = "peers.json";
/// Members that are kept: all servers there may be, and some of the others. One that answers is enough.
const PEERS_MAX: usize = 64;
/// Largest file that is read: a member takes under 300 bytes.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// A member that was met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Peer {
    /// Its node's name.
    pub(crate) name: SmolStr,
    /// Its node's id.
    pub(crate) id: Uuid,
    /// Where its gossip is.
    pub(crate) gossip: SocketAddr,
    /// Where it takes requests, if it is a server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) server: Option<SocketAddr>,
}

/// The members that were met.
#[derive(Debug)]
pub(crate) struct Peers {
    /// `None` keeps nothing (`-dev`).
    path: Option<PathBuf>,
    kept: Vec<Peer>,
}

/// Why the kept members could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeersError {
    /// Nothing was changed: the file is not what this agent writes. Who knows that the cluster is gone removes it.
    #[error("{path} is damaged: remove it, and say in retry_join where the cluster is", path = .path.display())]
    Damaged { path: PathBuf, source: serde_json::Error },
    /// The file cannot be read, or written: the old one holds.
    #[error("{path} cannot be read or written", path = .path.display())]
    Disk { path: PathBuf, source: io::Error },
}

impl Peers {
    /// What a former run met; nobody if there was none.
    pub(crate) fn open(dir: Option<&Path>) -> Result<Self, PeersError> {
        let Some(dir) = dir else { return Ok(Self { path: None, kept: Vec::new() }) };
        let path = dir.join(FILE);
        let read = || -> io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut io::Read::take(fs::File::open(&path)?, FILE_BYTES_MAX), &mut bytes)?;
            Ok(bytes)
        };
        match read() {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(kept) => Ok(Self { path: Some(path), kept }),
                Err(source) => Err(PeersError::Damaged { path, source }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self { path: Some(path), kept: Vec::new() }),
            Err(source) => Err(PeersError::Disk { path, source }),
        }
    }

    /// Who was met.
    pub(crate) fn kept(&self) -> &[Peer] {
        &self.kept
    }

    /// Keeps who is a member now, but for the one with the id `own`. Who lost everybody keeps those it had.
    pub(crate) fn keep(&mut self, own: Uuid, members: &[Member]) -> Result<(), PeersError> {
        let others = members.iter().filter(|member| member.id != own && member.address.port() != 0);
        // Servers that failed are kept: raft still counts on them, and they come back where they were.
        let mut now: Vec<&Member> = others
            .filter(|member| match member.standing {
                Standing::Alive => true,
                Standing::Failed => member.is_server(),
                Standing::Leaving | Standing::Left => false,
            })
            .collect();
        if !now.iter().any(|member| member.standing == Standing::Alive) {
            return Ok(());
        }
        now.sort_by_key(|member| (!member.is_server(), member.standing != Standing::Alive, member.name.clone(), member.id));
        now.truncate(PEERS_MAX);
        let now: Vec<Peer> = now
            .into_iter()
            .map(|member| Peer {
                name: member.name.clone(),
                id: member.id,
                gossip: member.address,
                server: member.server_address(),
            })
            .collect();
        if now != self.kept {
            self.write(&now)?;
            self.kept = now;
        }
        Ok(())
    }

    /// Forgets everybody: after a leave, and when another cluster is to be joined.
    pub(crate) fn forget(&mut self) -> Result<(), PeersError> {
        self.kept.clear();
        let Some(path) = &self.path else { return Ok(()) };
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(PeersError::Disk { path: path.clone(), source: error }),
            _ => Ok(()),
        }
    }

    /// The file is there whole, or as it was.
    fn write(&self, peers: &[Peer]) -> Result<(), PeersError> {
        let Some(path) = &self.path else { return Ok(()) };
        let part = path.with_extension("json.part");
        let write = || -> io::Result<()> {
            let mut file = fs::File::create(&part)?;
            serde_json::to_writer_pretty(&mut file, peers)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::rename(&part, path)
        };
        write().map_err(|source| PeersError::Disk { path: path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(number: u8, role: &'static str, standing: Standing) -> Member {
        let tags = [("role", role), ("port", "8300")].map(|(key, value)| (key.into(), value.into())).into();
        let address = SocketAddr::from(([127, 0, 0, number], 8301));
        Member {
            name: format!("n{number}").into(),
            id: Uuid::from_u128(number.into()),
            address,
            tags,
            standing,
            tagged: Default::default(),
            meta: Default::default(),
            raft: None,
            why: "".into(),
            may_return: false,
            accusers: Vec::new(),
            unwell: false,
            wrong: 0,
        }
    }

    fn names(peers: &Peers) -> Vec<&str> {
        peers.kept().iter().map(|peer| peer.name.as_str()).collect()
    }

    #[test]
    fn members_are_kept_servers_first_and_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut peers = Peers::open(Some(dir.path())).unwrap();
        let members = [
            member(1, "consul", Standing::Alive),
            member(2, "node", Standing::Alive),
            member(3, "consul", Standing::Failed),
            member(4, "consul", Standing::Alive),
            member(5, "node", Standing::Failed),
            member(6, "consul", Standing::Left),
        ];
        peers.keep(Uuid::from_u128(1), &members).unwrap();
        let again = Peers::open(Some(dir.path())).unwrap();
        assert_eq!((names(&again), again.kept()), (vec!["n4", "n3", "n2"], peers.kept()));
        assert_eq!(again.kept()[0].server, Some("127.0.0.4:8300".parse().unwrap()));
        assert_eq!(again.kept()[2].server, None);

        peers.keep(Uuid::from_u128(1), &[member(1, "consul", Standing::Alive), member(4, "consul", Standing::Failed)]).unwrap();
        assert_eq!(names(&peers), ["n4", "n3", "n2"], "who lost everybody keeps those it had");
        peers.forget().unwrap();
        peers.forget().unwrap();
        assert!(Peers::open(Some(dir.path())).unwrap().kept().is_empty());
    }

    #[test]
    fn a_large_cluster_is_kept_in_a_small_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut peers = Peers::open(Some(dir.path())).unwrap();
        let members: Vec<Member> = (1..=200).map(|number| member(number, "node", Standing::Alive)).collect();
        peers.keep(Uuid::nil(), &members).unwrap();
        assert_eq!(Peers::open(Some(dir.path())).unwrap().kept().len(), PEERS_MAX);
    }

    #[test]
    fn a_damaged_file_is_refused_and_named() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "{}", "[{\"name\":1}]", "junk"] {
            fs::write(dir.path().join(FILE), text).unwrap();
            let error = Peers::open(Some(dir.path())).unwrap_err();
            assert!(error.to_string().contains("peers.json is damaged: remove it"), "{error}");
        }
        assert!(Peers::open(None).unwrap().kept().is_empty());
    }
}
