//! Reading a log that no agent works in, without changing a byte of it: for `muster operator raft log`.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use muster_catalog::{DecodeError, Index, Proposal};
use openraft::EntryPayload;
use openraft::entry::RaftEntry as _;
use redb::{Builder, DatabaseError, ReadableDatabase, StorageBackend};

use super::file::{CACHE_BYTES, FILE, HEADER, LOCK, Misread, PURGED, access, damaged, each_entry};
use crate::raft::codec::{self, Kind};
use crate::raft::error::StartError;

/// An entry of the log, as it was found.
#[derive(Debug)]
pub struct Logged {
    /// Where it stands.
    pub index: Index,
    /// The term in which it was proposed.
    pub term: u64,
    /// What it carries.
    pub what: Carried,
}

/// What an entry carries.
#[derive(Debug)]
pub enum Carried {
    /// A command.
    Command(Box<Proposal>),
    /// A command that this version does not know.
    Unknown(DecodeError),
    /// Nothing: the mark of a new leader.
    Blank,
    /// The servers that vote.
    Membership,
}

/// Goes through all entries of the log in raft's directory, in order, until `each` has seen enough.
///
/// A log that was not closed is repaired in memory only, so a torn last commit is not shown. An agent that runs on the
/// directory is a [`StartError::InUse`].
pub fn read_log(dir: &Path, mut each: impl FnMut(Logged) -> ControlFlow<()>) -> Result<(), StartError> {
    let path = dir.join(FILE);
    let file = File::open(&path).map_err(|error| access("read", &path, error))?;
    let lock_path = dir.join(LOCK);
    let lock = OpenOptions::new().read(true).open(&lock_path).map_err(|error| access("read", &lock_path, error))?;
    match lock.try_lock_shared() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(StartError::InUse { path: lock_path }),
        Err(TryLockError::Error(error)) => return Err(access("lock", &lock_path, error)),
    }
    let broken = |error: redb::Error| damaged(&path, error.to_string());
    let read = || {
        let overlay = Overlay::over(file).map_err(|error| access("read", &path, error))?;
        let opened = Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(overlay);
        let db = opened.map_err(|error: DatabaseError| broken(error.into()))?;
        let tx = db.begin_read().map_err(|error| broken(error.into()))?;
        let header = tx.open_table(HEADER).map_err(|error| broken(error.into()))?;
        let purged = header.get(PURGED).map_err(|error| broken(error.into()))?;
        let purged = purged.and_then(|record| codec::open_log_id(Kind::Purged, record.value()).ok());
        let read = each_entry(&tx, purged.map_or(0, |purged| purged.index + 1), &mut |entry| {
            let id = entry.log_id();
            let what = match entry.payload {
                EntryPayload::Blank => Carried::Blank,
                EntryPayload::Membership(_) => Carried::Membership,
                EntryPayload::Normal(payload) => match Proposal::decode(&payload.0) {
                    Ok(proposal) => Carried::Command(Box::new(proposal)),
                    Err(error) => Carried::Unknown(error),
                },
            };
            each(Logged { index: id.index, term: *id.leader_id, what })
        });
        read.map_err(|misread| match misread {
            Misread::Table(error) => broken(error),
            Misread::Missing { index, .. } | Misread::Entry { index, .. } => {
                StartError::LogDamaged { path: path.clone(), index: Some(index), what: misread.to_string() }
            }
        })?;
        Ok(())
    };
    // as at a start: a file that was made to mislead redb may make it panic
    std::panic::catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err(damaged(&path, "reading it fails".to_owned())))
}

/// Pages are kept apart in this size.
const PAGE: u64 = 4096;

/// A file that is only read: what redb writes to it, to repair it, stays in memory.
#[derive(Debug)]
struct Overlay {
    file: File,
    over: Mutex<Over>,
}

#[derive(Debug)]
struct Over {
    len: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE as usize]>>,
}

impl Overlay {
    fn over(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        if len == 0 {
            // redb would take it for a new database
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is empty"));
        }
        Ok(Self { file, over: Mutex::new(Over { len, pages: BTreeMap::new() }) })
    }

    fn lock(&self) -> MutexGuard<'_, Over> {
        self.over.lock().expect("no holder panics: bytes are copied within bounds that were checked")
    }

    /// One page as it lies in the file; zeros where it has none.
    fn page(&self, number: u64) -> io::Result<Box<[u8; PAGE as usize]>> {
        let mut page = Box::new([0; PAGE as usize]);
        let mut read = 0;
        while read < page.len() {
            match self.file.read_at(&mut page[read..], number * PAGE + read as u64) {
                Ok(0) => break,
                Ok(bytes) => read += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(page)
    }
}

/// The parts of a range that lie in one page each: page, first byte in it, first byte of the range, length.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let (page, from) = (at / PAGE, (at % PAGE) as usize);
        let part = (len - done).min(PAGE as usize - from);
        let next = (part > 0).then_some((page, from, done, part));
        done += part;
        next
    })
}

fn check(len: u64, offset: u64, bytes: usize) -> io::Result<()> {
    if offset.checked_add(bytes as u64).is_some_and(|end| end <= len) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "past the end of the file"))
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let over = self.lock();
        check(over.len, offset, out.len())?;
        for (page, from, at, part) in parts(offset, out.len()) {
            match over.pages.get(&page) {
                Some(bytes) => out[at..at + part].copy_from_slice(&bytes[from..from + part]),
                None => out[at..at + part].copy_from_slice(&self.page(page)?[from..from + part]),
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut over = self.lock();
        over.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut over = self.lock();
        check(over.len, offset, data.len())?;
        for (page, from, at, part) in parts(offset, data.len()) {
            #[allow(clippy::map_entry)] // what is put there may fail to be read
            if !over.pages.contains_key(&page) {
                let below = self.page(page)?;
                over.pages.insert(page, below);
            }
            let bytes = over.pages.get_mut(&page).expect("it was put there above");
            bytes[from..from + part].copy_from_slice(&data[at..at + part]);
        }
        Ok(())
    }
}
