//! The log under openraft's own suite, under damage, and under many writers.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use openraft::EntryPayload;

use openraft::storage::RaftLogStorageExt;
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt as _;
use openraft::vote::RaftVote as _;
use openraft::{StorageError, impls::leader_id_std::LeaderId};
use tempfile::TempDir;

use super::shared::{TAIL_BYTES, size};
use super::*;
use crate::raft::growth::Growth;
use crate::raft::machine::{Bells, Machine};
use crate::raft::snapshot::Shelf;
use crate::raft::types::Payload;

fn machine() -> Machine {
    let bells = Bells { touched: Box::new(|_| {}), all: Box::new(|| {}) };
    let (shelf, _) = Shelf::open(None).unwrap();
    Machine::new(muster_catalog::Store::new(), bells, Arc::new(shelf), None, Growth::new(u64::MAX), Alarm::new())
}

fn open(path: &Path) -> Result<(Dir, Log), StartError> {
    let dir = Dir::lock(path)?;
    let log = Log::open(Some(&dir), Alarm::new())?;
    Ok((dir, log))
}

fn close((dir, log): (Dir, Log)) {
    drop(log.store);
    log.writer.join().unwrap();
    drop(dir);
}

fn entry(index: u64) -> Entry {
    let payload = Payload(Bytes::from(format!("command {index} {}", "x".repeat(200))));
    Entry::new(LogId::new_term_index(1, index), EntryPayload::Normal(payload))
}

fn vote(term: u64) -> Vote {
    Vote::from_leader_id(LeaderId { term, voted_for: RaftId::from(1) }, true)
}

async fn read(log: &mut Log, range: impl RangeBounds<u64> + Clone + Debug + Send) -> Vec<u64> {
    let entries = log.store.get_log_reader().await.try_get_log_entries(range).await.unwrap();
    entries.iter().map(|entry| entry.log_id().index).collect()
}

struct OnDisk;
struct InMemory;

impl StoreBuilder<Types, LogStore, Machine, (TempDir, Dir)> for OnDisk {
    async fn build(&self) -> Result<((TempDir, Dir), LogStore, Machine), StorageError<Types>> {
        let temp = tempfile::tempdir().unwrap();
        let (dir, log) = open(&temp.path().join("raft")).unwrap();
        Ok(((temp, dir), log.store, machine()))
    }
}

impl StoreBuilder<Types, LogStore, Machine> for InMemory {
    async fn build(&self) -> Result<((), LogStore, Machine), StorageError<Types>> {
        Ok(((), Log::open(None, Alarm::new()).unwrap().store, machine()))
    }
}

#[tokio::test]
async fn the_engines_own_suite_passes_on_disk() {
    Suite::<Types, LogStore, Machine, _, _>::test_all(OnDisk).await.unwrap();
}

#[tokio::test]
async fn the_engines_own_suite_passes_in_memory() {
    Suite::<Types, LogStore, Machine, _, _>::test_all(InMemory).await.unwrap();
}

#[tokio::test]
async fn votes_and_entries_are_there_after_a_restart() {
    let temp = tempfile::tempdir().unwrap();
    let mut first = open(temp.path()).unwrap();
    assert!(first.1.pristine);
    let id = first.1.raft_id;
    first.1.store.save_vote(&vote(3)).await.unwrap();
    first.1.store.blocking_append((0..100).map(entry)).await.unwrap();
    first.1.store.save_committed(Some(LogId::new_term_index(1, 90))).await.unwrap();
    close(first);

    let (_dir, mut log) = open(temp.path()).unwrap();
    assert!(!log.pristine);
    assert_eq!(log.raft_id, id);
    assert_eq!(log.store.get_log_reader().await.read_vote().await.unwrap(), Some(vote(3)));
    assert_eq!(log.store.read_committed().await.unwrap(), Some(LogId::new_term_index(1, 90)));
    assert_eq!(read(&mut log, ..).await, Vec::from_iter(0..100));
}

