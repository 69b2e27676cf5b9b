//! `kill -9` at random moments under many writers: what was acknowledged is there, what was not sent is not.
//!
//! `MUSTER_KILL_ROUNDS=200 cargo test -p muster --release --test durable -- --nocapture` is the long form (`bench/kill9`).
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr)] // tests read the clock and say what they saw
#![allow(clippy::unwrap_used)] // tests read the clock

mod durable_agent;
mod ledger;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use durable_agent::{Agent, Client, SOON, Start, eventually, first, from_env, muster};
use ledger::{Ledger, foreign, keys, own, own_in_catalog, value};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use serde_json::{Value, json};

const WRITERS: usize = 16;
/// Ids that one writer keeps at once; older ones it removes.
const KEPT: u64 = 24;

struct Writer {
    number: usize,
    client: Client,
    ledger: Arc<Mutex<Ledger>>,
    next: u64,
}

impl Writer {
    /// Writes until the agent is gone; gives the number to go on with.
    fn run(mut self, stop: &AtomicBool) -> u64 {
        while !stop.load(Ordering::Relaxed) {
            self.next += 1;
            let alive = match self.number % 4 {
                0 => self.key(),
                1 => self.count(),
                2 => self.foreign_service(),
                _ => self.own_service(),
            };
            if !alive {
                break;
            }
        }
        self.next
    }

    /// One change; whether the agent still answers.
    fn change(&mut self, what: &str, value: Option<String>, method: &str, path: &str, body: &[u8]) -> bool {
        self.ledger.lock().unwrap().begin(what, value.clone());
        match self.client.ask(method, path, body) {
            Ok(answer) if answer.status == 200 => {
                self.ledger.lock().unwrap().acknowledge(what, value);
                true
            }
            // its registration may have been one of the lost answers
            Ok(answer) if answer.status == 404 && value.is_none() => {
                let mut ledger = self.ledger.lock().unwrap();
                let before = ledger.may_be[what].split_last().unwrap().1;
                assert!(before.contains(&None), "{path}: {}, and it can only be one of {before:?}", answer.text());
                ledger.acknowledge(what, None);
                true
            }
            Ok(answer) => panic!("{method} {path}: {} {}", answer.status, answer.text()),
            Err(_) => {
                self.ledger.lock().unwrap().lost_answers += 1;
                false
            }
        }
    }

    fn key(&mut self) -> bool {
        let (writer, n) = (self.number, self.next);
        let mut one = |n: u64, value: Option<String>| {
            let path = format!("/v1/kv/w{writer}/{n}");
            let what = format!("kv w{writer}/{n}");
            match value {
                Some(text) => self.change(&what, Some(text.clone()), "PUT", &path, text.as_bytes()),
                None => self.change(&what, None, "DELETE", &path, b""),
            }
        };
        one(n, Some(format!("value {n}"))) && one(n % 3, Some(format!("again {n}"))) && (n <= KEPT + 3 || one(n - KEPT, None))
    }

    /// A shared counter, by compare and set.
    fn count(&mut self) -> bool {
        let Ok(answer) = self.client.ask("GET", "/v1/kv/counter", b"") else { return false };
        let (now, index) = if answer.status == 404 { (0, 0) } else { counter(&answer.json()) };
        let path = format!("/v1/kv/counter?cas={index}");
        self.ledger.lock().unwrap().unknown += 1;
        let Ok(answer) = self.client.ask("PUT", &path, (now + 1).to_string().as_bytes()) else { return false };
        assert_eq!(answer.status, 200, "{}", answer.text());
        let mut ledger = self.ledger.lock().unwrap();
        ledger.unknown -= 1;
        if answer.text().trim() == "true" {
            ledger.acknowledged += 1;
            ledger.writes += 1;
        }
        true
    }

    fn foreign_service(&mut self) -> bool {
        let (node, n) = (format!("ext-{}", self.number), self.next);
        let id = format!("s{n}");
        let body = json!({ "Node": node, "Address": "10.0.0.1", "Service": { "ID": id, "Service": "ext", "Port": n } });
        let what = format!("catalog {node}/{id}");
        if !self.change(&what, Some(n.to_string()), "PUT", "/v1/catalog/register", body.to_string().as_bytes()) {
            return false;
        }
        if n <= KEPT {
            return true;
        }
        let id = format!("s{}", n - KEPT);
        let body = json!({ "Node": node, "ServiceID": id });
        self.change(&format!("catalog {node}/{id}"), None, "PUT", "/v1/catalog/deregister", body.to_string().as_bytes())
    }

