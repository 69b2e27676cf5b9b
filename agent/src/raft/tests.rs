//! Raft as a whole, on real disks: what is acknowledged stays, what cannot go on says so.
#![allow(clippy::disallowed_methods)] // tests wait and measure

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use muster_catalog::{Cause, CauseKind, Command, Kv, KvVerb, Outcome, Proposal, Reader, Run, Store, Topic};
use openraft::async_runtime::watch::WatchReceiver as _;
use tempfile::TempDir;
use tokio::time::timeout;
use uuid::Uuid;

use super::engine::ENTRY_BYTES_MAX;
use super::error::{Failure, StartError};
use super::types::Payload;
use super::*;

mod cluster;
mod sim;

const NODE: Uuid = Uuid::from_u128(0xA);
const PATIENCE: Duration = Duration::from_secs(30);

/// A server, its readers' side, and what was rung.
struct Server {
    raft: Raft,
    reader: Reader,
    rung: Arc<Mutex<BTreeSet<Topic>>>,
}

fn proposal(epoch: u64, number: u64, command: Command) -> Proposal {
    let run = Run { agent: NODE, epoch };
    let cause = Cause::new("test", CauseKind::Api, 1, "");
    Proposal { request: Uuid::new_v4(), run, number, answered_below: number, time_ms: number, cause, command }
}

fn set(key: &str, value: impl Into<Bytes>) -> Command {
    Command::Kv(Kv { key: key.into(), verb: KvVerb::Set { value: value.into(), flags: 0, cas: None } })
}

async fn try_start(config: Config) -> Result<Server, StartError> {
    let store = Store::new();
    let reader = store.reader();
    let rung = Arc::new(Mutex::new(BTreeSet::new()));
    let bell = rung.clone();
    let touched = move |topics: &BTreeSet<Topic>| bell.lock().unwrap().extend(topics.iter().cloned());
    let raft = Raft::start(config, store, Bells { touched: Box::new(touched), all: Box::new(|| {}) }).await?;
    Ok(Server { raft, reader, rung })
}

/// A server that leads and has opened the run of this epoch.
async fn start(config: Config, epoch: u64) -> Server {
    let server = try_start(config).await.unwrap();
    server.raft.initialize().await.unwrap();
    timeout(PATIENCE, server.raft.settled()).await.expect("it leads").unwrap();
    server.raft.write(&proposal(epoch, 0, Command::OpenRun)).await.unwrap();
    server
}

fn on_disk(dir: &Path) -> Config {
    Config { disk_reserve: 1 << 20, ..Config::new(Some(dir.to_owned()), NODE) }
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Server {
    fn value(&self, key: &str) -> Option<Bytes> {
        self.reader.load().key(key).map(|entry| entry.value.clone())
    }
}

/// The directory as a process leaves it that is killed now.
fn crash_image(dir: &Path) -> tempfile::TempDir {
    let image = tempfile::tempdir().unwrap();
    for file in fs::read_dir(dir).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), image.path().join(file.file_name())).unwrap();
    }
    image
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_published_before_it_is_answered_and_rung_at_once() {
    let server = start(Config::new(None, NODE), 1).await;
    let (index, outcome) = server.raft.write(&proposal(1, 1, set("a", "b"))).await.unwrap();
    assert_eq!(outcome, Outcome::Kv(true));
    assert_eq!(server.value("a").unwrap(), "b");
    eventually("it is rung", || server.rung.lock().unwrap().contains(&Topic::Key("a".into()))).await;
    assert_eq!(server.reader.load().last_applied(), index);
    assert_eq!(server.raft.read_index().await.unwrap(), index);
    assert_eq!(server.raft.applied_index(), index);
    let status = server.raft.status();
    assert_eq!((status.role, status.num_peers, status.leader), (Role::Leader, 0, Some((server.raft.id(), NODE))));
    assert_eq!(status.configuration, [(server.raft.id(), NODE, true)]);
    assert!(!server.raft.initialize().await.unwrap(), "it is founded");
    let again = server.raft.clone();
    server.raft.shutdown().await;
    assert_eq!(again.write(&proposal(1, 2, set("a", "c"))).await, Err(WriteError::Stopped));
    assert_eq!(again.settled().await, Err(WriteError::Stopped));
}

