//! The log's file: its directory and lock, opening it, and reading all of it once to be sure that it is whole.
#![allow(clippy::disallowed_methods)] // opening tells in the log how long it took

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use openraft::entry::RaftEntry as _;
use redb::backends::InMemoryBackend;
use redb::{Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase, StorageError, TableDefinition};

use crate::raft::codec::{self, Fault, Kind};
use crate::raft::error::StartError;
use crate::raft::types::{Entry, LogId, RaftId, Vote};

pub(super) const HEADER: TableDefinition<&str, &[u8]> = TableDefinition::new("header");
/// Entries that were written together are one row: their records one behind the other, under the index of the first. A row for each
/// cost four times as much. A row may begin with entries that are purged.
pub(super) const ENTRIES: TableDefinition<u64, &[u8]> = TableDefinition::new("entries");
pub(super) const RAFT_ID: &str = "raft_id";
pub(super) const VOTE: &str = "vote";
/// Written by older versions alone: it lies beside the log now, where it costs no page of each commit.
const COMMITTED: &str = "committed";
pub(super) const PURGED: &str = "purged";

pub(super) const FILE: &str = "log.redb";
/// A log is made under this name, and takes its own when it has its raft id: an empty file is never taken for a new log.
const NEW_FILE: &str = "log.redb.new";
pub(super) const LOCK: &str = "lock";
const ACKNOWLEDGED: &str = "acknowledged";

/// redb keeps 1 GiB by default; the log is written at its end and read from the memory tail, so more than this gains nothing
/// (measured: 256 KB and 64 MB write equally fast, a scan of 38 MB takes 11 MB of memory instead of 61).
pub(super) const CACHE_BYTES: usize = 4 << 20;

/// The directory of raft's files, locked for this process as long as it lives.
#[derive(Debug)]
pub(in crate::raft) struct Dir {
    pub(in crate::raft) path: PathBuf,
    _lock: File,
}

impl Dir {
    /// Makes the directory if need be, and locks it.
    pub(in crate::raft) fn lock(path: &Path) -> Result<Self, StartError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| access("make", path, error))?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_dir(parent).map_err(|error| access("write", parent, error))?;
        }
        let lock_path = path.join(LOCK);
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&lock_path);
        let lock = lock.map_err(|error| access("write", &lock_path, error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StartError::InUse { path: lock_path }),
            Err(TryLockError::Error(error)) => Err(access("lock", &lock_path, error)),
        }
    }

    pub(super) fn log_path(&self) -> PathBuf {
        self.path.join(FILE)
    }

    /// There was a start before.
    pub(in crate::raft) fn has_log(&self) -> bool {
        self.log_path().exists()
    }
}

/// An error of the system, with who we are and whose it is.
pub(in crate::raft) fn access(what: &'static str, path: &Path, source: io::Error) -> StartError {
    let user = rustix::process::geteuid().as_raw();
    let existing = path.ancestors().find_map(|path| Some((path, fs::metadata(path).ok()?)));
    let owner = match existing {
        Some((path, meta)) => format!("{} belongs to user {} (mode {:o})", path.display(), meta.uid(), meta.mode() & 0o7777),
        None => "nothing on that path exists".to_owned(),
    };
    StartError::Access { what, path: path.to_owned(), user, owner, source }
}

/// What was found in the log.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) raft_id: RaftId,
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    pub(super) last: Option<LogId>,
    pub(super) entries: u64,
}

/// A log that lives and dies with the process, by the same code.
pub(super) fn in_memory() -> Result<(Database, Found), StartError> {
    let engine = |error: redb::Error| StartError::Engine(format!("the log in memory: {error}"));
    let db = Builder::new()
        .set_cache_size(CACHE_BYTES)
        .create_with_backend(InMemoryBackend::new())
        .map_err(|error| engine(error.into()))?;
    let raft_id = RaftId::random();
    found_log(&db, raft_id).map_err(engine)?;
    Ok((db, Found { raft_id, ..Found::default() }))
}

