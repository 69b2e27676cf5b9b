//! What the local agent keeps on disk: definitions told over the API, the last verdict of every check, the start count.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use muster_catalog::{CheckId, LocalCheck, LocalService, ServiceId, Status};
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use tokio::sync::{mpsc, oneshot};

const SERVICES: TableDefinition<&str, &[u8]> = TableDefinition::new("services");
const CHECKS: TableDefinition<&str, &[u8]> = TableDefinition::new("checks");
const VERDICTS: TableDefinition<&str, &[u8]> = TableDefinition::new("verdicts");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const STARTS: &str = "starts";

/// Page cache: the tables are read once, at start.
const CACHE_BYTES: usize = 256 << 10;
/// Notes on their way to the disk. A registration waits for room; a verdict that finds none is told again with its check's next result.
const NOTES_MAX: usize = 1024;

/// Free space below which nothing is written: orders are refused much earlier, with raft's writes (`DISK_RESERVE`), so what comes
/// this far is a verdict or was under way. A thousand notes of 4 KB and the pages redb copies for them take less.
const RESERVE: u64 = 16 << 20;

/// What a restart begins with.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) services: Vec<LocalService>,
    pub(crate) checks: Vec<LocalCheck>,
    pub(crate) verdicts: Vec<(CheckId, Verdict)>,
    /// How often this agent has been started, this time included.
    pub(crate) starts: u64,
}

/// A check's last verdict.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) status: Status,
    pub(crate) output: SmolStr,
}

/// A change to be kept.
#[derive(Debug, Clone)]
pub(crate) enum Note {
    Service(Box<LocalService>),
    NoService(ServiceId),
    Check(Box<LocalCheck>),
    NoCheck(CheckId),
    Verdict(CheckId, Verdict),
}

/// Changes that are kept together, and who waits for it.
type Batch = (Vec<Note>, Option<oneshot::Sender<Result<(), Arc<anyhow::Error>>>>);

/// The writer's inlet.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    notes: mpsc::Sender<Batch>,
}

/// Room for one batch of notes. It is taken before what they tell of is changed, so that notes are sent in the order of
/// the changes, and none is missing when whoever asked has gone meanwhile.
#[derive(Debug)]
pub(crate) struct Room<'a>(mpsc::Permit<'a, Batch>);

/// Notes on their way.
#[derive(Debug)]
pub(crate) struct Sent(oneshot::Receiver<Result<(), Arc<anyhow::Error>>>);

impl Room<'_> {
    pub(crate) fn send(self, notes: Vec<Note>) -> Sent {
        let (done, is_done) = oneshot::channel();
        self.0.send((notes, Some(done)));
        Sent(is_done)
    }
}

impl Sent {
    /// Returns when they are durable.
    pub(crate) async fn durable(self) -> Result<(), Arc<anyhow::Error>> {
        self.0.await.unwrap_or_else(|_| Err(gone()))
    }
}

fn gone() -> Arc<anyhow::Error> {
    Arc::new(anyhow::anyhow!("the writer of the local state has ended"))
}

impl Disk {
    /// Opens or makes the file, counts this start durably, and starts the writer's thread.
    pub(crate) fn open(path: &Path) -> anyhow::Result<(Self, Kept)> {
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => {
                anyhow::anyhow!("the data directory is in use by another process: {} is locked", path.display())
            }
            error => anyhow::Error::new(error).context(format!("cannot open {} (local services and checks)", path.display())),
        })?;
        let kept = read(&database).with_context(|| format!("cannot read {}", path.display()))?;
        let (notes, inlet) = mpsc::channel(NOTES_MAX);
        std::thread::Builder::new()
            .name("local-disk".into())
            .spawn({
                let dir = path.parent().unwrap_or(Path::new("/")).to_owned();
                move || write_all(&database, &dir, inlet)
            })
            .context("no thread for the local state")?;
        Ok((Self { notes }, kept))
    }

    /// Waits until there is room for notes.
    pub(crate) async fn room(&self) -> Result<Room<'_>, Arc<anyhow::Error>> {
        self.notes.reserve().await.map(Room).map_err(|_| gone())
    }

    /// Keeps a verdict when there is time; says whether there was room for it.
    pub(crate) fn keep_verdict(&self, check: CheckId, verdict: Verdict) -> bool {
        self.notes.try_send((vec![Note::Verdict(check, verdict)], None)).is_ok()
    }
}