#[tokio::test]
async fn a_lone_voter_leads_at_once_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    for round in ["first start", "restart"] {
        let begun = Instant::now();
        let election = (Duration::from_secs(20), Duration::from_secs(25));
        let server = try_start(Config { election, ..on_disk(dir.path()) }).await.unwrap();
        server.raft.initialize().await.unwrap();
        timeout(PATIENCE, server.raft.settled()).await.expect("it leads").unwrap();
        let took = begun.elapsed();
        println!("{round}: leader after {took:?}");
        // far below the shortest election timeout: nobody was waited for
        assert!(took < election.0 / 2, "{round}: {took:?}");
        server.raft.shutdown().await;
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_crash_and_after_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(on_disk(dir.path()), 1).await;
    let mut last = 0;
    for number in 1..=200 {
        let (index, _) = server.raft.write(&proposal(1, number, set(&format!("k{number}"), "v"))).await.unwrap();
        assert!(index > last);
        last = index;
    }
    let crashed = crash_image(dir.path());
    let id = server.raft.id();
    server.raft.shutdown().await;
    for dir in [crashed.path(), dir.path()] {
        let server = try_start(on_disk(dir)).await.unwrap();
        assert!(!server.raft.initialize().await.unwrap(), "it knows its cluster");
        timeout(PATIENCE, server.raft.settled()).await.expect("it leads").unwrap();
        assert_eq!(server.raft.id(), id);
        assert!(server.reader.load().last_applied() > last, "an entry of its own term follows");
        for number in 1..=200 {
            assert!(server.value(&format!("k{number}")).is_some(), "k{number} in {}", dir.display());
        }
        // a retry of a command that was applied is not applied again
        let (_, outcome) = server.raft.write(&proposal(1, 200, set("k200", "other"))).await.unwrap();
        assert_eq!((outcome, server.value("k200").unwrap()), (Outcome::Kv(true), Bytes::from("v")));
        server.raft.shutdown().await;
    }
}

#[tokio::test]
async fn snapshots_are_kept_and_the_log_behind_them_goes() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { snapshot_threshold: 200, trailing_logs: 20, ..on_disk(dir.path()) };
    let server = start(config.clone(), 1).await;
    for number in 1..=1000 {
        server.raft.write(&proposal(1, number, set(&format!("k{}", number % 50), number.to_string()))).await.unwrap();
    }
    eventually("a snapshot of the later entries", || server.raft.status().last_snapshot_index >= 800).await;
    let purged = || server.raft.running.engine.data_metrics().borrow_watched().purged.map(|id| id.index);
    eventually("the log behind it is purged", || purged() > Some(700)).await;
    server.raft.shutdown().await;

    let snapshots = || {
        Vec::from_iter(
            fs::read_dir(dir.path())
                .unwrap()
                .map(|file| file.unwrap().path())
                .filter(|path| path.to_string_lossy().contains("snapshot-")),
        )
    };
    assert_eq!(snapshots().len(), 1, "{:?}", snapshots());
    let server = start(config.clone(), 2).await;
    for number in 951..=1000 {
        assert_eq!(server.value(&format!("k{}", number % 50)).unwrap(), number.to_string());
    }
    assert!(server.reader.load().history().is_none());
    // asked for by hand, at any time
    server.raft.trigger_snapshot().await.unwrap();
    let applied = server.raft.applied_index();
    eventually("the snapshot that was asked for", || server.raft.status().last_snapshot_index >= applied).await;
    server.raft.shutdown().await;

    let snapshot = snapshots().pop().unwrap();
    let bytes = fs::read(&snapshot).unwrap();
    for at in (0..bytes.len()).step_by(97) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        fs::write(&snapshot, changed).unwrap();
        let refused = try_start(config.clone()).await.err().expect("a damaged snapshot");
        assert!(
            matches!(&refused, StartError::SnapshotDamaged { path, .. } | StartError::Newer { path, .. } if *path == snapshot),
            "byte {at}: {refused}"
        );
    }
    for len in (0..bytes.len()).step_by(131) {
        fs::write(&snapshot, &bytes[..len]).unwrap();
        let refused = try_start(config.clone()).await.err().expect("a cut snapshot");
        assert!(matches!(refused, StartError::SnapshotDamaged { .. }), "cut to {len}: {refused}");
    }
    fs::remove_file(&snapshot).unwrap();
    let refused = try_start(config.clone()).await.err().expect("a log without its beginning");
    assert!(matches!(refused, StartError::Incomplete { .. }), "{refused}");
    fs::write(&snapshot, &bytes).unwrap();
    fs::remove_file(dir.path().join("log.redb")).unwrap();
    let refused = try_start(config).await.err().expect("a snapshot without its log");
    assert!(matches!(refused, StartError::Incomplete { .. }), "{refused}");
}

