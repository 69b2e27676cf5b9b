//! The one future that runs all checks, and the handle through which they are told.
#![allow(clippy::disallowed_methods)] // the shell reads the clock for the core

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use muster_catalog::{CheckDefinition, CheckId, Status};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::Instant;

use crate::error::Error;
use crate::metrics::Meters;
use crate::probe::{self, AgentTls, Tls, Tools};
use crate::roll::{Bounds, Roll, Start};
use crate::verdict::{Outcome, Verdict};

/// Connections that probes hold at once, unless the agent says otherwise: 2,000 checks of 10 s of which half time out after
/// 2.5 s need 250; each costs a descriptor and some 20 KB. When all are taken, checks wait in the order they were due.
pub const SOCKETS_MAX: usize = 512;
/// Programs that run at once, unless the agent says otherwise: they share the host with what they look at.
pub const EXECS_MAX: usize = 64;
/// Room the channel for verdicts should have: a burst while the agent holds its lock. When it is full, checks wait for it.
pub const RESULTS_MAX: usize = 1024;

/// How checks are run.
#[derive(Debug, Clone)]
pub struct Config {
    /// Connections at once; and as many datagrams that wait for an answer.
    pub sockets_max: usize,
    /// Programs at once.
    pub execs_max: usize,
    /// Where the spread of first runs starts; another one on each agent, or they knock together.
    pub seed: u64,
    /// TLS of this agent, with which checks over TLS introduce themselves; without it they trust the system's roots and are nobody.
    pub tls: Option<AgentTls>,
    /// Where the container engine listens, as `DOCKER_HOST` has it; empty is the usual socket.
    pub docker_host: String,
    /// The program that speaks with the service manager; empty is `systemctl` of the path.
    pub systemctl: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            sockets_max: SOCKETS_MAX,
            execs_max: EXECS_MAX,
            seed: 0,
            tls: None,
            docker_host: String::new(),
            systemctl: String::new(),
        }
    }
}

/// A runner without checks. Verdicts go to `results`.
pub fn new(config: Config, results: mpsc::Sender<Verdict>) -> (Handle, Driver) {
    let bounds = Bounds { sockets_max: config.sockets_max.max(1), execs_max: config.execs_max.max(1) };
    let roll = Roll::new(bounds, SmallRng::seed_from_u64(config.seed));
    let shared = Arc::new(Shared { roll: Mutex::new(roll), changed: Notify::new() });
    let tls = config.tls.map(Tls::of_agent).unwrap_or_default();
    let tools = Tools { tls, docker_host: config.docker_host, systemctl: config.systemctl, ..Tools::default() };
    let driver = Driver { shared: shared.clone(), results, tools };
    (Handle { shared }, driver)
}

#[derive(Debug)]
struct Shared {
    roll: Mutex<Roll>,
    changed: Notify,
}

impl Shared {
    fn roll(&self) -> MutexGuard<'_, Roll> {
        // Each change of the roll is whole between two locks; a holder that panicked left a check without a run at worst.
        self.roll.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the driver which checks there are. What it does counts when the call returns.
#[derive(Debug, Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    /// Looks after a check from now on, in place of what was known under its id: a run of that is broken off, its counters
    /// start anew. Told again exactly as it was, it goes on as it is. `generation` comes back in its verdicts. An alias is
    /// accepted and needs no looking after: see [`crate::alias`].
    pub fn set(&self, definition: CheckDefinition, generation: u64) {
        self.shared.roll().set(definition, generation, now());
        self.shared.changed.notify_one();
    }

    /// Forgets a check and breaks off its run. A verdict of it may still be in the channel.
    pub fn remove(&self, check: &CheckId) {
        self.shared.roll().remove(check);
        self.shared.changed.notify_one();
    }

    /// Takes a report of a TTL check: its time starts anew. The verdict is the caller's to apply; it is not sent to the channel.
    pub fn report(&self, check: &CheckId, status: Status, output: String) -> Result<Verdict, Error> {
        let verdict = self.shared.roll().report(check, status, output, now());
        self.shared.changed.notify_one();
        verdict
    }
}

