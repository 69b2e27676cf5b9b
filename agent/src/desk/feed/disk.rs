//! A client's copy of the catalog on its disk: a cache that lets it answer before any server does.
//!
//! ```text
//! head:  "mustercp" · version 4 · free 4 · when a leader was last heard of 8     (milliseconds since 1970)
//! then:  length 4 · crc32 4 · frame       a batch with everything, and the batches after it, as they travel
//! ```
//! Integers are little-endian. Whatever is torn is left out with all that follows it: what comes before is a catalog as it was.
#![allow(clippy::disallowed_methods)] // the age of the copy is told by the wall clock

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use muster_catalog::{Batch, FRAME_BYTES_MAX, Incoming, Intake, Reader, Store};
use tokio::sync::oneshot;

use super::metrics;

const MAGIC: &[u8; 8] = b"mustercp";
const VERSION: u32 = 1;
const HEAD_BYTES: u64 = 24;
/// Where in the head the age stands.
const HEARD_AT: u64 = 16;

/// How much may be lost when the machine goes down, in time; the next start then asks a server for that much.
const SYNC_EVERY: Duration = Duration::from_secs(30);
/// Notes on their way to the disk; a disk that is slower than this many gets the catalog as a whole when it can.
const NOTES_MAX: usize = 256;
/// Largest batch that is appended: a larger one is little less than everything.
const APPEND_BYTES_MAX: usize = 4 * FRAME_BYTES_MAX;
/// Changes are appended until they are as large as what they change, but at least this: so that a small catalog is not written
/// anew all the time.
const TAIL_BYTES_MIN: u64 = 1 << 20;
/// Free space below which nothing is written: a cache must not be what fills the disk.
const RESERVE: u64 = 64 << 20;

/// The writer's inlet.
#[derive(Debug, Clone)]
pub(crate) struct DiskCopy {
    notes: SyncSender<Note>,
    /// Whether a note found no room: what is on disk ends before it.
    torn: Arc<AtomicBool>,
}

#[derive(Debug)]
enum Note {
    Append(Vec<Bytes>),
    Rewrite,
    /// A leader was heard of, at this time.
    Heard(u64),
    Flush(oneshot::Sender<()>),
}

