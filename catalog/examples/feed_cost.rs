//! What a change costs on its way from a server to a follower, by the size of the catalog.
//!
//!     cargo run --release -p muster-catalog --example feed_cost
#![allow(clippy::print_stdout, clippy::disallowed_methods)] // it prints a table of times

use std::time::{Duration, Instant};

use muster_catalog::{
    Batch, Cause, CauseKind, Check, CheckId, Command, Incoming, Intake, Node, NodeName, Offer, Position, Proposal, Register,
    Resume, Run, Service, ServiceId, ServiceName, Status, Store, Weights,
};
use uuid::Uuid;

/// Changes measured at each size.
const CHANGES: usize = 2000;
/// Instances of a service.
const INSTANCES: usize = 20;

fn main() {
    println!(
        "{:>9} {:>9} {:>10} {:>10} {:>11} {:>8} {:>9} {:>9} {:>9} {:>9} {:>10}",
        "instances",
        "bytes",
        "server µs",
        "client µs",
        "resume scan",
        "whole",
        "write",
        "enter",
        "again",
        "kB each",
        "client RSS"
    );
    for instances in [100, 1_000, 10_000] {
        measure(instances);
    }
    println!("bytes, µs: one check's status change; resume scan: µs for an empty resume out of the tables;");
    println!("whole: MB of a snapshot, written and entered in ms; again: ms for a start from it; client RSS: MB a snapshot adds");
}

fn measure(instances: usize) {
    let mut server = Servers { store: Store::new(), index: 0 };
    server.send(Command::OpenRun);
    server.send(Command::Found(Uuid::from_u128(7)));
    (0..instances).for_each(|n| server.send(registration(n, Status::Passing)));
    server.store.publish();

    let started = Instant::now();
    let frames: Vec<_> = server.store.state().whole().frames().collect();
    let written = started.elapsed();
    let whole: usize = frames.iter().map(bytes::Bytes::len).sum();
    let rss = resident();
    let (mut client, mut intake) = (Store::new(), Intake::new());
    let started = Instant::now();
    frames.iter().for_each(|frame| enter(&mut client, &mut intake, frame));
    let entered = started.elapsed();
    let grown = resident() - rss;
    let started = Instant::now();
    let (mut again, mut anew) = (Store::new(), Intake::new());
    frames.iter().for_each(|frame| enter(&mut again, &mut anew, frame));
    let restarted = started.elapsed();
    drop((again, anew, frames));

    let (mut bytes, mut at_server, mut at_client) = (0, Duration::ZERO, Duration::ZERO);
    let mut head = server.store.state().clone();
    for n in 0..CHANGES {
        let status = if (n / instances).is_multiple_of(2) { Status::Critical } else { Status::Passing };
        server.send(registration(n * 7919 % instances, status));
        server.store.publish();
        let started = Instant::now();
        let batch = server.store.state().changes_from(&head).expect("it is the same history");
        let frames: Vec<_> = batch.frames().collect();
        head = server.store.state().clone();
        at_server += started.elapsed();
        bytes += frames.iter().map(bytes::Bytes::len).sum::<usize>();
        let started = Instant::now();
        frames.iter().for_each(|frame| enter(&mut client, &mut intake, frame));
        client.publish();
        at_client += started.elapsed();
    }
    assert_eq!(client.state().position(), server.store.state().position());
    let at = server.store.state().position();
    let started = Instant::now();
    let resume = server.store.state().since(Position { index: at.index - 1, ..at });
    let scanned = started.elapsed();
    assert!(matches!(&resume, Resume::Changes(batch) if rows(batch) == 1));

    let micros = |all: Duration| all.as_secs_f64() * 1e6 / CHANGES as f64;
    println!(
        "{instances:>9} {:>9} {:>10.1} {:>10.1} {:>11.0} {:>8.2} {:>9.1} {:>9.1} {:>9.1} {:>9.2} {:>10.1}",
        bytes / CHANGES,
        micros(at_server),
        micros(at_client),
        scanned.as_secs_f64() * 1e6,
        whole as f64 / 1e6,
        written.as_secs_f64() * 1e3,
        entered.as_secs_f64() * 1e3,
        restarted.as_secs_f64() * 1e3,
        grown as f64 / 1e3 / instances as f64,
        grown as f64 / 1e6,
    );
}

fn rows(batch: &Batch) -> usize {
    batch.rows()
}

fn enter(store: &mut Store, intake: &mut Intake, frame: &[u8]) {
    for incoming in intake.take(frame).expect("it was just written") {
        if let Incoming::Batch(batch) = incoming {
            store.enter(*batch).expect("it goes on");
        }
    }
}

struct Servers {
    store: Store,
    index: u64,
}

impl Servers {
    fn send(&mut self, command: Command) {
        let number = self.index;
        self.index += 1;
        let cause = Cause::new("node-1", CauseKind::CheckResult, 1_700_000_000_000, "HTTP 200 became 503");
        let run = Run { agent: Uuid::from_u128(1), epoch: 1 };
        let proposal = Proposal { request: Uuid::nil(), run, number, answered_below: number, time_ms: number, cause, command };
        self.store.apply(self.index, proposal);
    }
}

fn registration(n: usize, status: Status) -> Command {
    let service = Service {
        id: ServiceId::new(format!("web-{}-{n}", n / INSTANCES)).expect("a name"),
        name: ServiceName::new(format!("web-{}", n / INSTANCES)).expect("a name"),
        tags: vec!["primary".into(), "v1".into()],
        address: "".into(),
        tagged_addresses: Default::default(),
        meta: [("version".into(), "1.2.3".into())].into(),
        port: 8080,
        socket_path: "".into(),
        enable_tag_override: false,
        weights: Weights::default(),
        rare: None,
    };
    let check = Check {
        id: CheckId::new(format!("service:web-{n}")).expect("a name"),
        name: "Service check".into(),
        status,
        notes: "".into(),
        output: "HTTP GET http://127.0.0.1:8080/health: 200 OK Output: ok".into(),
        service_id: Some(service.id.clone()),
        service_name: None,
        service_tags: vec![],
        kind: "http".into(),
        interval: "10s".into(),
        timeout: "1s".into(),
        definition: None,
    };
    let about = Node {
        id: Some(Uuid::from_u128(1000 + n as u128)),
        address: format!("10.0.{}.{}", n / 250, n % 250).into(),
        tagged_addresses: [("lan".into(), format!("10.0.{}.{}", n / 250, n % 250).into())].into(),
        meta: Default::default(),
    };
    Command::Register(Register {
        node: NodeName::new(format!("node-{n}")).expect("a name"),
        about: Some(about),
        services: vec![Offer::unowned(service)],
        checks: vec![Offer::unowned(check)],
        owner: None,
    })
}

/// Resident bytes of this process.
fn resident() -> i64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: i64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4096
}
