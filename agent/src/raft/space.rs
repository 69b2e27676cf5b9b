//! Room on the disk: looked at before a write enters the log, so that a full disk costs writes and not the server.
//!
//! A commit that fails for want of space would end raft for good: what the kernel could not write it may drop. So new writes
//! are refused while less than a reserve is free; what is already under way, votes and the log's own bookkeeping live from the
//! reserve. When space is freed, the next look lets writes in again.
#![allow(clippy::disallowed_methods)] // the last look has an age

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Free space below which writes are refused. In flight are at most 16 MB (`IN_FLIGHT_BYTES_MAX`), a disk takes some 10 MB
/// between two looks, and redb writes changed pages beside the old ones, so both about twice.
pub const DISK_RESERVE: u64 = 64 << 20;

/// How old a look may be: `statvfs` takes a microsecond, a tenth of what a write may cost here.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The disk under the data directory.
#[derive(Debug)]
pub(super) struct Space {
    /// `None` in memory.
    dir: Option<PathBuf>,
    reserve: u64,
    last: Mutex<Option<Look>>,
}

#[derive(Debug, Clone, Copy)]
struct Look {
    at: Instant,
    full: bool,
}

impl Space {
    pub(super) fn new(dir: Option<PathBuf>, reserve: u64) -> Self {
        Self { dir, reserve, last: Mutex::new(None) }
    }

    /// Whether so many bytes more leave the reserve untouched.
    pub(super) fn has_room_for(&self, bytes: u64) -> bool {
        let Some(dir) = &self.dir else { return true };
        free(dir) >= self.reserve.saturating_add(bytes)
    }

    /// The directory, if its disk is too full to take a write.
    pub(super) fn full(&self) -> Option<&PathBuf> {
        let dir = self.dir.as_ref()?;
        let mut last = self.last.lock().expect("no holder panics: a system call and a comparison");
        let now = Instant::now();
        let before = last.map(|look| look.full);
        if let Some(look) = *last
            && now.duration_since(look.at) < LOOK_EVERY
        {
            return look.full.then_some(dir);
        }
        let free = free(dir);
        let full = free < self.reserve;
        *last = Some(Look { at: now, full });
        if full != before.unwrap_or(false) {
            let path = dir.display();
            if full {
                tracing::error!(%path, free, reserve = self.reserve, "the disk is almost full: writes are refused, reads go on");
            } else {
                tracing::info!(%path, free, "the disk has space again: writes are accepted");
            }
        }
        full.then_some(dir)
    }
}

/// Free space. A disk that cannot be asked is not a full one: the commit will tell.
fn free(dir: &Path) -> u64 {
    rustix::fs::statvfs(dir).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}