/// Opens the log of a directory, makes it on the first start, and reads every record in it.
pub(super) fn on_disk(dir: &Dir) -> Result<(Database, Found, Acknowledged), StartError> {
    let path = dir.log_path();
    let started = Instant::now();
    let exists = path.try_exists().map_err(|error| access("read", &path, error))?;
    let acknowledged = Acknowledged::open(&dir.path.join(ACKNOWLEDGED))?;
    if !exists {
        if let Some(index) = acknowledged.index()? {
            let what = format!("the log {FILE} is not there, although entry {index} was written to it");
            return Err(StartError::Incomplete { dir: dir.path.clone(), what });
        }
        make(dir)?;
    }
    // redb checks what it reads, but a file that was made to mislead it is beyond its promises: a panic is an answer, too
    let opened = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let (db, torn) = open(&path)?;
        let found = scan(&db, &path)?;
        Ok((db, torn, found))
    }));
    let (db, torn, found) = opened.unwrap_or_else(|_| Err(damaged(&path, "reading it fails".to_owned())))?;
    let last = found.last.map(|id| id.index);
    if torn {
        tracing::warn!(path = %path.display(), index = last, "the log's last commit was torn and is dropped; the log ends at this index");
    }
    if let Some(index) = acknowledged.index()?
        && last < Some(index)
    {
        let end = last.map_or("is empty".to_owned(), |last| format!("ends at {last}"));
        return Err(StartError::LogDamaged {
            path,
            index: Some(last.map_or(0, |last| last + 1)),
            what: format!("entry {index} was written, but the log {end}"),
        });
    }
    let noted = acknowledged.committed()?.filter(|id| Some(id.index) <= last);
    let found = Found { committed: found.committed.max(noted), ..found };
    tracing::info!(path = %path.display(), index = last, entries = found.entries, took_ms = started.elapsed().as_millis() as u64, "raft log opened");
    Ok((db, found, acknowledged))
}

fn open(path: &Path) -> Result<(Database, bool), StartError> {
    OpenOptions::new().read(true).write(true).open(path).map_err(|error| access("write", path, error))?;
    let torn = Arc::new(AtomicBool::new(false));
    let seen = torn.clone();
    let mut builder = Builder::new();
    // a repair tells 0.0 when it begins, and 0.3 only if the last commit was not whole and the one before it is taken
    builder.set_repair_callback(move |repair| {
        if (0.2..0.5).contains(&repair.progress()) {
            seen.store(true, Ordering::Relaxed);
        }
    });
    let opened = builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true).open(path);
    match opened {
        Ok(db) => Ok((db, torn.load(Ordering::Relaxed))),
        Err(DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch) => {
            Err(StartError::InUse { path: path.to_owned() })
        }
        Err(DatabaseError::UpgradeRequired(version)) => {
            Err(StartError::Newer { path: path.to_owned(), what: format!("its file format is {version}") })
        }
        Err(DatabaseError::Storage(StorageError::Io(error))) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(access("read", path, error))
        }
        Err(error) => Err(damaged(path, error.to_string())),
    }
}

/// The tables cannot be read: tells which entry it is, if the raw bytes show that.
pub(super) fn damaged(path: &Path, what: String) -> StartError {
    let index = fs::read(path).ok().and_then(|bytes| codec::damaged_entry(&bytes));
    StartError::LogDamaged { path: path.to_owned(), index, what }
}

/// A new log gets its name only when it is whole.
fn make(dir: &Dir) -> Result<(), StartError> {
    let new = dir.path.join(NEW_FILE);
    match fs::remove_file(&new) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(access("remove", &new, error)),
    }
    let failed = |error: redb::Error| access("write", &new, io::Error::other(error.to_string()));
    let file = OpenOptions::new().create_new(true).read(true).write(true).mode(0o600).open(&new);
    file.map_err(|error| access("make", &new, error))?;
    let db = Builder::new().set_cache_size(CACHE_BYTES).create(&new).map_err(|error| failed(error.into()))?;
    found_log(&db, RaftId::random()).map_err(failed)?;
    drop(db);
    fs::rename(&new, dir.log_path()).map_err(|error| access("rename", &new, error))?;
    sync_dir(&dir.path).map_err(|error| access("write", &dir.path, error))
}