#[tokio::test]
async fn a_snapshot_in_memory_lets_the_log_go() {
    let config = Config { snapshot_threshold: 100, trailing_logs: 10, ..Config::new(None, NODE) };
    let server = start(config, 1).await;
    for number in 1..=500 {
        server.raft.write(&proposal(1, number, set("k", number.to_string()))).await.unwrap();
    }
    eventually("a snapshot", || server.raft.status().last_snapshot_index >= 400).await;
    server.raft.shutdown().await;
}

#[tokio::test]
async fn a_second_server_on_one_directory_is_refused_and_the_first_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(on_disk(dir.path()), 1).await;
    let refused = try_start(on_disk(dir.path())).await.err().expect("in use");
    assert!(matches!(refused, StartError::InUse { .. }), "{refused}");
    server.raft.write(&proposal(1, 1, set("a", "b"))).await.unwrap();
    server.raft.shutdown().await;
    start(on_disk(dir.path()), 2).await.raft.shutdown().await;
}

#[tokio::test]
async fn an_entry_of_a_newer_version_stops_the_server_unless_it_may_be_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(on_disk(dir.path()), 1).await;
    let mut unknown = proposal(1, 1, Command::OpenRun).encode();
    unknown[1..3].copy_from_slice(&0x8123u16.to_be_bytes());
    server.raft.running.engine.client_write(Payload(unknown.clone().into())).await.unwrap();
    server.raft.write(&proposal(1, 1, set("a", "b"))).await.unwrap();
    unknown[1..3].copy_from_slice(&0x0123u16.to_be_bytes());
    server.raft.running.engine.client_write(Payload(unknown.into())).await.unwrap_err();
    let failure = timeout(PATIENCE, server.raft.failed()).await.expect("it fails");
    assert!(matches!(failure, Failure::Entry { index: 5, .. }), "{failure}");
    assert_eq!(server.value("a").unwrap(), "b", "reads go on");
    assert_eq!(server.raft.write(&proposal(1, 2, set("a", "c"))).await, Err(WriteError::Stopped));
    server.raft.shutdown().await;
}

#[tokio::test]
async fn too_many_and_too_large_writes_are_refused() {
    let server = start(Config::new(None, NODE), 1).await;
    let large = server.raft.write(&proposal(1, 1, set("k", vec![0; ENTRY_BYTES_MAX]))).await.unwrap_err();
    assert!(matches!(large, WriteError::TooLarge { max: ENTRY_BYTES_MAX, .. }), "{large}");
    let all = server.raft.in_flight.clone().acquire_many_owned(4096).await.unwrap();
    assert_eq!(server.raft.write(&proposal(1, 1, set("k", "v"))).await, Err(WriteError::Busy));
    drop(all);
    server.raft.write(&proposal(1, 1, set("k", "v"))).await.unwrap();
    server.raft.shutdown().await;
}

