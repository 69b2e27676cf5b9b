//! Snapshots on disk: one file `snapshot-<index>`, made beside its place, synced, renamed into it; the newest is kept.
//!
//! ```text
//! head: a sealed record (codec.rs) with the last log id and the voters · the catalog's state with its own checksum
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use muster_catalog::State;

use super::codec;
use super::error::{SnapshotFault, StartError};
use super::log::{access, sync_dir};
use super::types::SnapshotMeta;

const PREFIX: &str = "snapshot-";
const UNFINISHED: &str = "snapshot.new";
/// Where a peer's snapshot is gathered; its name is taken away as soon as it is open, so that a crash leaves nothing.
const INCOMING: &str = "snapshot.incoming";
/// Bytes of a snapshot in one call: enough that a round trip costs little, and all that one transfer holds in memory.
pub(super) const PIECE_BYTES: usize = 1 << 20;
/// Longest snapshot that is taken into memory, by a server that keeps nothing on disk.
const IN_MEMORY_BYTES_MAX: u64 = 1 << 30;
/// Longest head that is read: raft's part holds a few voters, so this only stops a damaged length.
const HEAD_BYTES_MAX: u64 = 1 << 20;

/// The bytes of a snapshot, or where they are. An open file: it stays readable while a newer one takes its place.
#[derive(Clone, Debug)]
pub(super) enum SnapshotData {
    File(Arc<File>),
    /// `-dev`: a state is its own snapshot.
    Memory(Box<State>),
}

/// A snapshot that is kept.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) meta: SnapshotMeta,
    pub(super) data: SnapshotData,
}

/// Where snapshots lie.
#[derive(Debug)]
pub(super) struct Shelf {
    /// `None` in memory.
    dir: Option<PathBuf>,
    newest: Mutex<Option<Kept>>,
}

impl Shelf {
    /// Reads the newest snapshot of the directory, whole: a damaged one is found now.
    pub(super) fn open(dir: Option<&Path>) -> Result<(Self, Option<(SnapshotMeta, State)>), StartError> {
        let shelf = Self { dir: dir.map(Path::to_owned), newest: Mutex::new(None) };
        let Some(dir) = dir else { return Ok((shelf, None)) };
        fs::remove_file(dir.join(UNFINISHED)).ok(); // left by a crash, if at all
        let mut found = list(dir).map_err(|error| access("read", dir, error))?;
        found.sort_unstable();
        let Some((index, path)) = found.pop() else { return Ok((shelf, None)) };
        let damaged = |source: SnapshotFault| match source {
            SnapshotFault::State(muster_catalog::SnapshotError::Version(version)) => {
                StartError::Newer { path: path.clone(), what: format!("its state has version {version}") }
            }
            source => StartError::SnapshotDamaged { path: path.clone(), source },
        };
        let file = File::open(&path).map_err(|error| access("read", &path, error))?;
        let data = SnapshotData::File(Arc::new(file));
        let (meta, state) = data.read().map_err(damaged)?;
        if meta.last_log_id.map(|id| id.index) != Some(index) {
            return Err(damaged(SnapshotFault::Head(format!("it stands for another entry than {index}"))));
        }
        found.into_iter().for_each(|(_, older)| remove(&older));
        *shelf.newest() = Some(Kept { meta: meta.clone(), data });
        Ok((shelf, Some((meta, state))))
    }

    pub(super) fn current(&self) -> Option<Kept> {
        self.newest().clone()
    }

    /// How long the newest one is, in bytes; one in memory is not written, so it counts for nothing.
    pub(super) fn bytes(&self) -> u64 {
        match self.newest().as_ref().map(|kept| &kept.data) {
            Some(SnapshotData::File(file)) => file.metadata().map_or(0, |about| about.len()),
            Some(SnapshotData::Memory(_)) | None => 0,
        }
    }