    /// At the agent, with a check whose verdict is part of the fact.
    fn own_service(&mut self) -> bool {
        let (writer, n) = (self.number, self.next);
        let id = format!("w{writer}-{n}");
        let what = format!("agent {id}");
        let body = json!({
            "ID": id, "Name": "own", "Port": n,
            "Check": { "CheckID": format!("c-{id}"), "TTL": "1h", "Status": "warning" },
        });
        if !self.change(&what, Some(format!("{n} warning")), "PUT", "/v1/agent/service/register", body.to_string().as_bytes()) {
            return false;
        }
        let path = format!("/v1/agent/check/pass/c-{id}");
        if !self.change(&what, Some(format!("{n} passing")), "PUT", &path, b"") {
            return false;
        }
        if n <= KEPT {
            return true;
        }
        let id = format!("w{writer}-{}", n - KEPT);
        self.change(&format!("agent {id}"), None, "PUT", &format!("/v1/agent/service/deregister/{id}"), b"")
    }
}

fn counter(answer: &Value) -> (u64, u64) {
    (value(&answer[0]).parse().unwrap(), answer[0]["ModifyIndex"].as_u64().unwrap())
}

/// The first answers after a start, each asked for at full speed, compared with what was acknowledged. Gives the time to the
/// first of them.
fn settle(agent: &Agent, ledger: &mut Ledger) -> Duration {
    let asked = ["/v1/kv/w?recurse", "/v1/kv/counter", "/v1/catalog/service/ext", "/v1/agent/services", "/v1/health/service/own"];
    let first_answer = |path: &'static str| {
        let (to, begun) = (agent.http, agent.begun);
        thread::spawn(move || (first(to, path, SOON), begun.elapsed()))
    };
    let answers: Vec<_> = asked.map(first_answer).into_iter().map(|asked| asked.join().unwrap()).collect();
    let took = answers.iter().map(|(_, took)| *took).max().unwrap();
    let mut answers = answers.into_iter().map(|(answer, _)| answer.unwrap_or_else(|| panic!("no answer:\n{}", agent.log())));
    let mut next = || answers.next().unwrap();
    let body = |answer: durable_agent::Answer| if answer.status == 404 { json!([]) } else { answer.json() };
    ledger.settle("kv", &keys(&body(next())));
    let answer = next();
    let now = if answer.status == 404 { 0 } else { counter(&answer.json()).0 };
    let (least, most) = (ledger.acknowledged, ledger.acknowledged + ledger.unknown);
    assert!(
        (least..=most).contains(&now),
        "the counter is {now}, after {least} acknowledged steps and {} unknown",
        ledger.unknown
    );
    (ledger.acknowledged, ledger.unknown) = (now, 0);
    ledger.settle("catalog", &foreign(&body(next())));
    let services = next().json();
    let early = own_in_catalog(&body(next()));
    // what was acknowledged was in the catalog then, so the first answer of the catalog has it
    for (what, may_be) in ledger.may_be.iter().filter(|(what, _)| what.starts_with("agent")) {
        let now = early.get(what).cloned();
        let certain = may_be.len() == 1;
        assert!(!certain || may_be.contains(&now), "{what} is {now:?} in the first answer, and was acknowledged as {may_be:?}");
    }
    ledger.settle("agent", &own(&services, &agent.get("/v1/agent/checks").json()));
    let told = ledger.settled("agent");
    eventually("the catalog has what the agent has", || own_in_catalog(&agent.get("/v1/health/service/own").json()) == told);
    took
}

/// What has been read of the log so far.
#[derive(Default)]
struct Read {
    requests: HashSet<String>,
    numbers: HashSet<(String, u64)>,
    until: u64,
}

