//! What happens to an agent when its disk fails it: power cuts, torn and changed files, no space, no rights, a second process.
//!
//! `MUSTER_POWER_CUTS=50` cuts the power fifty times instead of ten.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // tests read the clock

mod durable_agent;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use durable_agent::{Agent, Client, Start, eventually, from_env};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use serde_json::json;

/// A file system of its own, mounted as long as this lives.
struct Mount {
    at: PathBuf,
}

impl Mount {
    /// `Err` tells why there is none: the machine does not allow it.
    fn new(at: &Path, arguments: &[&str]) -> Result<Self, String> {
        fs::create_dir_all(at).unwrap();
        let out = Command::new("mount").args(arguments).arg(at).output().map_err(|error| error.to_string())?;
        if !out.status.success() {
            return Err(String::from_utf8_lossy(&out.stderr).trim().to_owned());
        }
        Ok(Self { at: at.to_owned() })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.at).status();
    }
}

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    status.lines().any(|line| line.starts_with("Uid:\t0\t"))
}

/// Copies a directory without directories in it, and those of one level below.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().unwrap().is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(from, to).unwrap();
        }
    }
}

/// Starts an agent that must refuse; what it said.
fn refused(data: &Path, start: &Start) -> String {
    let log = data.with_extension("refusal");
    let _ = fs::remove_file(&log);
    let mut agent = Agent::spawn(data, &Start { log: Some(start.log.clone().unwrap_or(log)), ..start.clone() });
    let (status, took) = agent.ended();
    let said = agent.log();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(took < Duration::from_secs(20), "{took:?}: {said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

/// Fault 5: what is on the disk when the power goes is what was synced. The image is copied after `kill -9`, and what the kernel
/// had not written (the journal's interval is 300 s) is not in the copy.
#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let (image, copied) = (dir.path().join("disk"), dir.path().join("cut"));
    let run = |program: &str, arguments: &[&str]| {
        let out = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
        if out.status.success() { Ok(()) } else { Err(format!("{program}: {}", String::from_utf8_lossy(&out.stderr).trim())) }
    };
    fs::File::create(&image).unwrap().set_len(160 << 20).unwrap();
    let made = run("mkfs.ext4", &["-q", "-F", image.to_str().unwrap()]);
    let at = dir.path().join("mounted");
    let mounted = made.and_then(|()| Mount::new(&at, &["-o", "loop,commit=300", image.to_str().unwrap()]));
    let mut mounted = match mounted {
        Ok(mounted) => mounted,
        Err(why) => {
            println!("skipped: no loop mounts here ({why})");
            return;
        }
    };
    let cuts = from_env("MUSTER_POWER_CUTS", 10);
    let seed = from_env("MUSTER_SEED", std::process::id() as usize) as u64;
    println!("{cuts} power cuts, MUSTER_SEED={seed}");
    let mut rng = SmallRng::seed_from_u64(seed);
    let log = Some(dir.path().join("log"));
    // the keys that were acknowledged, and the one that may be
    let known: Arc<Mutex<BTreeMap<String, String>>> = Arc::default();
    let mut unknown: Vec<(String, String)> = Vec::new();
    for cut in 0..=cuts {
        let mut agent = Agent::spawn(&mounted.at.join("data"), &Start { log: log.clone(), ..Start::default() });
        let (answer, took) = agent.first("/v1/kv/?keys");
        let keys: Vec<String> = if answer.status == 404 { Vec::new() } else { serde_json::from_slice(&answer.body).unwrap() };
        {
            let mut known = known.lock().unwrap();
            for key in &keys {
                let value = agent.get(&format!("/v1/kv/{key}?raw")).text();
                let sent = unknown.iter().any(|(other, sent)| other == key && *sent == value);
                assert!(known.get(key) == Some(&value) || sent, "{key} is {value}, acknowledged was {:?}", known.get(key));
                known.insert(key.clone(), value);
            }
            assert_eq!(keys.len(), known.len(), "cut {cut}: acknowledged keys are gone");
        }
        let services = agent.get("/v1/agent/services").json();
        for n in 0..cut {
            assert!(services[format!("s{n}")].is_object(), "service s{n} is gone after cut {cut}");
        }
        println!("cut {cut}/{cuts}: {} keys are there after {took:?}", keys.len());
        if cut == cuts {
            break;
        }
        agent.done("/v1/agent/service/register", json!({ "Name": "s", "ID": format!("s{cut}") }).to_string());
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let (to, known) = (agent.http, known.clone());
                thread::spawn(move || {
                    let mut client = Client::to(to);
                    for n in 0.. {
                        let (key, value) = (format!("{writer}/{}", n % 40), format!("{cut} {n}"));
                        match client.ask("PUT", &format!("/v1/kv/{key}"), value.as_bytes()) {
                            Ok(answer) if answer.status == 200 => drop(known.lock().unwrap().insert(key, value)),
                            _ => return (key, value),
                        }
                    }
                    unreachable!("the agent is killed")
                })
            })
            .collect();
        thread::sleep(Duration::from_micros(rng.random_range(20_000..900_000)));
        agent.kill();
        fs::copy(&image, &copied).unwrap();
        unknown = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        // what the kernel writes at the unmount goes to the old image, which is thrown away
        drop(mounted);
        fs::rename(&copied, &image).unwrap();
        mounted = Mount::new(&at, &["-o", "loop,commit=300", image.to_str().unwrap()]).unwrap();
    }
}

