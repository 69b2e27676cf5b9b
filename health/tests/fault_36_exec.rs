//! Fault 36: a program that hangs with grandchildren, floods its output, ignores TERM.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // tests look at the clock and may panic

mod common;

use std::time::{Duration, Instant};

use common::{Running, SECOND, descriptors, eventually, marker, processes_with, resident, script, zombies};
use muster_catalog::{CheckDefinition, Status};
use muster_health::Config;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_hanging_runs_leave_no_process_no_zombie_and_no_descriptor() {
    const CHECKS: usize = 150;
    const RUNS: usize = 1_000;
    let mut running = Running::start(Config::default());
    let before = descriptors();
    let sleep = format!("sleep {}", marker(4));
    let hang = format!("trap '' TERM HUP INT; (trap '' TERM; {sleep} & exec {sleep}) & echo hangs; {sleep}; {sleep}");
    for n in 0..CHECKS {
        let definition = script(&format!("check-{n}"), &hang);
        running.handle.set(CheckDefinition { timeout: Some(Duration::from_millis(150)), ..definition }, 1);
    }
    eventually("they hang", || processes_with(&marker(4)) > 2).await;
    let mut most = 0;
    for _ in 0..RUNS {
        let verdict = running.verdict().await;
        assert_eq!(verdict.status, Status::Critical);
        assert!(verdict.output.starts_with("Timed out (150ms) running check"), "{}", verdict.output);
        most = most.max(descriptors());
    }
    running.stop().await;
    eventually("every grandchild is gone", || processes_with(&marker(4)) == 0).await;
    eventually("every child is reaped", || zombies() == 0).await;
    println!("descriptors: {before} before, {most} at most, {} after {RUNS} runs", descriptors());
    eventually("descriptors are given back", || descriptors() < before + 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_cut_and_killed_with_its_grandchildren_at_the_timeout() {
    let mut running = Running::start(Config::default());
    let flood = format!("trap '' TERM; (trap '' TERM; yes {0}) & yes {0}", marker(5));
    let before = resident();
    for n in 0..4 {
        running.handle.set(CheckDefinition { timeout: Some(SECOND), ..script(&format!("c{n}"), &flood) }, 1);
    }
    eventually("a flood runs", || processes_with(&marker(5)) > 1).await;
    let begun = Instant::now();
    let verdict = running.verdict().await;
    assert!(begun.elapsed() < 2 * SECOND, "{:?}", begun.elapsed());
    assert_eq!(verdict.status, Status::Critical);
    let lines: Vec<&str> = verdict.output.lines().take(4).collect();
    assert_eq!(lines[..2], ["Timed out (1s) running check", ""]);
    assert!(lines[2].starts_with("Captured 4096 of "), "{}", lines[2]);
    assert!(verdict.output.len() < 4096 + 200, "{} bytes", verdict.output.len());
    println!("{}", lines[2]);
    let grown = resident().saturating_sub(before);
    assert!(grown < 16 << 20, "grown by {grown} bytes");
    running.stop().await;
    eventually("every flood is gone", || processes_with(&marker(5)) == 0).await;
}
