//! Leaders are lost under sixteen writers behind forwarding agents: what was acknowledged is there, what was refused is not, and
//! nothing is applied twice.
//!
//! `bench/changes` is the long form.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr)] // tests read the clock and say what they saw
#![allow(clippy::unwrap_used)] // the helpers of a test may fail as its tests do

mod durable_agent;
mod ledger;
mod support;
mod whole;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use durable_agent::{Client, from_env, muster};
use ledger::{Ledger, foreign, keys, own, own_in_catalog, rows, value};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use serde_json::{Value, json};
use whole::{Agent, Net, SOON, answered, eventually};

const WRITERS: usize = 16;
const SERVERS: u8 = 3;
const CLIENTS: u8 = 4;
/// Ids that one writer keeps at once; older ones it removes.
const KEPT: u64 = 12;

/// What is known of everything that was written.
#[derive(Default)]
struct Judge {
    ledger: Mutex<Ledger>,
    chain: Mutex<Chain>,
    /// The highest value of the counter that was acknowledged: no later read may be below it.
    acknowledged: AtomicU64,
}

/// All values that the counter ever had: each was read by whoever made the next one.
#[derive(Default)]
struct Chain {
    /// Who made each of them.
    by: BTreeMap<u64, String>,
    refused: HashSet<String>,
    lost: u64,
}

impl Judge {
    /// The counter was seen so.
    fn counted(&self, number: u64, by: &str) {
        let mut chain = self.chain.lock().unwrap();
        let known = chain.by.entry(number).or_insert_with(|| by.to_owned());
        assert_eq!(known, by, "two made {number} of the counter");
    }

    /// A read of the counter that was begun when `least` was acknowledged; gives its value and index.
    fn read(&self, rows: &Value, least: u64) -> (u64, u64) {
        let Some(row) = rows.get(0) else {
            assert_eq!(least, 0, "the counter is not there, and was {least}");
            return (0, 0);
        };
        let text = value(row);
        let (number, by) = text.split_once(' ').unwrap();
        let number = number.parse().unwrap();
        assert!(number >= least, "the counter was read as {number} after {least} was acknowledged");
        self.counted(number, by);
        (number, row["ModifyIndex"].as_u64().unwrap())
    }
}

struct Writer {
    number: usize,
    client: Client,
    judge: Arc<Judge>,
    next: u64,
}

/// What became of a change.
#[derive(PartialEq)]
enum Became {
    Done,
    Refused,
    Lost,
}

impl Writer {
    fn run(mut self, stop: &AtomicBool) -> u64 {
        while !stop.load(Ordering::Relaxed) {
            self.next += 1;
            self.key();
            self.count();
            self.own_service();
            self.foreign_service();
        }
        self.next
    }

    /// One change, and what came of it. The agent lives, so there always is an answer: an error may mean that nothing was
    /// changed, or that it is not known.
    fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> (Became, String) {
        let answer = self.client.ask(method, path, body).unwrap();
        let text = answer.text();
        let became = match answer.status {
            200 => Became::Done,
            429 => Became::Refused,
            500 if text == "No cluster leader" => Became::Refused,
            500 => Became::Lost,
            status => panic!("{method} {path}: {status} {text}"),
        };
        (became, text)
    }

    fn change(&mut self, what: &str, now: Option<String>, method: &str, path: &str, body: &[u8]) -> Option<String> {
        self.judge.ledger.lock().unwrap().begin(what, now.clone());
        let (became, text) = self.ask(method, path, body);
        let mut ledger = self.judge.ledger.lock().unwrap();
        match became {
            Became::Done => {
                ledger.acknowledge(what, now);
                Some(text)
            }
            // what an agent is told to run it keeps, and delivers it later
            Became::Refused if !what.starts_with("agent") => {
                ledger.refuse(what);
                None
            }
            Became::Refused | Became::Lost => {
                ledger.lost_answers += 1;
                None
            }
        }
    }