fn found_log(db: &Database, id: RaftId) -> Result<(), redb::Error> {
    let tx = db.begin_write()?;
    tx.open_table(HEADER)?.insert(RAFT_ID, codec::seal_raft_id(id).as_slice())?;
    tx.open_table(ENTRIES)?;
    tx.commit()?;
    Ok(())
}

/// A rename is durable when its directory is.
pub(in crate::raft) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Reads every record: what is damaged is found now, and not when a peer or a replay asks for it.
fn scan(db: &Database, path: &Path) -> Result<Found, StartError> {
    let broken = |error: redb::Error| damaged(path, error.to_string());
    let faulty = |index: Option<u64>, what: &str, fault: Fault| match fault {
        Fault::Version(_) | Fault::Content(_) => StartError::Newer { path: path.to_owned(), what: format!("{what}: {fault}") },
        Fault::Checksum | Fault::Shape => {
            StartError::LogDamaged { path: path.to_owned(), index, what: format!("{what}: {fault}") }
        }
    };
    let tx = db.begin_read().map_err(|error| broken(error.into()))?;
    let header = tx.open_table(HEADER).map_err(|error| broken(error.into()))?;
    let record = |key: &str| -> Result<Option<Vec<u8>>, StartError> {
        Ok(header.get(key).map_err(|error| broken(error.into()))?.map(|value| value.value().to_vec()))
    };
    let Some(raft_id) = record(RAFT_ID)? else {
        return Err(StartError::LogDamaged { path: path.to_owned(), index: None, what: "it has no raft id".to_owned() });
    };
    let log_id = |key: &str, kind: Kind| {
        record(key)?.map(|bytes| codec::open_log_id(kind, &bytes).map_err(|fault| faulty(None, key, fault))).transpose()
    };
    let purged = log_id(PURGED, Kind::Purged)?;
    let mut found = Found {
        raft_id: codec::open_raft_id(&raft_id).map_err(|fault| faulty(None, RAFT_ID, fault))?,
        vote: record(VOTE)?.map(|bytes| codec::open_vote(&bytes).map_err(|fault| faulty(None, VOTE, fault))).transpose()?,
        committed: log_id(COMMITTED, Kind::Committed)?,
        purged,
        last: purged,
        entries: 0,
    };
    let first = purged.map_or(0, |purged| purged.index + 1);
    let mut begins = first;
    let read = each_entry(&tx, first, &mut |entry| {
        if found.entries == 0 {
            begins = entry.log_id().index;
        }
        found.last = Some(entry.log_id());
        found.entries += 1;
        ControlFlow::Continue(())
    });
    let read = read.and(if begins == first { Ok(()) } else { Err(Misread::Missing { index: first, follows: begins }) });
    read.map_err(|misread| match misread {
        Misread::Table(error) => broken(error),
        Misread::Missing { index, .. } => {
            StartError::LogDamaged { path: path.to_owned(), index: Some(index), what: misread.to_string() }
        }
        Misread::Entry { index, fault } => faulty(Some(index), "entry", fault),
    })?;
    Ok(found)
}

/// Why entries could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Misread {
    /// The table is damaged, or the disk is.
    #[error(transparent)]
    Table(redb::Error),
    /// There is a gap.
    #[error("entry {index} is missing, {follows} follows")]
    Missing {
        /// The first that is not there.
        index: u64,
        /// What stands in its place.
        follows: u64,
    },
    /// An entry is damaged, or of a newer version.
    #[error("{fault}")]
    Entry {
        /// Which.
        index: u64,
        /// What is wrong with it.
        fault: Fault,
    },
}

impl<E: Into<redb::Error>> From<E> for Misread {
    fn from(error: E) -> Self {
        Misread::Table(error.into())
    }
}