    /// Writes a snapshot and drops the older ones. Blocks for as long as the disk takes.
    pub(super) fn keep(&self, meta: SnapshotMeta, state: State) -> io::Result<Kept> {
        let kept = match &self.dir {
            None => Kept { meta, data: SnapshotData::Memory(Box::new(state)) },
            Some(dir) => {
                let file = write(dir, &meta, &state).inspect_err(|_| remove(&dir.join(UNFINISHED)))?;
                let index = meta.last_log_id.map_or(0, |id| id.index);
                for (other, path) in list(dir)? {
                    if other < index {
                        remove(&path);
                    }
                }
                Kept { meta, data: SnapshotData::File(Arc::new(file)) }
            }
        };
        let mut newest = self.newest();
        if newest.as_ref().is_none_or(|newest| newest.meta.last_log_id <= kept.meta.last_log_id) {
            *newest = Some(kept.clone());
        }
        drop(newest);
        Ok(kept)
    }

    fn newest(&self) -> MutexGuard<'_, Option<Kept>> {
        self.newest.lock().expect("no holder panics: they move values in memory")
    }
}

impl SnapshotData {
    /// Reads and checks all of it.
    pub(super) fn read(&self) -> Result<(SnapshotMeta, State), SnapshotFault> {
        let file = match self {
            Self::Memory(_) => return Err(SnapshotFault::Head("a state in memory has no head".to_owned())),
            Self::File(file) => file,
        };
        read_from(&mut BufReader::new(Cursor { file, at: 0 }))
    }
}

/// Reads head and state, to the end of what there is.
fn read_from(mut from: &mut impl Read) -> Result<(SnapshotMeta, State), SnapshotFault> {
    let mut head = Vec::new();
    // the record's own length says how much of it there is: take its fixed part first
    from.by_ref().take(codec::HEAD as u64).read_to_end(&mut head)?;
    let body = codec::body_len(&head).map_err(|fault| SnapshotFault::Head(fault.to_string()))?;
    from.by_ref().take(body.min(HEAD_BYTES_MAX)).read_to_end(&mut head)?;
    let meta = codec::open_snapshot_meta(&head).map_err(|fault| SnapshotFault::Head(fault.to_string()))?;
    let state = State::read_from(&mut from)?;
    if from.read(&mut [0])? != 0 {
        return Err(SnapshotFault::Head("bytes follow its end".to_owned()));
    }
    if Some(state.last_applied()) != meta.last_log_id.map(|id| id.index) {
        return Err(SnapshotFault::Head("head and state are of different entries".to_owned()));
    }
    Ok((meta, state))
}

/// A snapshot on its way out, piece by piece.
pub(super) struct Pieces {
    /// Its head, as sealed in the file.
    pub(super) head: Bytes,
    /// Bytes of all of it.
    pub(super) length: u64,
    from: Source,
    at: u64,
}

enum Source {
    File(Arc<File>),
    Memory(Arc<Vec<u8>>),
}

impl Pieces {
    pub(super) async fn of(meta: SnapshotMeta, data: SnapshotData) -> io::Result<Self> {
        let head = Bytes::from(codec::seal_snapshot_meta(&meta));
        let (length, from) = match data {
            SnapshotData::File(file) => (file.metadata()?.len(), Source::File(file)),
            SnapshotData::Memory(state) => {
                let mut bytes = head.to_vec();
                let written = tokio::task::spawn_blocking(move || state.write_to(&mut bytes).map(|()| bytes)).await;
                let bytes = written.map_err(io::Error::other)??;
                (bytes.len() as u64, Source::Memory(Arc::new(bytes)))
            }
        };
        Ok(Self { head, length, from, at: 0 })
    }