/// A data directory with 200 keys, a snapshot behind the first of them, and an agent that was killed.
fn written(data: &Path) -> Start {
    let start = Start { config: "raft_snapshot_threshold = 64\nraft_trailing_logs = 32".to_owned(), ..Start::default() };
    let mut agent = Agent::start(data, &start);
    for n in 0..200 {
        agent.done(&format!("/v1/kv/key-{n}"), format!("the value of key {n}, to be found in the file"));
    }
    eventually("a snapshot is written", || snapshot(data).is_some());
    agent.kill();
    start
}

fn snapshot(data: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(data.join("raft")).ok()?.map(Result::unwrap).map(|entry| entry.path());
    files.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("snapshot-")).max()
}

/// Fault 6: the log is cut at many places. It opens with everything that was acknowledged, or says why not.
#[test]
fn a_torn_log_opens_whole_or_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let start = written(&data);
    let whole = fs::read(data.join("raft/log.redb")).unwrap();
    let (mut opened, mut named) = (0, 0);
    for cut in 0..12 {
        let torn = dir.path().join(format!("torn-{cut}"));
        copy(&data, &torn);
        let len = if cut < 2 { whole.len() - 1 - cut } else { whole.len() * cut / 12 };
        fs::write(torn.join("raft/log.redb"), &whole[..len]).unwrap();
        let mut agent = Agent::spawn(&torn, &start);
        // it answers, or it ends
        loop {
            if let Ok(answer) = Client::to(agent.http).ask("GET", "/v1/kv/key-?keys", b"")
                && answer.status == 200
            {
                assert_eq!(answer.json().as_array().unwrap().len(), 200, "cut to {len}");
                opened += 1;
                break;
            }
            if agent.log().contains("muster: ") {
                let (status, _) = agent.ended();
                let said = agent.log();
                assert_eq!(status.code(), Some(1), "{said}");
                assert!(said.contains("log.redb") && said.contains("backup") && !said.contains("panicked"), "{said}");
                named += 1;
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
    println!("of 12 cut logs {opened} opened with everything, {named} were refused by name");
    assert!(named > 0);
}

/// Fault 7: a byte is changed in the middle of the log, or in a snapshot.
#[test]
fn a_changed_byte_is_refused_with_the_files_name() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let start = written(&data);
    let other = Agent::start(&dir.path().join("other"), &Start::default());

    let changed = dir.path().join("changed-log");
    copy(&data, &changed);
    let path = changed.join("raft/log.redb");
    let mut bytes = fs::read(&path).unwrap();
    let wanted = b"the value of key 190,";
    let places: Vec<_> =
        bytes.windows(wanted.len()).enumerate().filter(|(_, found)| *found == wanted).map(|(at, _)| at).collect();
    assert!(!places.is_empty());
    places.iter().for_each(|at| bytes[*at] ^= 0x20);
    fs::write(&path, &bytes).unwrap();
    let said = refused(&changed, &start);
    assert!(said.contains("raft/log.redb") && said.contains("entry ") && said.contains("backup"), "{said}");
    println!("{}", said.lines().last().unwrap());
    let (code, fault) = {
        let out = durable_agent::muster(&["operator", "raft", "log", "-data-dir", changed.to_str().unwrap()]);
        (out.status.code(), String::from_utf8(out.stderr).unwrap())
    };
    assert!(code == Some(1) && fault.contains("log.redb"), "{fault}");

    let changed = dir.path().join("changed-snapshot");
    copy(&data, &changed);
    let path = snapshot(&changed).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 0x20;
    fs::write(&path, &bytes).unwrap();
    let said = refused(&changed, &start);
    assert!(said.contains(path.to_str().unwrap()) && said.contains("damaged") && said.contains("backup"), "{said}");
    println!("{}", said.lines().last().unwrap());

    assert_eq!(other.addresses("here.node.consul"), 1, "another agent minds nothing of this");
}

/// Fault 10: the disk fills up and is freed again.
#[test]
fn a_full_disk_refuses_writes_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let _disk = match Mount::new(&dir.path().join("disk"), &["-t", "tmpfs", "-o", "size=96m", "tmpfs"]) {
        Ok(disk) => disk,
        Err(why) => {
            println!("skipped: no tmpfs can be mounted here ({why})");
            return;
        }
    };
    let data = dir.path().join("disk/data");
    let start = Start { log: Some(dir.path().join("log")), ..Start::default() };
    let mut agent = Agent::start(&data, &start);
    let service = json!({ "Name": "web", "Address": "10.1.1.1", "Check": { "CheckID": "t", "TTL": "1h", "Status": "passing" } });
    agent.done("/v1/agent/service/register", service.to_string());
    agent.done("/v1/kv/before", "1");
    let ballast = dir.path().join("disk/ballast");
    let fill = |mut size: usize| {
        use std::io::Write as _;
        let mut file = fs::File::create(&ballast).unwrap();
        let block = vec![1; 1 << 16];
        while size > 0 && file.write_all(&block).is_ok() {
            size = size.saturating_sub(block.len());
        }
    };
    for size in [60 << 20, usize::MAX] {
        fill(size);
        thread::sleep(Duration::from_millis(100));
        for (path, body) in [
            ("/v1/kv/during", "1".to_owned()),
            ("/v1/catalog/register", json!({ "Node": "n", "Address": "10.0.0.1" }).to_string()),
            ("/v1/agent/service/register", json!({ "Name": "during" }).to_string()),
            ("/v1/agent/service/deregister/web", String::new()),
        ] {
            let answer = agent.put(path, body);
            assert!((500..600).contains(&answer.status), "{path}: {} {}", answer.status, answer.text());
            assert!(answer.text().contains("no space left on the disk"), "{path}: {}", answer.text());
        }
        assert_eq!(agent.get("/v1/kv/before?raw").text(), "1");
        assert_eq!(agent.get("/v1/kv/during").status, 404);
        assert_eq!(agent.addresses("web.service.consul"), 1);
        let own = agent.get("/v1/agent/services").json();
        assert!(own["web"].is_object() && own["during"].is_null(), "nothing is half done: {own}");
        // its verdict cannot be kept now; it is not lost for that
        let answer = agent.put("/v1/agent/check/warn/t", "");
        assert!(answer.status == 200 || answer.text().contains("no space left on the disk"), "{}", answer.text());
        fs::remove_file(&ballast).unwrap();
        eventually("writes are taken again", || agent.put("/v1/kv/after", "1").status == 200);
        agent.done("/v1/agent/service/register", json!({ "Name": format!("after-{size}") }).to_string());
        agent.done("/v1/agent/check/pass/t", "");
        eventually("the check passes in the catalog", || {
            agent.get("/v1/health/service/web?passing").json().as_array().is_some_and(|all| all.len() == 1)
        });
    }
    // and everything is on the disk
    agent.kill();
    let mut agent = Agent::spawn(&data, &start);
    assert_eq!(agent.first("/v1/kv/after?raw").0.text(), "1");
    let own = agent.get("/v1/agent/services").json();
    assert_eq!(own.as_object().unwrap().len(), 3, "{own}");
}

