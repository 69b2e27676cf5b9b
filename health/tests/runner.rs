//! The runner as the agent uses it.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // tests look at the clock and may panic

mod common;

use std::time::{Duration, Instant};

use common::{Running, SECOND, check, eventually, http, id, marker, processes_with, script, tcp};
use muster_catalog::{AliasProbe, CheckDefinition, GrpcProbe, Probe, Status, TcpProbe, UdpProbe};
use muster_health::{Config, Error, Source};
use tokio::net::TcpListener;

#[tokio::test]
async fn a_check_passes_fails_and_passes_again_with_its_port() {
    let mut running = Running::start(Config::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    running.handle.set(tcp("port", address), 7);
    let verdict = running.verdict().await;
    assert_eq!((verdict.check, verdict.generation, verdict.source), (id("port"), 7, Source::Probe));
    assert_eq!((verdict.status, verdict.output), (Status::Passing, format!("TCP connect {address}: Success")));
    drop(listener);
    let failed = running.until(|verdict| verdict.status == Status::Critical).await;
    let listener = TcpListener::bind(address).await.unwrap();
    let back = running.until(|verdict| verdict.status == Status::Passing).await;
    assert!(back.turn > failed.turn);
    drop(listener);
    running.stop().await;
}

#[tokio::test]
async fn thresholds_hold_back_what_is_not_yet_a_verdict() {
    let mut running = Running::start(Config::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    running.handle.set(CheckDefinition { failures_before_critical: 3, ..tcp("port", address) }, 1);
    assert_eq!(running.verdict().await.status, Status::Passing);
    drop(listener);
    // A probe may have been under way; from the first failure on it takes two more.
    let begun = Instant::now();
    running.until(|verdict| verdict.status == Status::Critical).await;
    assert!(begun.elapsed() > SECOND, "{:?}", begun.elapsed());
    running.stop().await;
}

#[tokio::test]
async fn a_ttl_check_expires_unless_it_is_reported() {
    let mut running = Running::start(Config::default());
    running.handle.set(check("ttl", Probe::Ttl(SECOND * 3 / 2)), 3);
    let begun = Instant::now();
    while begun.elapsed() < 3 * SECOND {
        let report = running.handle.report(&id("ttl"), Status::Passing, "still here".into()).unwrap();
        assert_eq!((report.status, report.source, report.generation), (Status::Passing, Source::Report, 3));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(running.verdicts.try_recv().is_err(), "it was reported in time");
    let expiry = running.verdict().await;
    assert_eq!((expiry.status, expiry.source), (Status::Critical, Source::Expiry));
    assert_eq!(expiry.output, "TTL expired (last output before timeout follows): still here");
    assert!(running.handle.report(&id("ttl"), Status::Passing, "back".into()).unwrap().turn > expiry.turn);
    assert_eq!(running.verdict().await.source, Source::Expiry, "a report after expiry wakes the driver");
    assert_eq!(running.handle.report(&id("none"), Status::Passing, String::new()), Err(Error::UnknownCheck(id("none"))));
    running.stop().await;
}

#[tokio::test]
async fn a_removed_check_is_killed_and_says_nothing_more() {
    let mut running = Running::start(Config::default());
    running.handle.set(script("slow", &format!("sleep {}; echo late", marker(1))), 1);
    eventually("it runs", || processes_with(&marker(1)) > 0).await;
    running.handle.remove(&id("slow"));
    eventually("it is killed", || processes_with(&marker(1)) == 0).await;
    eventually("it is reaped", || common::zombies() == 0).await;
    running.handle.set(script("other", "echo fine"), 2);
    assert_eq!(running.verdict().await.check, id("other"));
    running.stop().await;
}

#[tokio::test]
async fn a_redefined_check_is_judged_by_its_new_definition_only() {
    let mut running = Running::start(Config::default());
    running.handle.set(script("c", &format!("sleep {}", marker(2))), 1);
    eventually("it runs", || processes_with(&marker(2)) > 0).await;
    running.handle.set(script("c", "echo new"), 2);
    let verdict = running.verdict().await;
    assert_eq!((verdict.generation, verdict.output.as_str()), (2, "new\n"));
    assert_eq!(processes_with(&marker(2)), 0);
    running.stop().await;
}

#[tokio::test]
async fn a_script_that_outlasts_its_interval_never_runs_twice_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join("lock");
    let path = lock.display();
    let mut running = Running::start(Config::default());
    running.handle.set(script("c", &format!("mkdir {path} || exit 2; sleep 1.6; rmdir {path}")), 1);
    for _ in 0..3 {
        let verdict = running.verdict().await;
        assert_eq!(verdict.status, Status::Passing, "{}", verdict.output);
    }
    running.stop().await;
}

#[tokio::test]
async fn stopping_kills_what_runs() {
    let running = Running::start(Config::default());
    running.handle.set(script("slow", &format!("trap '' TERM; sleep {0} & sleep {0}", marker(3))), 1);
    eventually("it runs", || processes_with(&marker(3)) > 1).await;
    running.stop().await;
    eventually("all of it is killed", || processes_with(&marker(3)) == 0).await;
}

#[tokio::test]
async fn while_nobody_takes_verdicts_checks_wait_and_none_is_lost() {
    let mut running = Running::start_with_room(Config::default(), 1);
    for n in 0..20 {
        running.handle.set(script(&n.to_string(), "echo fine"), 1);
    }
    tokio::time::sleep(3 * SECOND).await;
    running.handle.set(check("ttl", Probe::Ttl(3600 * SECOND)), 1);
    assert!(running.handle.report(&id("ttl"), Status::Passing, String::new()).is_ok());
    let mut heard = std::collections::BTreeSet::new();
    while heard.len() < 20 {
        heard.insert(running.verdict().await.check);
    }
    running.stop().await;
}

#[tokio::test]
async fn an_alias_is_taken_and_not_run() {
    let mut running = Running::start(Config::default());
    running.handle.set(check("c", Probe::Alias(AliasProbe::default())), 1);
    running.handle.set(script("other", "echo fine"), 1);
    assert_eq!(running.verdict().await.check, id("other"));
    running.stop().await;
}

#[tokio::test]
async fn ten_thousand_waiting_checks_are_rows_and_no_tasks() {
    let running = Running::start(Config::default());
    let before = common::resident();
    for n in 0..10_000 {
        let definition = http(&format!("check-{n}"), format!("http://127.0.0.1:9/{n}"));
        running.handle.set(CheckDefinition { interval: 365 * 24 * 3600 * SECOND, ..definition }, 1);
    }
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert!(tasks <= 2, "{tasks} tasks");
    let each = common::resident().saturating_sub(before) / 10_000;
    println!("{each} bytes resident for a waiting check");
    assert!(each < 4096, "{each} bytes for a waiting check");
    running.stop().await;
}

#[tokio::test]
async fn a_thousand_silent_checks_of_each_kind_hold_no_thread_and_keep_their_bound() {
    const SOCKETS_MAX: usize = 100;
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, udp) = (listener.local_addr().unwrap(), std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
    let at = udp.local_addr().unwrap().to_string();
    let mut running = Running::start(Config { sockets_max: SOCKETS_MAX, ..Config::default() });
    let (before, had) = (common::descriptors(), threads());
    for n in 0..1000 {
        let grpc = Probe::Grpc(GrpcProbe { target: address.to_string(), ..GrpcProbe::default() });
        let ping = Probe::H2Ping(TcpProbe { address: address.to_string(), ..TcpProbe::default() });
        let datagram = Probe::Udp(UdpProbe { address: at.clone() });
        for (kind, probe) in [("grpc", grpc), ("h2ping", ping), ("udp", datagram)] {
            let definition = CheckDefinition { timeout: Some(SECOND / 10), ..check(&format!("{kind}-{n}"), probe) };
            running.handle.set(CheckDefinition { interval: 3600 * SECOND, ..definition.clone() }, 1);
            running.handle.set(definition, 2);
        }
    }
    let mut heard = std::collections::BTreeMap::new();
    let (mut most, mut accepted) = (0, Vec::new());
    while heard.len() < 3000 {
        tokio::select! {
            verdict = running.verdict() => {
                heard.insert(verdict.check.clone(), (verdict.status, verdict.output));
                most = most.max(common::descriptors() - accepted.len());
            }
            Ok(stream) = listener.accept() => accepted.push(stream),
        }
    }
    assert!(threads() <= had, "{} threads", threads());
    assert!(most <= before + 2 * SOCKETS_MAX, "{most} descriptors, {before} before");
    for (check, (status, output)) in heard {
        let kind = check.as_str().split('-').next().unwrap();
        let said = match kind {
            "grpc" => (Status::Critical, "rpc error: code = DeadlineExceeded desc = context deadline exceeded".to_owned()),
            "h2ping" => (Status::Critical, "HTTP2 ping failed: context deadline exceeded".to_owned()),
            _ => (Status::Passing, format!("UDP connect {at}: Success")),
        };
        assert_eq!((status, output), said, "{check}");
    }
    running.stop().await;
}