#[tokio::test]
async fn a_read_spans_disk_and_memory() {
    let (_temp, mut log) = (tempfile::tempdir().unwrap(), Log::open(None, Alarm::new()).unwrap());
    let count = 3 * (TAIL_BYTES / size(&entry(1000))) as u64;
    for start in (0..count).step_by(1000) {
        log.store.blocking_append((start..(start + 1000).min(count)).map(entry)).await.unwrap();
    }
    let in_memory = log.store.shared.view().tail.entries.len() as u64;
    assert!(in_memory < count / 2, "{in_memory} of {count} entries are in memory");
    assert_eq!(read(&mut log, 10..count).await, Vec::from_iter(10..count));
    let capped = log.store.get_log_reader().await.limited_get_log_entries(0, count).await.unwrap();
    assert!(!capped.is_empty() && (capped.len() as u64) < count);
    log.store.purge(LogId::new_term_index(1, count - 5)).await.unwrap();
    assert_eq!(read(&mut log, ..).await, Vec::from_iter(count - 4..count));
    log.store.truncate_after(Some(LogId::new_term_index(1, count - 3))).await.unwrap();
    assert_eq!(read(&mut log, ..).await, [count - 4, count - 3]);
}

/// Entries that were written together are one row: what begins or ends within one is read, cut and left out as if each were its own.
#[tokio::test]
async fn a_log_may_begin_and_end_within_a_row() {
    let temp = tempfile::tempdir().unwrap();
    let id = |index| LogId::new_term_index(1, index);
    let mut log = open(temp.path()).unwrap();
    log.1.store.blocking_append((0..100).map(entry)).await.unwrap();
    log.1.store.blocking_append((100..110).map(entry)).await.unwrap();
    log.1.store.purge(id(40)).await.unwrap();
    log.1.store.truncate_after(Some(id(60))).await.unwrap();
    log.1.store.blocking_append((61..70).map(entry)).await.unwrap();
    close(log);

    let mut log = open(temp.path()).unwrap();
    assert_eq!(log.1.purged, Some(id(40)));
    assert_eq!(read(&mut log.1, ..).await, Vec::from_iter(41..70));
    assert_eq!(read(&mut log.1, 50..62).await, Vec::from_iter(50..62));
    log.1.store.purge(id(60)).await.unwrap();
    log.1.store.purge(id(65)).await.unwrap();
    log.1.store.blocking_append((70..1000).map(entry)).await.unwrap();
    close(log);

    let mut found = Vec::new();
    read_log(temp.path(), |logged| {
        found.push(logged.index);
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(found, Vec::from_iter(66..1000));
    let mut log = open(temp.path()).unwrap();
    assert_eq!(read(&mut log.1, ..).await, Vec::from_iter(66..1000));
    log.1.store.truncate_after(None).await.unwrap();
    assert_eq!(read(&mut log.1, ..).await, Vec::<u64>::new());
    log.1.store.purge(id(2000)).await.unwrap();
    log.1.store.blocking_append((2001..2003).map(entry)).await.unwrap();
    close(log);
    let mut log = open(temp.path()).unwrap();
    assert_eq!(read(&mut log.1, ..).await, [2001_u64, 2002]);
    close(log);
}

/// Group commit, counted and not timed: while one commit is at work, the others wait, and share the next.
#[tokio::test]
async fn many_writers_share_commits() {
    const APPENDS: u64 = 6400;
    let temp = tempfile::tempdir().unwrap();
    let (_dir, mut log) = open(temp.path()).unwrap();
    let before = log.store.commits();
    let mut waiting = VecDeque::new();
    for index in 0..APPENDS {
        let (done, flushed) = Types::oneshot();
        log.store.append([entry(index)], IOFlushed::signal(done)).await.unwrap();
        waiting.push_back(flushed);
        if waiting.len() == 64 {
            waiting.pop_front().unwrap().await.unwrap().unwrap();
        }
    }
    for flushed in waiting {
        flushed.await.unwrap().unwrap();
    }
    let commits = log.store.commits() - before;
    assert!(commits * 8 < APPENDS, "{commits} commits for {APPENDS} appends of 64 writers");
}

#[tokio::test]
async fn a_commit_index_alone_costs_no_commit() {
    let temp = tempfile::tempdir().unwrap();
    let (_dir, mut log) = open(temp.path()).unwrap();
    log.store.blocking_append([entry(0)]).await.unwrap();
    let before = log.store.commits();
    for _ in 0..100 {
        log.store.save_committed(Some(LogId::new_term_index(1, 0))).await.unwrap();
    }
    log.store.blocking_append([entry(1)]).await.unwrap();
    assert_eq!(log.store.commits() - before, 1);
}

#[tokio::test]
async fn a_second_process_is_refused_at_once() {
    let temp = tempfile::tempdir().unwrap();
    let first = open(temp.path()).unwrap();
    let refused = open(temp.path()).err().expect("it is in use");
    assert!(matches!(&refused, StartError::InUse { path } if path.starts_with(temp.path())), "{refused}");
    close(first);
    close(open(temp.path()).unwrap());
}

/// A log of 300 entries in commits of 10; the second copy is as a process leaves it that is killed: not closed.
async fn written(temp: &Path) -> (Vec<u8>, Vec<u8>) {
    let mut log = open(temp).unwrap();
    log.1.store.save_vote(&vote(1)).await.unwrap();
    for start in (0..300).step_by(10) {
        log.1.store.blocking_append((start..start + 10).map(entry)).await.unwrap();
    }
    let killed = fs::read(temp.join("log.redb")).unwrap();
    close(log);
    (fs::read(temp.join("log.redb")).unwrap(), killed)
}

/// Opens these bytes as a log of which all 300 entries were acknowledged.
fn reopen(from: &Path, bytes: &[u8]) -> Result<u64, StartError> {
    let temp = tempfile::tempdir().unwrap();
    fs::copy(from.join("acknowledged"), temp.path().join("acknowledged")).unwrap();
    fs::write(temp.path().join("log.redb"), bytes).unwrap();
    let log = open(temp.path())?;
    let entries = log.1.store.shared.view().last.map_or(0, |last| last.index + 1);
    close(log);
    Ok(entries)
}

#[tokio::test]
async fn a_flipped_byte_in_the_middle_is_refused_with_its_index() {
    let temp = tempfile::tempdir().unwrap();
    let (closed, killed) = written(temp.path()).await;
    assert_eq!(reopen(temp.path(), &closed).unwrap(), 300);
    assert_eq!(reopen(temp.path(), &killed).unwrap(), 300);
    for mut bytes in [closed, killed] {
        let wanted = b"command 137 ";
        let places: Vec<usize> = bytes.windows(wanted.len()).enumerate().filter(|(_, w)| w == wanted).map(|(at, _)| at).collect();
        assert!(!places.is_empty());
        for at in places {
            bytes[at] ^= 0x40; // in every copy that redb keeps of the page
        }
        let refused = reopen(temp.path(), &bytes).expect_err("a byte was changed");
        assert!(matches!(refused, StartError::LogDamaged { index: Some(137), .. }), "{refused}");
        let text = refused.to_string();
        assert!(text.contains("log.redb") && text.contains("entry 137") && text.contains("backup"), "{text}");
    }
}

/// Whatever byte it is: nothing panics, and nothing that was acknowledged is missing without a word.
#[tokio::test]
async fn any_flipped_byte_is_harmless_or_refused() {
    let temp = tempfile::tempdir().unwrap();
    let (closed, killed) = written(temp.path()).await;
    let mut outcomes = BTreeSet::new();
    for bytes in [closed, killed] {
        for at in (0..bytes.len()).step_by(bytes.len() / 50).chain((0..512).step_by(9)) {
            let mut changed = bytes.clone();
            changed[at] ^= 0x11;
            match reopen(temp.path(), &changed) {
                Ok(entries) => {
                    assert_eq!(entries, 300, "byte {at}");
                    outcomes.insert("harmless");
                }
                Err(StartError::LogDamaged { .. } | StartError::Newer { .. }) => {
                    outcomes.insert("refused");
                }
                Err(other) => panic!("byte {at}: {other}"),
            }
        }
    }
    assert_eq!(outcomes, BTreeSet::from(["harmless", "refused"]));
}

/// A file that a crash cut short: what is left opens, or the reason is told.
#[tokio::test]
async fn a_cut_tail_opens_or_says_why_not() {
    let temp = tempfile::tempdir().unwrap();
    let (closed, killed) = written(temp.path()).await;
    for bytes in [closed, killed] {
        for len in (0..bytes.len()).step_by(bytes.len() / 40).chain(bytes.len() - 10..bytes.len()) {
            match reopen(temp.path(), &bytes[..len]) {
                Ok(entries) => assert_eq!(entries, 300, "cut to {len}"),
                Err(StartError::LogDamaged { .. } | StartError::Newer { .. }) => {}
                Err(other) => panic!("cut to {len}: {other}"),
            }
        }
    }
}

/// A crash in the middle of a commit: the file is as some of its pages were written, and some not.
#[tokio::test]
async fn a_torn_last_commit_is_dropped() {
    let temp = tempfile::tempdir().unwrap();
    let mut log = open(temp.path()).unwrap();
    log.1.store.blocking_append((0..50).map(entry)).await.unwrap();
    let before = fs::read(temp.path().join("log.redb")).unwrap();
    let acknowledged = fs::read(temp.path().join("acknowledged")).unwrap();
    log.1.store.blocking_append((50..60).map(entry)).await.unwrap();
    let after = fs::read(temp.path().join("log.redb")).unwrap();
    close(log);
    // the header of the new commit, without the pages it speaks of; it was not acknowledged
    let mut torn = before.clone();
    torn.resize(after.len(), 0);
    torn[..4096].copy_from_slice(&after[..4096]);
    fs::write(temp.path().join("acknowledged"), &acknowledged).unwrap();
    assert_eq!(reopen(temp.path(), &torn).unwrap(), 50);
    // the same file, but the commit was finished and acknowledged: its entries are gone, and that is not a crash
    fs::write(
        temp.path().join("acknowledged"),
        [&59u64.to_le_bytes()[..], &crc32fast::hash(&59u64.to_le_bytes()).to_le_bytes()].concat(),
    )
    .unwrap();
    let refused = reopen(temp.path(), &torn).expect_err("acknowledged entries are missing");
    assert!(matches!(refused, StartError::LogDamaged { index: Some(50), .. }), "{refused}");
}

#[tokio::test]
async fn a_log_that_vanished_is_not_begun_anew() {
    let temp = tempfile::tempdir().unwrap();
    written(temp.path()).await;
    fs::remove_file(temp.path().join("log.redb")).unwrap();
    assert!(matches!(open(temp.path()), Err(StartError::Incomplete { .. })));
    fs::write(temp.path().join("log.redb"), b"").unwrap();
    assert!(matches!(open(temp.path()), Err(StartError::LogDamaged { .. })));
    fs::write(temp.path().join("log.redb"), b"something else, and not a log at all").unwrap();
    assert!(matches!(open(temp.path()), Err(StartError::LogDamaged { .. })));
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_names_path_and_user() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("file"), b"").unwrap();
    let refused = open(&temp.path().join("file/raft")).err().expect("a file is no directory").to_string();
    assert!(refused.contains("file/raft") && refused.contains("user"), "{refused}");
}