    fn key(&mut self) {
        let (writer, n) = (self.number, self.next);
        // Nobody else makes this key: a `false` would be of its own first application.
        let (what, path) = (format!("kv w{writer}/{n}"), format!("/v1/kv/w{writer}/{n}"));
        let made =
            self.change(&what, Some(format!("value {n}")), "PUT", &format!("{path}?cas=0"), format!("value {n}").as_bytes());
        assert!(made.is_none_or(|text| text.trim() == "true"), "{path} was made before it was asked for");
        let (what, path) = (format!("kv w{writer}/again"), format!("/v1/kv/w{writer}/again"));
        self.change(&what, Some(format!("value {n}")), "PUT", &path, format!("value {n}").as_bytes());
        if let Some(old) = n.checked_sub(KEPT).filter(|old| old % 4 > 0) {
            self.change(&format!("kv w{writer}/{old}"), None, "DELETE", &format!("/v1/kv/w{writer}/{old}"), b"");
        }
    }

    /// The shared counter, by compare and set.
    fn count(&mut self) {
        let least = self.judge.acknowledged.load(Ordering::SeqCst);
        let answer = self.client.ask("GET", "/v1/kv/counter", b"").unwrap();
        let (now, index) = match answer.status {
            200 => self.judge.read(&answer.json(), least),
            404 => self.judge.read(&json!([]), least),
            500 => return,
            status => panic!("GET counter: {status} {}", answer.text()),
        };
        let (number, by) = (now + 1, format!("w{}-{}", self.number, self.next));
        let (became, text) = self.ask("PUT", &format!("/v1/kv/counter?cas={index}"), format!("{number} {by}").as_bytes());
        match became {
            Became::Done if text.trim() == "true" => {
                self.judge.counted(number, &by);
                self.judge.acknowledged.fetch_max(number, Ordering::SeqCst);
                self.judge.ledger.lock().unwrap().writes += 1;
            }
            Became::Done | Became::Refused => drop(self.judge.chain.lock().unwrap().refused.insert(by)),
            Became::Lost => self.judge.chain.lock().unwrap().lost += 1,
        }
    }

    fn foreign_service(&mut self) {
        let (node, n) = (format!("ext-{}", self.number), self.next);
        let body =
            json!({ "Node": node, "Address": "10.0.0.1", "Service": { "ID": format!("s{n}"), "Service": "ext", "Port": n } });
        let what = format!("catalog {node}/s{n}");
        self.change(&what, Some(n.to_string()), "PUT", "/v1/catalog/register", body.to_string().as_bytes());
        if let Some(old) = n.checked_sub(KEPT) {
            let body = json!({ "Node": node, "ServiceID": format!("s{old}") });
            let what = format!("catalog {node}/s{old}");
            self.change(&what, None, "PUT", "/v1/catalog/deregister", body.to_string().as_bytes());
        }
    }

    /// At the agent, with a check whose verdict is part of the fact.
    fn own_service(&mut self) {
        let n = self.next;
        let id = format!("w{}-{n}", self.number);
        let what = format!("agent {id}");
        let body = json!({
            "ID": id, "Name": "own", "Port": n,
            "Check": { "CheckID": format!("c-{id}"), "TTL": "1h", "Status": "warning" },
        });
        self.change(&what, Some(format!("{n} warning")), "PUT", "/v1/agent/service/register", body.to_string().as_bytes());
        self.change(&what, Some(format!("{n} passing")), "PUT", &format!("/v1/agent/check/pass/c-{id}"), b"");
        if let Some(old) = n.checked_sub(KEPT) {
            let id = format!("w{}-{old}", self.number);
            self.change(&format!("agent {id}"), None, "PUT", &format!("/v1/agent/service/deregister/{id}"), b"");
        }
    }
}

struct Cluster {
    servers: Vec<Agent>,
    clients: Vec<Agent>,
    _net: Net,
}