/// Goes through the entries that there are from this one on, in order and without a gap among them, until `each` has seen enough.
pub(super) fn each_entry(tx: &ReadTransaction, from: u64, each: &mut dyn FnMut(Entry) -> ControlFlow<()>) -> Result<(), Misread> {
    let table = tx.open_table(ENTRIES)?;
    let row = table.range(..=from)?.next_back().transpose()?.map_or(from, |(key, _)| key.value());
    let mut next = None;
    for row in table.range(row..)? {
        let (key, row) = row?;
        for (index, record) in (key.value()..u64::MAX).zip(codec::records(row.value())) {
            if index < from {
                continue; // purged, or not asked for
            }
            if let Some(missing) = next.filter(|next| *next != index) {
                return Err(Misread::Missing { index: missing, follows: index });
            }
            let entry = record.and_then(|record| codec::open_entry(index, record));
            if each(entry.map_err(|fault| Misread::Entry { index, fault })?).is_break() {
                return Ok(());
            }
            next = Some(index + 1);
        }
    }
    Ok(())
}

/// Up to which entry commits were finished, and up to which raft had committed: kept beside the log, without a sync of its own.
///
/// A commit of the log that is not whole at the next start is dropped, as one that a crash cut short. Had it been finished,
/// and was damaged later, then acknowledged writes would go with it, silently: the first number tells the two apart. It is written
/// after each commit and lowered before each truncation, so that it never promises more than the log held. The second lets the next
/// start apply at once what was applied here; without it the same is learned from the next leader.
#[derive(Debug)]
pub(super) struct Acknowledged {
    file: File,
    path: PathBuf,
}

/// Length of a number with its checksum, and of the two behind it with theirs.
const NUMBER_BYTES: usize = 8 + 4;
const LOG_ID_BYTES: usize = 16 + 4;

impl Acknowledged {
    fn open(path: &Path) -> Result<Self, StartError> {
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(path);
        Ok(Self { file: file.map_err(|error| access("write", path, error))?, path: path.to_owned() })
    }

    /// `None` if nothing was acknowledged, or the file was torn: it is a second pair of eyes, not the log.
    fn index(&self) -> Result<Option<u64>, StartError> {
        let numbers = self.read::<NUMBER_BYTES>(0)?;
        Ok(numbers.map(|numbers| number(&numbers, 0)))
    }

    /// `None` as well if it was written by an older version, which had this in the log.
    fn committed(&self) -> Result<Option<LogId>, StartError> {
        let numbers = self.read::<LOG_ID_BYTES>(NUMBER_BYTES)?;
        Ok(numbers.map(|numbers| LogId::new_term_index(number(&numbers, 0), number(&numbers, 8))))
    }

    /// Bytes that end in their checksum.
    fn read<const LENGTH: usize>(&self, at: usize) -> Result<Option<[u8; LENGTH]>, StartError> {
        let mut bytes = [0; LENGTH];
        match self.file.read_exact_at(&mut bytes, at as u64) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(access("read", &self.path, error)),
        }
        let (numbers, crc) = bytes.split_at(LENGTH - 4);
        let whole = crc32fast::hash(numbers).to_le_bytes() == crc;
        Ok(whole.then_some(bytes))
    }

    /// One write of some bytes into the page cache; a failure costs the second pair of eyes, not the write.
    pub(super) fn set(&self, index: Option<u64>, committed: Option<LogId>) {
        let written = match index {
            Some(index) => {
                let mut bytes = Vec::with_capacity(NUMBER_BYTES + LOG_ID_BYTES);
                bytes.extend(index.to_le_bytes());
                bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
                if let Some(id) = committed {
                    bytes.extend(id.leader_id.term.to_le_bytes());
                    bytes.extend(id.index.to_le_bytes());
                    bytes.extend(crc32fast::hash(&bytes[NUMBER_BYTES..]).to_le_bytes());
                }
                self.file.write_all_at(&bytes, 0)
            }
            None => self.file.set_len(0),
        };
        if let Err(error) = written {
            tracing::debug!(path = %self.path.display(), %error, "could not note how far the log was acknowledged");
        }
    }
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("callers read more than that"))
}