    /// Where the next piece begins, its bytes, and whether it is the last one.
    pub(super) async fn next(&mut self) -> io::Result<(u64, Vec<u8>, bool)> {
        let at = self.at;
        let data = match &self.from {
            Source::Memory(bytes) => {
                let start = bytes.len().min(at as usize);
                bytes[start..bytes.len().min(start + PIECE_BYTES)].to_vec()
            }
            Source::File(file) => {
                let file = file.clone();
                let read = move || {
                    let mut piece = Vec::new();
                    Cursor { file: &file, at }.take(PIECE_BYTES as u64).read_to_end(&mut piece).map(|_| piece)
                };
                tokio::task::spawn_blocking(read).await.map_err(io::Error::other)??
            }
        };
        self.at += data.len() as u64;
        let last = data.len() < PIECE_BYTES;
        Ok((at, data, last))
    }
}

/// A snapshot on its way in. What comes is checked when it is whole.
pub(super) struct Gathering {
    pub(super) head: Bytes,
    into: Sink,
    at: u64,
}

enum Sink {
    File(Arc<File>),
    Memory(Vec<u8>),
}

impl Gathering {
    /// Begins one that is announced with this head.
    pub(super) fn begin(dir: Option<&Path>, head: Bytes) -> io::Result<Self> {
        let into = match dir {
            None => Sink::Memory(Vec::new()),
            Some(dir) => {
                let path = dir.join(INCOMING);
                let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).mode(0o600).open(&path)?;
                fs::remove_file(&path)?;
                Sink::File(Arc::new(file))
            }
        };
        Ok(Self { head, into, at: 0 })
    }

    /// Takes the next piece; one that does not follow the last is an error, and the sender begins again.
    pub(super) async fn take(&mut self, offset: u64, data: Bytes) -> io::Result<()> {
        if offset != self.at {
            let what = format!("a piece from byte {offset} of a snapshot, where {} is due", self.at);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let length = data.len() as u64;
        match &mut self.into {
            Sink::Memory(bytes) => {
                if offset + length > IN_MEMORY_BYTES_MAX {
                    return Err(io::Error::new(io::ErrorKind::OutOfMemory, "too long to be kept in memory"));
                }
                bytes.extend_from_slice(&data);
            }
            Sink::File(file) => {
                let file = file.clone();
                let write = move || file.write_all_at(&data, offset);
                tokio::task::spawn_blocking(write).await.map_err(io::Error::other)??;
            }
        }
        self.at += length;
        Ok(())
    }

    /// All of it is there: reads and checks it. openraft takes an error of installing for a broken disk and ends, so what is
    /// damaged must not get that far.
    pub(super) async fn finish(self) -> io::Result<(SnapshotMeta, State)> {
        let read = move || {
            let (announced, read) = match self.into {
                Sink::File(file) => (self.head, SnapshotData::File(file).read()),
                Sink::Memory(bytes) => (self.head, read_from(&mut bytes.as_slice())),
            };
            let (meta, state) = read.map_err(io::Error::other)?;
            if codec::seal_snapshot_meta(&meta) != announced {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not the one that was announced"));
            }
            Ok((meta, state))
        };
        tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
    }
}

fn write(dir: &Path, meta: &SnapshotMeta, state: &State) -> io::Result<File> {
    let unfinished = dir.join(UNFINISHED);
    let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).mode(0o600).open(&unfinished)?;
    let mut out = BufWriter::with_capacity(1 << 16, &file);
    out.write_all(&codec::seal_snapshot_meta(meta))?;
    state.write_to(&mut out)?;
    out.flush()?;
    drop(out);
    file.sync_all()?;
    let index = meta.last_log_id.map_or(0, |id| id.index);
    fs::rename(&unfinished, dir.join(format!("{PREFIX}{index}")))?;
    sync_dir(dir)?;
    Ok(file)
}

fn list(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if let Some(index) = entry.file_name().to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse().ok()) {
            found.push((index, entry.path()));
        }
    }
    Ok(found)
}

/// An older snapshot that stays costs space, nothing else: the next one takes it along.
fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "an old snapshot could not be removed");
    }
}

/// Reads a file from its start without moving the position that others may use.
struct Cursor<'a> {
    file: &'a File,
    at: u64,
}

impl Read for Cursor<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(to, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
