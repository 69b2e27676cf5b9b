//! Every agent of a cluster is restarted, one after the other, and whoever asks or registers anywhere else does not notice.
//!
//! `MUSTER_ROLLING_CLIENTS=20` is the long form; `MUSTER_ROLLING_GRACE` is how long an agent may be away (the default elsewhere is 5 s).
#![allow(clippy::disallowed_methods, clippy::print_stdout)] // tests read the clock and say what they saw
#![allow(clippy::unwrap_used)] // the helpers of a test may fail as its tests do

mod support;
mod whole;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use support::{Answer, dns_question};
use whole::{Agent, Net, SOON, eventually};

const SERVERS: u8 = 3;
/// Agents of the suite beside the servers.
const CLIENTS: u8 = 4;
/// No machine takes this long for a restart: nothing depends on who is faster.
const GRACE: &str = "60s";
const LOOKERS: usize = 3;
const WEB: &str = "web.service.consul";

/// The whole cluster; who restarts an agent has it alone.
struct Cluster {
    agents: Vec<RwLock<Agent>>,
    stop: AtomicBool,
    /// Look-ups and registrations that were answered.
    answered: AtomicUsize,
    /// What was not as it must be.
    faults: Mutex<Vec<String>>,
    begun: Instant,
}

impl Cluster {
    fn new(net: &Net, clients: u8, grace: &str) -> Self {
        let grace = format!("restart_grace = \"{grace}\"");
        let mut agents = net.servers(SERVERS, &["-hcl", &grace]);
        for host in 0..clients {
            let mut client = net.client(11 + host, SERVERS, &["-hcl", &grace]);
            client.start();
            agents.push(client);
        }
        for agent in &mut agents {
            agent.is_up();
            agent.done("/v1/agent/service/register", json!({ "Name": "web", "Port": 80 }).to_string());
        }
        let all = agents.len();
        for agent in &mut agents {
            agent.eventually("it finds all", |agent| count(&agent.get("/v1/health/service/web?passing")) == all);
        }
        let agents = agents.into_iter().map(RwLock::new).collect();
        let (stop, answered, faults) = (AtomicBool::new(false), AtomicUsize::new(0), Mutex::new(Vec::new()));
        Self { agents, stop, answered, faults, begun: Instant::now() }
    }

    fn fault(&self, what: String) {
        self.faults.lock().unwrap().push(format!("{:.2} s: {what}", self.begun.elapsed().as_secs_f64()));
    }

    /// Asks one agent in all ways.
    fn look(&self, agent: &Agent) {
        let all = self.agents.len();
        for path in ["/v1/health/service/web?passing", "/v1/health/service/web?passing&stale", "/v1/catalog/service/web"] {
            match agent.ask("GET", path, b"") {
                Ok(answer) if answer.status == 200 && count(&answer) == all => {}
                Ok(answer) => self.fault(format!("{}: {path}: {} with {} of {all}", agent.name, answer.status, short(&answer))),
                Err(error) => self.fault(format!("{}: {path}: {error}", agent.name)),
            }
        }
        match dns_tcp(agent.dns(), WEB) {
            Ok(found) if found == all => {}
            other => self.fault(format!("{}: DNS over TCP: {other:?} of {all}", agent.name)),
        }
        let found = agent.addresses(WEB);
        if found != 3 {
            self.fault(format!("{}: DNS over UDP: {found} of the 3 that it gives at once", agent.name));
        }
        self.answered.fetch_add(5, Relaxed);
    }

    /// Asks whoever is not restarted at that moment.
    fn look_on(&self, first: usize) {
        for agent in self.agents.iter().cycle().skip(first * self.agents.len() / LOOKERS) {
            if self.stop.load(Relaxed) {
                return;
            }
            if let Ok(agent) = agent.try_read() {
                self.look(&agent);
            }
        }
    }

