//! What Consul answers, asked of an agent on the wire: scenarios are data (`scenarios/`), and the agent is an address.
//!
//! Without an address servers of its own are asked, one with many settings, and client agents of three servers. `MUSTER_CONFORMANCE=host:port` asks that agent instead, which is the only server of `dc1` and new;
//! `MUSTER_CONFORMANCE_DNS` is where its DNS is (port 8600 of the same host), `MUSTER_CONFORMANCE_KIND` what it is (`tuned` with
//! `agents/tuned.json`, `slow` for scenarios that take minutes), `MUSTER_CONFORMANCE_ONLY` a part of a scenario's or area's name.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::print_stderr)] // tests wait, and show what they found

mod judge;
mod matchers;
mod step;
#[path = "../support/mod.rs"]
mod support;
#[path = "../whole/mod.rs"]
mod whole;
mod wire;

use std::collections::BTreeSet;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use judge::Subject;
use step::Area;
use wire::Target;

/// Areas that share an agent, one after the other; agents side by side, for they mostly wait.
const ALONE: &[&[&str]] = &[&["health", "rules", "bounds", "filter", "dns"], &["session", "catalog", "system"], &["agent", "kv"]];
/// The same through client agents, which share a catalog: `catalog` finds it new, while `health` looks at the indexes of its tables
/// nobody else registers anything, and while `kv` waits for an absent key nobody else writes any.
const THROUGH: [&[&[&str]]; 3] =
    [&[&["catalog", "health"]], &[&["agent", "filter"], &["kv"]], &[&["rules", "bounds", "dns"], &["session", "system"]]];
/// One set of agents at a time: on a busy machine more of them would only measure that it is busy.
static TURN: Mutex<()> = Mutex::new(());

/// Asks all scenarios of an area that want such an agent: how many steps that were, and the differences.
fn ask(area: &Area, needs: &str, mut subject: Subject) -> (usize, Vec<String>) {
    let begun = Instant::now();
    let target = Target::near(subject.http).unwrap();
    let places = [("target", target.open), ("closed", target.closed)];
    subject.variables.0.extend(places.map(|(name, at)| (name.to_owned(), at.to_string())));
    let mut subject = subject.known().unwrap();
    let only = std::env::var("MUSTER_CONFORMANCE_ONLY").unwrap_or_default();
    let chosen = area.scenarios.iter().filter(|scenario| scenario.needs == needs);
    let chosen = chosen.filter(|scenario| scenario.name.contains(&only) || area.name.contains(&only));
    let (mut steps, mut found) = (0, Vec::new());
    for scenario in chosen {
        steps += scenario.steps.len();
        found.extend(subject.judge(scenario));
    }
    eprintln!("{}: {steps} steps, {} differ, {:.1} s", area.name, found.len(), begun.elapsed().as_secs_f64());
    (steps, found)
}

/// Asks one subject a lane of areas, the lanes side by side.
fn side_by_side(areas: &[Area], lanes: &[&[&str]], subjects: &[Subject]) -> Vec<(usize, Vec<String>)> {
    let lane = |lane: &[&str], subject: &Subject| -> Vec<_> {
        let named = |name: &&str| areas.iter().find(|area| area.name == **name).expect("an area of that name");
        lane.iter().map(named).map(|area| ask(area, "", subject.clone())).collect()
    };
    std::thread::scope(|scope| {
        let pairs: Vec<_> = lanes.iter().zip(subjects).collect();
        let running: Vec<_> = pairs.into_iter().map(|(areas, subject)| scope.spawn(move || lane(areas, subject))).collect();
        running.into_iter().flat_map(|one| one.join().unwrap()).collect()
    })
}

/// Nothing differs, and something was asked.
fn hold(results: &[(usize, Vec<String>)]) {
    let found: Vec<&str> = results.iter().flat_map(|(_, found)| found).map(String::as_str).collect();
    let steps: usize = results.iter().map(|(steps, _)| steps).sum();
    assert!(steps > 0, "nothing was asked");
    assert!(found.is_empty(), "{} of {steps} steps differ:\n{}", found.len(), found.join("\n"));
}

/// The agent whose address is given, if one is.
fn given() -> Option<Subject> {
    let http = resolved(&std::env::var("MUSTER_CONFORMANCE").ok()?);
    let dns = std::env::var("MUSTER_CONFORMANCE_DNS").map_or(SocketAddr::new(http.ip(), 8600), |dns| resolved(&dns));
    Some(Subject { http, dns, ours: false, through: false, variables: Default::default() })
}

fn resolved(address: &str) -> SocketAddr {
    address.to_socket_addrs().unwrap().next().expect("an address")
}

fn ours(agent: &whole::Agent, through: bool) -> Subject {
    Subject { http: agent.http(), dns: agent.dns(), ours: true, through, variables: Default::default() }
}

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_server_answers_as_consul() {
    let areas = step::areas();
    if let Some(subject) = given() {
        let needs = std::env::var("MUSTER_CONFORMANCE_KIND").unwrap_or_default();
        return hold(&areas.iter().map(|area| ask(area, &needs, subject.clone())).collect::<Vec<_>>());
    }
    let _turn = turn();
    let net = whole::Net::new();
    let server = |host| net.agent(&format!("conforms-{host}"), host, &["-server", "-bootstrap-expect=1"]);
    let mut servers: Vec<whole::Agent> = (1..).take(ALONE.len()).map(server).collect();
    servers.iter_mut().for_each(whole::Agent::start);
    servers.iter_mut().for_each(whole::Agent::is_up);
    let subjects: Vec<Subject> = servers.iter().map(|server| ours(server, false)).collect();
    hold(&side_by_side(&areas, ALONE, &subjects));
}

#[test]
fn an_agent_with_many_settings_answers_as_consul() {
    if given().is_some() {
        return;
    }
    let _turn = turn();
    let (net, areas) = (whole::Net::new(), step::areas());
    let settings = concat!("-config-file=", env!("CARGO_MANIFEST_DIR"), "/tests/conformance/agents/tuned.json");
    let mut server = net.agent("conforms-1", 1, &["-server", "-bootstrap-expect=1", settings]);
    server.start_up();
    hold(&areas.iter().map(|area| ask(area, "tuned", ours(&server, false))).collect::<Vec<_>>());
}

#[test]
fn a_client_agent_of_three_servers_answers_as_consul() {
    if given().is_some() {
        return;
    }
    let _turn = turn();
    let (net, areas) = (whole::Net::new(), step::areas());
    let _servers = net.servers(3, &[]);
    let mut clients = [net.client(10, 3, &[]), net.client(11, 3, &[])];
    clients.iter_mut().for_each(whole::Agent::start);
    clients.iter_mut().for_each(whole::Agent::is_up);
    let subjects = clients.each_ref().map(|client| ours(client, true));
    hold(&THROUGH.iter().flat_map(|lanes| side_by_side(&areas, lanes, &subjects)).collect::<Vec<_>>());
}

#[test]
fn every_area_is_asked() {
    let plain = step::areas().into_iter().filter(|area| area.scenarios.iter().any(|scenario| scenario.needs.is_empty()));
    let plain: BTreeSet<String> = plain.map(|area| area.name).collect();
    let names = |lanes: &[&[&str]]| lanes.iter().copied().flatten().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(names(ALONE), plain);
    assert_eq!(THROUGH.iter().flat_map(|lanes| names(lanes)).collect::<BTreeSet<_>>(), plain);
}