impl Cluster {
    fn new() -> Self {
        let net = Net::new();
        // snapshots are taken, and all of the log stays to be read
        let flags = ["-encrypt", whole::KEY, "-hcl", "raft_snapshot_threshold = 2000\nraft_trailing_logs = 100000000"];
        let servers = net.servers(SERVERS, &flags);
        let mut clients: Vec<Agent> = (11..11 + CLIENTS).map(|host| net.client(host, SERVERS, &flags[..2])).collect();
        clients.iter_mut().for_each(Agent::start);
        clients.iter_mut().for_each(Agent::is_up);
        Self { servers, clients, _net: net }
    }

    /// The number of the server that leads.
    fn leader(&self) -> usize {
        let mut found = None;
        eventually("a client knows a server that leads", || {
            let ip = self.clients[0].leader();
            found = self.servers.iter().position(|server| server.ip == ip);
            found.is_some()
        });
        found.unwrap()
    }

    /// All three vote and follow.
    fn is_whole(&mut self, round: usize) {
        let mark = format!("mark {round}");
        eventually("a mark is written", || self.clients[0].put("/v1/kv/mark", &mark).status == 200);
        for server in &mut self.servers {
            server.eventually("it follows", |server| {
                let answer = server.get("/v1/kv/mark?stale");
                answer.status == 200 && value(&answer.json()[0]) == mark
            });
        }
        self.servers[0].eventually("all three vote", |server| {
            let answer = server.get("/v1/operator/raft/configuration");
            answer.status == 200 && rows(&answer.json()["Servers"]).iter().filter(|server| server["Voter"] == true).count() == 3
        });
    }