/// Fault 11: a data directory that cannot be written.
#[test]
fn a_data_directory_without_rights_is_refused_with_path_and_user() {
    if !is_root() {
        println!("skipped: only root can be another user");
        return;
    }
    let dir = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755)).tempdir().unwrap();
    let data = dir.path().join("foreign");
    let mut agent = Agent::start(&data, &Start::default());
    agent.kill();
    let said = refused(&data, &Start { user: Some(65534), ..Start::default() });
    assert!(said.contains(data.to_str().unwrap()) && said.contains("65534"), "{said}");
    println!("{}", said.trim());

    let path = dir.path().join("read-only");
    let mounted = Mount::new(&path, &["-t", "tmpfs", "-o", "size=16m,ro", "tmpfs"]);
    match mounted {
        Ok(_mounted) => {
            let said = refused(&path, &Start { log: Some(dir.path().join("log-ro")), ..Start::default() });
            assert!(said.contains(path.to_str().unwrap()) && said.contains("user 0"), "{said}");
            println!("{}", said.trim());
        }
        Err(why) => println!("skipped: no tmpfs can be mounted here ({why})"),
    }
}

/// Fault 12: a second process on the same directory.
#[test]
fn a_second_process_ends_at_once_and_the_first_is_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let first = Agent::start(&data, &Start::default());
    first.done("/v1/kv/a", "1");
    let mut second = Agent::spawn(&data, &Start { log: Some(dir.path().join("second")), ..Start::default() });
    let (status, took) = second.ended();
    let said = second.log();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("in use by another process") && said.contains(data.to_str().unwrap()), "{said}");
    println!("after {took:?}: {}", said.trim());
    first.done("/v1/kv/b", "2");
    assert_eq!(first.get("/v1/kv/a?raw").text(), "1");
}