impl Read {
    /// Reads the log of a stopped agent: indexes follow one another, no request and no number stands there twice.
    fn log(&mut self, data: &Path) {
        let out = muster(&["operator", "raft", "log", "-format=json", "-data-dir", data.to_str().unwrap()]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let mut before = None;
        for line in String::from_utf8(out.stdout).unwrap().lines() {
            let entry: Value = serde_json::from_str(line).unwrap();
            let index = entry["Index"].as_u64().unwrap();
            assert!(before.is_none_or(|before| before + 1 == index), "{index} follows {before:?}");
            assert!(before.is_some() || index <= self.until + 1, "entries before {index} were purged unread");
            before = Some(index);
            let known = index < self.until;
            if let (false, Some(request)) = (known, entry["Request"].as_str()) {
                assert!(self.requests.insert(request.to_owned()), "request {request} stands in the log twice: {line}");
                let run = entry["Run"].as_str().unwrap().to_owned();
                // a session is opened under 0, as often as need be
                let number = entry["Number"].as_u64().unwrap();
                assert!(number == 0 || self.numbers.insert((run, number)), "a number of a run stands in the log twice: {line}");
            }
        }
        self.until = before.unwrap_or(0) + 1;
    }
}

#[test]
fn kill_9_under_sixteen_writers_loses_nothing_that_was_acknowledged() {
    let rounds = from_env("MUSTER_KILL_ROUNDS", 20);
    let seed = from_env("MUSTER_SEED", std::process::id() as usize) as u64;
    println!("{rounds} rounds, MUSTER_SEED={seed}");
    let mut rng = SmallRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let start = Start::default();
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let mut next = [0; WRITERS];
    let mut times = Vec::new();
    let mut read = Read::default();
    for round in 0..=rounds {
        let mut agent = Agent::spawn(&data, &start);
        times.push(settle(&agent, &mut ledger.lock().unwrap()));
        if round == rounds {
            break;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| {
                let writer = Writer { number, client: Client::to(agent.http), ledger: ledger.clone(), next: next[number] };
                let stop = stop.clone();
                thread::spawn(move || writer.run(&stop))
            })
            .collect();
        thread::sleep(Duration::from_micros(rng.random_range(0..1_200_000)));
        agent.kill();
        stop.store(true, Ordering::Relaxed);
        for (number, writer) in writers.into_iter().enumerate() {
            next[number] = writer.join().unwrap_or_else(|_| panic!("writer {number} failed:\n{}", agent.log()));
        }
        read.log(&data);
        let ledger = ledger.lock().unwrap();
        println!(
            "round {}/{rounds}: {} acknowledged writes, {} answers lost, {} entries read, last start {:?}",
            round + 1,
            ledger.writes,
            ledger.lost_answers,
            read.until,
            times.last().unwrap()
        );
    }
    times.sort();
    let log = std::fs::read_to_string(data.with_extension("log")).unwrap();
    let faults: Vec<_> = log.lines().filter(|line| line.contains("ERROR") || line.contains("panicked")).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    let ledger = ledger.lock().unwrap();
    println!(
        "{rounds} rounds: {} acknowledged writes are there, the counter is {}; {} requests in the log, each once; \
         start to default reads: median {:?}, longest {:?}",
        ledger.writes,
        ledger.acknowledged,
        read.requests.len(),
        times[times.len() / 2],
        times[times.len() - 1]
    );
    assert!(ledger.acknowledged > 0 && ledger.writes > rounds as u64, "hardly anything was written");
}

/// Fault 1 of the list: killed ten times under writes, back in less than two seconds.
#[test]
fn an_agent_is_back_in_two_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut agent = Agent::start(&data, &Start::default());
    for n in 0..500 {
        agent.done("/v1/agent/service/register", json!({ "Name": "many", "ID": format!("m{n}") }).to_string());
        if n % 50 == 49 {
            agent.kill();
            agent = Agent::spawn(&data, &Start::default());
            let (answer, took) = agent.first("/v1/catalog/service/many");
            assert_eq!(answer.json().as_array().unwrap().len(), n + 1);
            println!("back after {took:?} with {} services", n + 1);
            assert!(took < Duration::from_secs(2) || busy(), "{took:?}:\n{}", agent.log());
        }
    }
}

/// More work than processors: then nobody starts in time.
fn busy() -> bool {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    let load: f64 = load.split(' ').next().unwrap().parse().unwrap();
    let busy = load > 1.5 * thread::available_parallelism().unwrap().get() as f64;
    if busy {
        println!("load {load}: the time is not judged");
    }
    busy
}