/// A file system of some size that goes with the value; `None` where this process may not mount.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount(megabytes: u32) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"])
            .arg(dir.path())
            .output();
        match mounted {
            Ok(done) if done.status.success() => Some(Self(dir)),
            _ => {
                println!("skipped: this process may not mount a tmpfs");
                None
            }
        }
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        std::process::Command::new("umount").arg("-l").arg(self.0.path()).status().ok();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_takes_them_again_when_there_is_room() {
    let Some(disk) = Tmpfs::mount(24) else { return };
    let config = Config { disk_reserve: 8 << 20, ..on_disk(&disk.0.path().join("raft")) };
    let server = start(config, 1).await;
    server.raft.write(&proposal(1, 1, set("a", "before"))).await.unwrap();
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, vec![0; 16 << 20]).unwrap();
    tokio::time::sleep(Duration::from_millis(30)).await; // the age that a look may have
    let refused = server.raft.write(&proposal(1, 2, set("a", "while"))).await.unwrap_err();
    assert!(matches!(refused, WriteError::DiskFull { .. }) && refused.to_string().contains("raft"), "{refused}");
    assert_eq!(server.value("a").unwrap(), "before", "reads go on");
    assert!(server.raft.is_leader());
    fs::remove_file(&ballast).unwrap();
    tokio::time::sleep(Duration::from_millis(30)).await;
    server.raft.write(&proposal(1, 2, set("a", "after"))).await.unwrap();
    assert_eq!(server.value("a").unwrap(), "after");
    server.raft.shutdown().await;
}

/// The reserve holds what is under way when the disk fills: many writers of large values run into it, and raft stays whole.
#[tokio::test(flavor = "multi_thread")]
async fn writers_that_fill_a_disk_meet_the_reserve_and_not_its_end() {
    let Some(disk) = Tmpfs::mount(200) else { return };
    let dir = disk.0.path().join("raft");
    let server = start(Config::new(Some(dir), NODE), 1).await;
    let writers = (0..64u64).map(|writer| {
        let raft = server.raft.clone();
        tokio::spawn(async move {
            let run = Run { agent: Uuid::from_u128(u128::from(writer) + 100), epoch: 1 };
            let of = |number, command| Proposal { run, ..proposal(1, number, command) };
            let mut number = 0;
            loop {
                let command =
                    if number == 0 { Command::OpenRun } else { set(&format!("w{writer}"), vec![number as u8; 400_000]) };
                match raft.write(&of(number, command)).await {
                    Ok(_) => number += 1,
                    Err(WriteError::Busy) => tokio::time::sleep(Duration::from_millis(1)).await,
                    Err(error) => return (error, number),
                }
            }
        })
    });
    let mut acknowledged = 0;
    for writer in Vec::from_iter(writers) {
        let (error, number) = timeout(4 * PATIENCE, writer).await.expect("the disk fills").unwrap();
        assert!(matches!(error, WriteError::DiskFull { .. }), "{error}");
        acknowledged += number;
    }
    println!("{acknowledged} writes until the disk was full");
    assert!(acknowledged > 64);
    assert!(server.raft.is_leader());
    assert_eq!(server.raft.read_index().await.unwrap(), server.raft.applied_index(), "reads go on");
    timeout(Duration::from_millis(100), server.raft.failed()).await.expect_err("raft is whole");
    server.raft.shutdown().await;
}

#[tokio::test]
async fn a_snapshot_that_finds_no_room_leaves_the_older_one() {
    let Some(disk) = Tmpfs::mount(24) else { return };
    let dir = disk.0.path().join("raft");
    let server = start(on_disk(&dir), 1).await;
    server.raft.write(&proposal(1, 1, set("k", vec![7; 400_000]))).await.unwrap();
    server.raft.trigger_snapshot().await.unwrap();
    eventually("a snapshot", || server.raft.status().last_snapshot_index > 0).await;
    let state = server.reader.load().clone();
    server.raft.shutdown().await;
    let names = || BTreeSet::from_iter(fs::read_dir(&dir).unwrap().map(|file| file.unwrap().file_name()));
    let before = names();
    fs::write(disk.0.path().join("ballast"), vec![0; 64 << 20]).unwrap_err();
    let (shelf, _) = snapshot::Shelf::open(Some(&dir)).unwrap();
    let mut meta = shelf.current().unwrap().meta;
    meta.last_log_id.as_mut().unwrap().index += 1;
    let full = shelf.keep(meta, (*state).clone()).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull); // what the builder waits out
    assert_eq!(names(), before);
}