impl DiskCopy {
    /// Reads the copy into the store, publishes it, and starts the writer's thread. Says how old it is, if there is one.
    pub(crate) fn open(path: &Path, store: &mut Store) -> anyhow::Result<(Self, Option<Duration>)> {
        let (whole_to, heard_ms) = match read(path, store) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => (0, 0),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the copy of the catalog cannot be read: a server will send it");
                (0, 0)
            }
        };
        store.publish();
        let (notes, inlet) = sync_channel(NOTES_MAX);
        let torn = Arc::new(AtomicBool::new(false));
        let mut writer = Writer {
            path: path.to_owned(),
            reader: store.reader(),
            torn: torn.clone(),
            file: None,
            base: whole_to,
            end: whole_to,
            heard_ms,
            dirty: false,
            failing: false,
        };
        if whole_to > 0 {
            writer.reopen();
        }
        std::thread::Builder::new().name("feed-copy".into()).spawn(move || writer.run(&inlet))?;
        let age = (whole_to > 0 && heard_ms > 0).then(|| Duration::from_millis(now_ms().saturating_sub(heard_ms)));
        Ok((Self { notes, torn }, age))
    }

    /// What [`DiskCopy::append`] takes; `None` for a batch that is too large for it.
    pub(super) fn frames(&self, batch: &Batch) -> Option<Vec<Bytes>> {
        let mut frames = Vec::new();
        let mut bytes = 0;
        for frame in batch.frames() {
            bytes += frame.len();
            if bytes > APPEND_BYTES_MAX {
                return None;
            }
            frames.push(frame);
        }
        Some(frames)
    }

    /// Keeps a batch that was entered.
    pub(super) fn append(&self, frames: Vec<Bytes>) {
        self.note(Note::Append(frames));
    }

    /// Keeps everything that is published.
    pub(super) fn rewrite(&self) {
        self.note(Note::Rewrite);
    }

    /// Keeps how old what is here can be.
    pub(super) fn note_age(&self, age: Duration) {
        let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let _ = self.notes.try_send(Note::Heard(now_ms().saturating_sub(age_ms))); // The next beat has it too.
    }

    /// Returns when everything noted is durable, as far as the disk lets it be.
    pub(super) async fn flush(&self) {
        let (done, is_done) = oneshot::channel();
        let notes = self.notes.clone();
        let sent = tokio::task::spawn_blocking(move || notes.send(Note::Flush(done)).is_ok()).await;
        if sent.unwrap_or(false) {
            let _ = is_done.await;
        }
    }

    fn note(&self, note: Note) {
        if self.notes.try_send(note).is_err() {
            self.torn.store(true, Ordering::Release);
        }
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Reads what is whole: where that ends, and when a leader was last heard of.
fn read(path: &Path, store: &mut Store) -> io::Result<(u64, u64)> {
    let mut from = BufReader::with_capacity(1 << 16, File::open(path)?);
    let mut head = [0; HEAD_BYTES as usize];
    from.read_exact(&mut head)?;
    let number = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes of the head"));
    if head[..8] != *MAGIC || number(8) != VERSION {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a copy that this version of muster reads"));
    }
    let heard_ms = u64::from(number(HEARD_AT as usize)) | u64::from(number(HEARD_AT as usize + 4)) << 32;
    let mut intake = Intake::new();
    let mut frame = Vec::new();
    let (mut at, mut whole_to) = (HEAD_BYTES, 0);
    while let Some(length) = next_frame(&mut from, &mut frame)? {
        at += length;
        let Ok(done) = intake.take(&frame) else { break };
        let entered = done.into_iter().all(|incoming| match incoming {
            Incoming::Batch(batch) => store.enter(*batch).is_ok(),
            Incoming::Beat(_) => true,
        });
        if !entered {
            break;
        }
        if intake.is_between() {
            whole_to = at;
        }
    }
    Ok((whole_to, heard_ms))
}

/// Reads a frame and says how many bytes it takes in the file; `None` at the end, or where it is torn.
fn next_frame(from: &mut impl Read, frame: &mut Vec<u8>) -> io::Result<Option<u64>> {
    let mut prefix = [0; 8];
    match from.read_exact(&mut prefix) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let [a, b, c, d, rest @ ..] = prefix;
    let length = u64::from(u32::from_le_bytes([a, b, c, d]));
    if length == 0 || length > FRAME_BYTES_MAX as u64 {
        return Ok(None);
    }
    frame.clear();
    let read = from.take(length).read_to_end(frame)?;
    let whole = read as u64 == length && crc32fast::hash(frame) == u32::from_le_bytes(rest);
    Ok(whole.then_some(length + 8))
}

/// Owns the file.
struct Writer {
    path: PathBuf,
    reader: Reader,
    torn: Arc<AtomicBool>,
    /// `None` until there is a whole copy.
    file: Option<File>,
    /// Where changes begin.
    base: u64,
    /// Where the next one goes.
    end: u64,
    heard_ms: u64,
    /// Whether something was written since the last sync.
    dirty: bool,
    /// Whether the disk refused the last write, so that it is said once.
    failing: bool,
}

impl Writer {
    /// Goes on after what was read; what is torn goes.
    fn reopen(&mut self) {
        let opened = OpenOptions::new().write(true).open(&self.path).and_then(|file| file.set_len(self.end).map(|()| file));
        self.file = opened.inspect_err(|error| tracing::warn!(%error, "the copy of the catalog is begun anew")).ok();
    }

    fn run(mut self, inlet: &Receiver<Note>) {
        let mut sync_at = Instant::now() + SYNC_EVERY;
        loop {
            match inlet.recv_timeout(sync_at.saturating_duration_since(Instant::now())) {
                Ok(note) => self.take(note),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if Instant::now() >= sync_at {
                sync_at = Instant::now() + SYNC_EVERY;
                let torn = self.torn.swap(false, Ordering::AcqRel) || self.failing;
                self.attempt(|writer| {
                    if torn {
                        writer.rewrite()?;
                    }
                    writer.sync()
                });
            }
        }
    }

    fn take(&mut self, note: Note) {
        match note {
            Note::Append(frames) if self.file.is_some() && !self.failing => self.attempt(|writer| writer.append(&frames)),
            Note::Append(_) if self.failing => {} // All of it is tried again with the next sync.
            Note::Append(_) | Note::Rewrite => self.attempt(Self::rewrite),
            Note::Heard(heard_ms) => {
                self.heard_ms = heard_ms;
                if let Some(file) = &self.file {
                    let _ = file.write_all_at(&heard_ms.to_le_bytes(), HEARD_AT); // The next beat has it too.
                }
            }
            Note::Flush(done) => {
                let torn = self.torn.swap(false, Ordering::AcqRel);
                self.dirty = true; // The age alone may be what is new.
                self.attempt(|writer| if torn { writer.rewrite() } else { writer.sync() });
                let _ = done.send(());
            }
        }
    }

    fn attempt(&mut self, work: impl FnOnce(&mut Self) -> io::Result<()>) {
        match work(self) {
            Ok(()) => self.failing = false,
            Err(error) => {
                if !self.failing {
                    tracing::warn!(path = %self.path.display(), %error, "the copy of the catalog cannot be kept for now");
                }
                self.failing = true;
            }
        }
    }

    fn append(&mut self, frames: &[Bytes]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut record = Vec::with_capacity(frames.iter().map(|frame| frame.len() + 8).sum());
        frames.iter().for_each(|frame| put(&mut record, frame));
        file.write_all_at(&record, self.end)?;
        self.end += record.len() as u64;
        self.dirty = true;
        metrics::FOLLOW.copy_bytes.increment(record.len() as u64);
        if self.end - self.base > self.base.max(TAIL_BYTES_MIN) { self.rewrite() } else { Ok(()) }
    }

    /// Writes everything beside the old copy, then takes its place: there is always a whole one.
    fn rewrite(&mut self) -> io::Result<()> {
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        if rustix::fs::statvfs(dir).is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < RESERVE) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the disk is almost full"));
        }
        let state = Arc::clone(&self.reader.load());
        let unfinished = self.path.with_extension("new");
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).mode(0o600).open(&unfinished)?;
        let mut out = BufWriter::with_capacity(1 << 16, file);
        out.write_all(MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        out.write_all(&[0; 4])?;
        out.write_all(&self.heard_ms.to_le_bytes())?;
        let mut record = Vec::new();
        for frame in state.whole().frames() {
            record.clear();
            put(&mut record, &frame);
            out.write_all(&record)?;
        }
        let mut file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_data()?; // Rare, and beside everything else: the copy before it was durable too.
        let end = file.seek(SeekFrom::End(0))?;
        fs::rename(&unfinished, &self.path)?;
        (self.base, self.end, self.dirty, self.file) = (end, end, false, Some(file));
        metrics::FOLLOW.copy_bytes.increment(end);
        metrics::FOLLOW.copy_rewrites.increment(1);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if let Some(file) = self.file.as_ref().filter(|_| self.dirty) {
            file.sync_data()?;
            self.dirty = false;
        }
        Ok(())
    }
}

fn put(record: &mut Vec<u8>, frame: &Bytes) {
    record.extend_from_slice(&(frame.len() as u32).to_le_bytes());
    record.extend_from_slice(&crc32fast::hash(frame).to_le_bytes());
    record.extend_from_slice(frame);
}