#[test]
fn a_restart_is_no_failure_of_a_check() {
    let backend = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", backend.local_addr().unwrap());
    let well = Arc::new(AtomicBool::new(true));
    let answers = well.clone();
    thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        for mut stream in backend.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4096]);
            let status = if answers.load(Ordering::SeqCst) { "200 OK" } else { "503 No" };
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 4\r\nConnection: close\r\n\r\nwell");
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut agent = Agent::start(&data, &Start::default());
    let service = json!({ "Name": "web", "Checks": [
        { "CheckID": "ttl", "TTL": "1h" },
        { "CheckID": "http", "HTTP": url, "Interval": "1s" },
    ] });
    agent.done("/v1/agent/service/register", service.to_string());
    agent.done("/v1/agent/check/update/ttl", json!({ "Status": "passing", "Output": "told so" }).to_string());
    let statuses = |answer: durable_agent::Answer| -> BTreeMap<String, (String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let all = answer.json();
        let row = |check: &Value| (text(&check["CheckID"]), (text(&check["Status"]), text(&check["Output"])));
        all.as_array().unwrap().iter().map(row).collect()
    };
    eventually("both pass", || statuses(agent.get("/v1/health/checks/web")).values().all(|(status, _)| status == "passing"));
    well.store(false, Ordering::SeqCst);
    let before = Instant::now();
    agent.kill();
    agent = Agent::spawn(&data, &Start::default());
    let (answer, _) = agent.first("/v1/health/checks/web");
    let found = statuses(answer);
    assert_eq!(found["ttl"], ("passing".to_owned(), "told so".to_owned()));
    assert_eq!(found["http"].0, "passing", "{:?} after the kill: {}", before.elapsed(), agent.log());
    let own = agent.get("/v1/agent/checks").json();
    assert_eq!(own["ttl"]["Status"], "passing");
    // the first new result counts; what is not asked for a result stays
    eventually("the backend is seen to fail", || statuses(agent.get("/v1/health/checks/web"))["http"].0 == "critical");
    assert_eq!(statuses(agent.get("/v1/health/checks/web"))["ttl"].0, "passing");
}

#[test]
fn a_living_members_node_returns_with_its_services_after_it_was_deregistered() {
    let dir = tempfile::tempdir().unwrap();
    let agent = Agent::start(&dir.path().join("data"), &Start::default());
    agent.done("/v1/agent/service/register", json!({ "Name": "web", "Check": { "TTL": "1h", "Status": "passing" } }).to_string());
    agent.done("/v1/catalog/deregister", json!({ "Node": "here" }).to_string());
    let begun = Instant::now();
    eventually("node and service return", || {
        let found = agent.get("/v1/health/service/web?passing").json();
        found.as_array().is_some_and(|all| all.len() == 1 && all[0]["Checks"].as_array().is_some_and(|checks| checks.len() == 2))
    });
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(agent.get("/v1/agent/services").json()["web"].is_object());
}

#[test]
fn the_log_of_a_stopped_agent_is_read_without_changing_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut agent = Agent::start(&data, &Start::default());
    agent.done("/v1/kv/a", "1");
    let text = |arguments: &[&str]| {
        let out = muster(&[&["operator", "raft", "log", "-data-dir", data.to_str().unwrap()], arguments].concat());
        (out.status.code(), String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap())
    };
    let (code, _, fault) = text(&[]);
    assert_eq!(code, Some(1));
    assert!(fault.contains("in use by another process"), "{fault}");
    agent.kill();
    let files = || -> BTreeSet<(String, Vec<u8>)> {
        let all = std::fs::read_dir(data.join("raft")).unwrap().map(Result::unwrap);
        all.map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())).collect()
    };
    let before = files();
    let (code, out, fault) = text(&[]);
    assert_eq!((code, fault.as_str()), (Some(0), ""));
    assert!(out.lines().any(|line| line.contains(" kv run ") && line.contains("request")), "{out}");
    assert!(out.contains("open-run") && out.contains("register"), "{out}");
    let (_, json, _) = text(&["-format=json"]);
    assert_eq!(json.lines().count(), out.lines().count());
    assert!(files() == before, "the log was changed");
}