fn read(database: &Database) -> anyhow::Result<Kept> {
    let write = database.begin_write()?;
    let starts = {
        write.open_table(SERVICES)?;
        write.open_table(CHECKS)?;
        write.open_table(VERDICTS)?;
        let mut meta = write.open_table(META)?;
        let starts = meta.get(STARTS)?.map_or(0, |starts| starts.value()) + 1;
        meta.insert(STARTS, starts)?;
        starts
    };
    write.commit()?;
    let read = database.begin_read()?;
    let mut kept = Kept { starts, ..Kept::default() };
    for row in read.open_table(SERVICES)?.iter()? {
        let (id, bytes) = row?;
        kept.services.extend(unpack("service", id.value(), bytes.value()));
    }
    for row in read.open_table(CHECKS)?.iter()? {
        let (id, bytes) = row?;
        kept.checks.extend(unpack("check", id.value(), bytes.value()));
    }
    for row in read.open_table(VERDICTS)?.iter()? {
        let (id, bytes) = row?;
        let verdict: Option<Verdict> = unpack("verdict", id.value(), bytes.value());
        kept.verdicts.extend(CheckId::new(id.value()).ok().zip(verdict));
    }
    Ok(kept)
}

/// One unreadable row is told and left out; it must not keep an agent from starting.
fn unpack<T: DeserializeOwned>(what: &str, id: &str, bytes: &[u8]) -> Option<T> {
    muster_catalog::unpack(bytes)
        .inspect_err(|error| tracing::warn!(what, id, %error, "a kept definition cannot be read and is left out"))
        .ok()
}

/// Takes whatever waits, writes it in one transaction, answers; ends when the last inlet is dropped.
///
/// While the disk is almost full it refuses what somebody waits for, and remembers verdicts: a commit that finds no space would
/// close the file to every later one.
fn write_all(database: &Database, dir: &Path, mut inlet: mpsc::Receiver<Batch>) {
    let mut waiting = Vec::new();
    let mut later = BTreeMap::new();
    while let Some(first) = inlet.blocking_recv() {
        waiting.push(first);
        while let Ok(next) = inlet.try_recv() {
            waiting.push(next);
        }
        let result = if full(dir) {
            let told = waiting.iter().filter(|(_, done)| done.is_none());
            for note in told.flat_map(|(notes, _)| notes) {
                if let Note::Verdict(id, _) = note {
                    later.insert(id.clone(), note.clone());
                }
            }
            Err(Arc::new(anyhow::anyhow!("no space left on the disk of {}", dir.display())))
        } else {
            let late = std::mem::take(&mut later);
            write(database, late.values().chain(waiting.iter().flat_map(|(notes, _)| notes))).map_err(Arc::new)
        };
        if let Err(error) = &result {
            tracing::error!(error = format!("{error:#}"), "local services and checks cannot be kept");
        }
        for done in waiting.drain(..).filter_map(|(_, done)| done) {
            let _ = done.send(result.clone());
        }
    }
}

/// A disk that cannot be asked is not a full one: the commit will tell.
fn full(dir: &Path) -> bool {
    rustix::fs::statvfs(dir).is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < RESERVE)
}

fn write<'a>(database: &Database, notes: impl Iterator<Item = &'a Note>) -> anyhow::Result<()> {
    let write = database.begin_write()?;
    {
        let (mut services, mut checks, mut verdicts) =
            (write.open_table(SERVICES)?, write.open_table(CHECKS)?, write.open_table(VERDICTS)?);
        for note in notes {
            match note {
                Note::Service(local) => {
                    services.insert(local.service.id.as_str(), rmp_serde::to_vec_named(local)?.as_slice())?;
                }
                Note::NoService(id) => {
                    services.remove(id.as_str())?;
                }
                Note::Check(local) => {
                    checks.insert(local.check.id.as_str(), rmp_serde::to_vec_named(local)?.as_slice())?;
                    verdicts.remove(local.check.id.as_str())?; // the row has its own, and an older one may be of another probe
                }
                Note::NoCheck(id) => {
                    checks.remove(id.as_str())?;
                    verdicts.remove(id.as_str())?;
                }
                Note::Verdict(id, verdict) => {
                    verdicts.insert(id.as_str(), rmp_serde::to_vec_named(verdict)?.as_slice())?;
                }
            }
        }
    }
    write.commit()?;
    Ok(())
}