    /// Registers one service after the other, at whoever is not restarted at that moment; gives how many were accepted.
    fn register_on(&self) -> usize {
        let mut number = 0;
        for agent in self.agents.iter().cycle() {
            if self.stop.load(Relaxed) {
                break;
            }
            let Ok(agent) = agent.try_read() else { continue };
            let own = json!({ "Name": "new", "ID": format!("new-{number}"), "Port": 80 });
            let foreign = json!({ "Node": "elsewhere", "Address": "192.0.2.1", "SkipNodeUpdate": number > 0,
                "Service": { "Service": "new", "ID": format!("new-{}", number + 1) } });
            for (path, body) in [("/v1/agent/service/register", own), ("/v1/catalog/register", foreign)] {
                let begun = Instant::now();
                match agent.ask("PUT", path, body.to_string().as_bytes()) {
                    Ok(answer) if answer.status == 200 => {}
                    Ok(answer) => self.fault(format!(
                        "{}: {path}: {} {} after {:?}",
                        agent.name,
                        answer.status,
                        answer.text(),
                        begun.elapsed()
                    )),
                    Err(error) => self.fault(format!("{}: {path}: {error}", agent.name)),
                }
            }
            number += 2;
            self.answered.fetch_add(2, Relaxed);
            drop(agent);
            thread::sleep(Duration::from_millis(20)); // some fifty a second, not as many as there can be
        }
        number
    }

    /// Restarts one; its first answers must be whole ones.
    fn restart(&self, number: usize) {
        let mut agent = self.agents[number].write().unwrap();
        let begun = Instant::now();
        agent.signal("TERM");
        let status = agent.ends();
        assert!(status.success(), "{}: {status}", agent.name);
        let ended = begun.elapsed();
        agent.start();
        let (http, dns) = thread::scope(|scope| {
            let http = scope.spawn(|| first(|| agent.ask("GET", "/v1/health/service/web?passing&stale", b"").ok()));
            let dns = scope.spawn(|| first(|| dns_tcp(agent.dns(), WEB).ok()));
            (http.join().unwrap(), dns.join().unwrap())
        });
        let back = begun.elapsed();
        if (http.status, count(&http)) != (200, self.agents.len()) || dns != self.agents.len() {
            self.fault(format!("{}: its first answers: {} with {}, DNS {dns}", agent.name, http.status, short(&http)));
        }
        // from here on it is asked as any other
        drop(agent);
        let agent = self.agents[number].read().unwrap();
        println!("{}: ended after {ended:.2?}, answers after {back:.2?}", agent.name);
        eventually("it is there again for all", || {
            let sees = |agent: &RwLock<Agent>| agent.read().unwrap().alive().len() == self.agents.len();
            !agent.leader().is_empty() && self.agents.iter().all(sees)
        });
    }
}

/// The first thing it gives.
fn first<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + SOON;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "it does not answer again");
        thread::sleep(Duration::from_millis(2));
    }
}

fn count(answer: &Answer) -> usize {
    if answer.status == 200 { answer.json().as_array().map_or(0, Vec::len) } else { 0 }
}

/// How many rows, or what it says instead.
fn short(answer: &Answer) -> String {
    if answer.status == 200 { count(answer).to_string() } else { answer.text() }
}

/// How many addresses a name has over TCP, where all of them fit.
fn dns_tcp(to: SocketAddr, name: &str) -> std::io::Result<usize> {
    let question = dns_question(name, 1);
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(&[&(question.len() as u16).to_be_bytes(), question.as_slice()].concat())?;
    let mut head = [0; 14];
    stream.read_exact(&mut head)?;
    Ok(u16::from_be_bytes([head[8], head[9]]).into())
}

#[test]
fn a_rolling_restart_is_noticed_by_nobody_who_asks_elsewhere() {
    let from_env = |name: &str, otherwise: &str| std::env::var(name).unwrap_or_else(|_| otherwise.to_owned());
    let clients = from_env("MUSTER_ROLLING_CLIENTS", &CLIENTS.to_string()).parse().unwrap();
    let net = Net::new();
    let cluster = Cluster::new(&net, clients, &from_env("MUSTER_ROLLING_GRACE", GRACE));
    let registered = thread::scope(|scope| {
        for number in 0..LOOKERS {
            let cluster = &cluster;
            scope.spawn(move || cluster.look_on(number));
        }
        let registers = scope.spawn(|| cluster.register_on());
        // also where a restart fails, the others are told to end
        let _ends = Ends(&cluster.stop);
        for number in 0..cluster.agents.len() {
            cluster.restart(number);
        }
        cluster.stop.store(true, Relaxed);
        registers.join().unwrap()
    });
    for agent in &cluster.agents {
        let agent = agent.read().unwrap();
        eventually("all that was registered is found", || count(&agent.get("/v1/health/service/new")) == registered);
    }
    let faults = cluster.faults.into_inner().unwrap();
    println!("{registered} registrations, {} answers, {} faults", cluster.answered.into_inner(), faults.len());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Tells the others to end, however it is left.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