    /// A default read that a leader stands behind.
    fn read(agent: &mut Agent, path: &str) -> Value {
        let mut body = Value::Null;
        let end = Instant::now() + SOON;
        loop {
            let answer = agent.get(path);
            if answer.status == 404 {
                return json!([]);
            }
            if answer.status == 200 && answer.header("X-Consul-KnownLeader") == Some("true") {
                body = answer.json();
            }
            if !body.is_null() {
                return body;
            }
            assert!(Instant::now() < end, "{}: no answer to {path}: {} {}", agent.name, answer.status, answer.text());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Everything that can be asked is as it can be, at each agent.
    fn settle(&mut self, judge: &Judge) {
        let mut ledger = judge.ledger.lock().unwrap();
        let least = judge.acknowledged.load(Ordering::SeqCst);
        for agent in self.clients.iter_mut().chain(&mut self.servers) {
            ledger.settle("kv", &keys(&Self::read(agent, "/v1/kv/w?recurse")));
            judge.read(&Self::read(agent, "/v1/kv/counter"), least);
            ledger.settle("catalog", &foreign(&Self::read(agent, "/v1/catalog/service/ext")));
            // What was acknowledged was in the catalog then, so a default read has it.
            let now = own_in_catalog(&Self::read(agent, "/v1/health/service/own"));
            for (what, may_be) in ledger.may_be.iter().filter(|(what, may_be)| what.starts_with("agent") && may_be.len() == 1) {
                let is = now.get(what).cloned();
                assert!(may_be.contains(&is), "{}: {what} is {is:?}, and was acknowledged as {may_be:?}", agent.name);
            }
        }
        let mut all = BTreeMap::new();
        for client in &self.clients {
            all.extend(own(&client.get("/v1/agent/services").json(), &client.get("/v1/agent/checks").json()));
        }
        ledger.settle("agent", &all);
        for agent in self.clients.iter_mut().chain(&mut self.servers) {
            agent.eventually("the catalog has what the agents have", |agent| {
                own_in_catalog(&agent.get("/v1/health/service/own").json()) == all
            });
        }
    }

    /// Index of each row's last change, and of the keys' making.
    fn changed_at(&mut self) -> BTreeSet<u64> {
        let client = &mut self.clients[0];
        let mut indexes = BTreeSet::new();
        for path in ["/v1/kv/?recurse", "/v1/catalog/service/ext", "/v1/catalog/service/own"] {
            for row in rows(&Self::read(client, path)) {
                indexes.extend(["CreateIndex", "ModifyIndex"].iter().map(|key| row[key].as_u64().unwrap()));
            }
        }
        indexes
    }
}

/// What the three logs hold together.
#[derive(Default)]
struct Logs {
    /// By index: term and request.
    entries: BTreeMap<u64, (u64, Option<String>)>,
    /// Indexes at which a request stands again.
    again: BTreeSet<u64>,
}

impl Logs {
    /// Reads the log of a stopped server: it agrees with the others', and no number of a run carries two requests.
    fn read(&mut self, server: &Agent, until: u64) {
        let data = server.data();
        let out = muster(&["operator", "raft", "log", "-format=json", "-data-dir", data.to_str().unwrap()]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let mut before = None;
        let (mut requests, mut numbers) = (HashSet::new(), HashMap::new());
        for line in String::from_utf8(out.stdout).unwrap().lines() {
            let entry: Value = serde_json::from_str(line).unwrap();
            let (index, term) = (entry["Index"].as_u64().unwrap(), entry["Term"].as_u64().unwrap());
            assert!(before.is_none_or(|before| before + 1 == index), "{index} follows {before:?}");
            before = Some(index);
            let request = entry["Request"].as_str().map(str::to_owned);
            if index <= until {
                let of_first = self.entries.entry(index).or_insert_with(|| (term, request.clone()));
                assert_eq!(*of_first, (term, request.clone()), "{} has another entry {index}", server.name);
            }
            let Some(request) = request else { continue };
            if !requests.insert(request.clone()) {
                self.again.insert(index);
            }
            let number = (entry["Run"].as_str().unwrap().to_owned(), entry["Number"].as_u64().unwrap());
            // a session is opened under 0, as often as need be
            if number.1 > 0 {
                let first = numbers.entry(number).or_insert_with(|| request.clone());
                assert_eq!(*first, request, "one number of a run carries two requests: {line}");
            }
        }
        assert!(before.is_some_and(|last| last >= until), "{} ends at {before:?}, before {until}", server.name);
    }
}

/// The ways in which a leader is lost, in turn.
const WAYS: [&str; 3] = ["KILL", "TERM", "STOP"];

/// What was asked of a leader while it was frozen, and what the counter was at least by then.
fn ask_frozen(server: &Agent, judge: &Judge) -> Vec<(String, u64, std::net::TcpStream)> {
    let paths = [
        "/v1/kv/counter",
        "/v1/kv/counter?consistent",
        "/v1/kv/counter",
        "/v1/catalog/service/mark",
        "/v1/catalog/service/mark?consistent",
    ];
    let least = judge.acknowledged.load(Ordering::SeqCst);
    paths.iter().map(|path| ((*path).to_owned(), least, server.asked(path))).collect()
}

/// The answers of a leader that was frozen: what it gives as current is.
fn judge_woken(questions: Vec<(String, u64, std::net::TcpStream)>, judge: &Judge, round: usize) -> usize {
    let mut current = 0;
    for (path, least, stream) in questions {
        let answer = answered(stream).unwrap();
        if answer.status == 500 {
            continue;
        }
        let said = answer.header("X-Consul-KnownLeader") == Some("true");
        if path.contains("catalog") {
            let newest = rows(&answer.json()).iter().any(|row| row["ServicePort"] == round + 1);
            assert!(newest || (!said && !path.ends_with("consistent")), "an old answer to {path}: {answer:?}");
        } else {
            judge.read(&answer.json(), least);
        }
        current += usize::from(said);
    }
    current
}

#[test]
fn leaders_are_lost_and_nothing_that_was_acknowledged() {
    let rounds = from_env("MUSTER_CHANGES", 4);
    let seed = from_env("MUSTER_SEED", std::process::id() as usize) as u64;
    println!("{rounds} changes, MUSTER_SEED={seed}");
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut cluster = Cluster::new();
    let judge = Arc::new(Judge::default());
    let mut next = [0; WRITERS];
    let mut took: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    let doors: Vec<SocketAddr> = cluster.clients.iter().map(Agent::http).collect();
    for round in 0..rounds {
        let way = WAYS[round % WAYS.len()];
        cluster.is_whole(round);
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| {
                let client = Client::to(doors[number % doors.len()]);
                let writer = Writer { number, client, judge: judge.clone(), next: next[number] };
                let stop = stop.clone();
                thread::spawn(move || writer.run(&stop))
            })
            .collect();
        thread::sleep(Duration::from_micros(rng.random_range(300_000..1_200_000)));
        let leader = cluster.leader();
        let writes = judge.ledger.lock().unwrap().writes;
        cluster.servers[leader].signal(way);
        let begun = Instant::now();
        // from another leader, for the one that is lost answers no more, or soon
        eventually("a write is acknowledged under another leader", || {
            let mark = json!({ "Node": "mark", "Address": "10.0.0.9", "Service": { "Service": "mark", "Port": round + 1 } });
            let written = cluster.clients[1].put("/v1/catalog/register", mark.to_string()).status == 200;
            written && (way != "TERM" || cluster.clients[0].leader() != cluster.servers[leader].ip)
        });
        took.entry(way).or_default().push(begun.elapsed());
        thread::sleep(Duration::from_micros(rng.random_range(100_000..600_000)));
        let mut woken = None;
        if way == "STOP" {
            let questions = ask_frozen(&cluster.servers[leader], &judge);
            cluster.servers[leader].signal("CONT");
            woken = Some(judge_woken(questions, &judge, round));
            thread::sleep(Duration::from_micros(rng.random_range(0..300_000)));
        } else {
            if way == "KILL" {
                cluster.servers[leader].kill();
            } else {
                assert_eq!(cluster.servers[leader].ends().code(), Some(0));
            }
            cluster.servers[leader].start();
        }
        stop.store(true, Ordering::Relaxed);
        for (number, writer) in writers.into_iter().enumerate() {
            next[number] = writer.join().unwrap_or_else(|_| panic!("writer {number} failed"));
        }
        cluster.servers[leader].is_up();
        cluster.settle(&judge);
        let ledger = judge.ledger.lock().unwrap();
        println!(
            "change {}/{rounds} by {way}: a write again after {:?}, {} acknowledged in this round, {} in all, {} answers lost{}",
            round + 1,
            took[way].last().unwrap(),
            ledger.writes - writes,
            ledger.writes,
            ledger.lost_answers,
            woken.map(|current| format!(", {current} of 5 questions answered as current by the woken")).unwrap_or_default()
        );
    }
    let changed = cluster.changed_at();
    let until = *changed.last().unwrap();
    let mut logs = Logs::default();
    for server in &mut cluster.servers {
        server.kill();
    }
    for server in &cluster.servers {
        logs.read(server, until);
    }
    // The first one counts: nothing was changed by an entry whose request stands earlier in the log.
    let twice: Vec<_> = changed.intersection(&logs.again).collect();
    assert!(twice.is_empty(), "applied twice: {twice:?}");
    let chain = judge.chain.lock().unwrap();
    let (first, last) = (chain.by.first_key_value().unwrap(), chain.by.last_key_value().unwrap());
    assert_eq!((*first.0, chain.by.len() as u64), (1, *last.0), "a value of the counter was never seen");
    let refused: Vec<_> = chain.by.values().filter(|by| chain.refused.contains(*by)).collect();
    assert!(refused.is_empty(), "refused, and there: {refused:?}");
    let ledger = judge.ledger.lock().unwrap();
    println!(
        "{rounds} changes: {} acknowledged writes are there; the counter went to {} by steps of one, {} refused and {} lost; {} other \
         answers lost; {} entries, of which {} repeat a request and changed nothing; a write again after {took:.0?}",
        ledger.writes,
        last.0,
        chain.refused.len(),
        chain.lost,
        ledger.lost_answers,
        logs.entries.len(),
        logs.again.len(),
    );
    assert!(ledger.writes > 20 * rounds as u64, "hardly anything was written");
}