/// Runs the checks.
#[derive(Debug)]
pub struct Driver {
    shared: Arc<Shared>,
    results: mpsc::Sender<Verdict>,
    tools: Tools,
}

impl Driver {
    /// Runs checks until `shutdown` comes or nobody takes verdicts any more; then what runs is broken off and killed.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let mut runs = Runs {
            shared: self.shared,
            results: self.results,
            tools: Arc::new(self.tools),
            tasks: JoinSet::new(),
            checks: HashMap::new(),
            aborts: HashMap::new(),
            meters: Meters::new(),
        };
        let mut shutdown = pin!(shutdown);
        tokio::select! {
            () = &mut shutdown => {}
            () = runs.turn() => {}
        }
        runs.tasks.shutdown().await;
        runs.meters.running.set(0.0);
    }
}

/// What runs now.
struct Runs {
    shared: Arc<Shared>,
    results: mpsc::Sender<Verdict>,
    tools: Arc<Tools>,
    tasks: JoinSet<Ran>,
    /// The check of each task.
    checks: HashMap<Id, Arc<CheckDefinition>>,
    /// The task of each check that runs.
    aborts: HashMap<CheckId, AbortHandle>,
    meters: Meters,
}

struct Ran {
    outcome: Option<Outcome>,
    took: Duration,
}

impl Runs {
    /// Each turn starts what is due, then waits for the next thing to happen. Ends when nobody takes verdicts any more.
    async fn turn(&mut self) {
        loop {
            let (expired, starts, next) = self.plan();
            for start in starts {
                self.start(start);
            }
            self.meters.running.set(self.tasks.len() as f64);
            for verdict in expired {
                self.meters.expired.increment(1);
                if self.results.send(verdict).await.is_err() {
                    return;
                }
            }
            let next = next.map(Instant::from_std);
            let ended = tokio::select! {
                ended = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => ended,
                () = self.shared.changed.notified() => None,
                () = sleep_until(next) => None,
            };
            if let Some(verdict) = ended.and_then(|ended| self.ended(ended))
                && self.results.send(verdict).await.is_err()
            {
                return;
            }
        }
    }

    /// What is to be done now, and when next if nothing happens before.
    fn plan(&mut self) -> (Vec<Verdict>, Vec<Start>, Option<std::time::Instant>) {
        let now = now();
        let mut roll = self.shared.roll();
        for check in roll.unwanted() {
            if let Some(abort) = self.aborts.get(&check) {
                abort.abort();
            }
        }
        let expired = std::iter::from_fn(|| roll.expire(now)).collect();
        let starts = std::iter::from_fn(|| roll.start(now)).collect();
        (expired, starts, roll.next())
    }

    fn start(&mut self, start: Start) {
        self.meters.lag.record(start.late);
        let (definition, tools) = (start.definition.clone(), self.tools.clone());
        let abort = self.tasks.spawn(async move {
            let begun = Instant::now();
            let outcome = probe::look(&definition, &tools).await;
            Ran { outcome, took: begun.elapsed() }
        });
        self.checks.insert(abort.id(), start.definition.clone());
        self.aborts.insert(start.definition.id.clone(), abort);
    }

    fn ended(&mut self, ended: Result<(Id, Ran), JoinError>) -> Option<Verdict> {
        let (id, ran) = match ended {
            Ok((id, ran)) => (id, Some(ran)),
            Err(error) => {
                if error.is_panic() {
                    tracing::error!(%error, "a probe panicked: its check keeps its status");
                }
                (error.id(), None)
            }
        };
        let definition = self.checks.remove(&id)?;
        self.aborts.remove(&definition.id);
        let outcome = ran.and_then(|ran| {
            let outcome = ran.outcome?;
            self.meters.ran(&definition.probe, &outcome.status, ran.took);
            tracing::debug!(check = %definition.id, status = %outcome.status, took = ?ran.took, "a check ran");
            Some(outcome)
        });
        self.shared.roll().ended(&definition.id, outcome, now())
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}