#[tokio::test]
async fn a_commit_that_fails_stops_the_server_for_good_and_loses_nothing() {
    let Some(disk) = Tmpfs::mount(24) else { return };
    let dir = disk.0.path().join("raft");
    let config = Config { disk_reserve: 0, ..on_disk(&dir) };
    let server = start(config.clone(), 1).await;
    server.raft.write(&proposal(1, 1, set("a", "before"))).await.unwrap();
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, vec![0; 64 << 20]).unwrap_err(); // what goes onto the disk, until it is full
    let mut acknowledged = 1;
    let ended = loop {
        match server.raft.write(&proposal(1, acknowledged + 1, set("a", vec![b'x'; 100_000]))).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 1000, "the disk is full");
    };
    assert_eq!(ended, WriteError::Stopped);
    let failure = timeout(PATIENCE, server.raft.failed()).await.expect("it fails");
    assert!(matches!(&failure, Failure::Log { path, .. } if path.starts_with(&dir)), "{failure}");
    server.raft.shutdown().await;
    fs::remove_file(&ballast).unwrap();
    let server = try_start(config).await.unwrap();
    timeout(PATIENCE, server.raft.settled()).await.expect("it leads").unwrap();
    assert!(server.value("a").is_some());
    // the number of the last acknowledged one is known, that of the failed one was never seen or is applied once
    let (_, outcome) = server.raft.write(&proposal(1, acknowledged, set("a", "retry"))).await.unwrap();
    assert_eq!(outcome, Outcome::Kv(true));
    assert_ne!(server.value("a").unwrap(), "retry");
    server.raft.shutdown().await;
}

#[tokio::test]
async fn a_directory_that_may_not_be_written_is_refused_with_path_and_user() {
    let Some(disk) = Tmpfs::mount(24) else { return };
    let dir = disk.0.path().join("raft");
    start(on_disk(&dir), 1).await.raft.shutdown().await;
    let remounted = std::process::Command::new("mount").args(["-o", "remount,ro"]).arg(disk.0.path()).status().unwrap();
    assert!(remounted.success());
    let refused = try_start(on_disk(&dir)).await.err().expect("read-only");
    let text = refused.to_string();
    assert!(matches!(refused, StartError::Access { .. }) && text.contains("raft") && text.contains("user 0"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_get_each_their_own_answer() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(on_disk(dir.path()), 1).await;
    let writers = (0..64u64).map(|writer| {
        let raft = server.raft.clone();
        tokio::spawn(async move {
            let epoch = 1;
            let run = Run { agent: Uuid::from_u128(u128::from(writer) + 100), epoch };
            let of = |number, command| Proposal { run, ..proposal(epoch, number, command) };
            raft.write(&of(0, Command::OpenRun)).await.unwrap();
            let mut last = 0;
            for number in 1..=50 {
                let (index, outcome) = raft.write(&of(number, set(&format!("w{writer}"), number.to_string()))).await.unwrap();
                assert_eq!(outcome, Outcome::Kv(true));
                assert!(index > last);
                last = index;
            }
        })
    });
    for writer in Vec::from_iter(writers) {
        writer.await.unwrap();
    }
    for writer in 0..64 {
        assert_eq!(server.value(&format!("w{writer}")).unwrap(), "50");
    }
    server.raft.shutdown().await;
}

#[tokio::test]
async fn a_writer_that_goes_away_takes_no_other_with_it() {
    let server = start(Config::new(None, NODE), 1).await;
    let write = |number: u64| {
        let (raft, proposal) = (server.raft.clone(), proposal(1, number, set(&format!("k{number}"), "v")));
        tokio::spawn(async move { raft.write(&proposal).await })
    };
    for round in 0..20 {
        let writers: Vec<_> = (1..=8).map(|number| write(round * 8 + number)).collect();
        tokio::task::yield_now().await; // they have met; the first of them looks after their batch
        writers[0].abort();
        writers[3].abort();
        for (number, writer) in (1..).zip(writers) {
            match writer.await {
                Ok(written) => assert_eq!(written.unwrap().1, Outcome::Kv(true), "{number}"),
                Err(gone) => assert!(gone.is_cancelled() && (number == 1 || number == 4), "{number}"),
            }
        }
    }
    eventually("also what nobody waited for is written", || {
        (1..=160).all(|number| server.value(&format!("k{number}")).is_some())
    })
    .await;
    server.raft.shutdown().await;
}
