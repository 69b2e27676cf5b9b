//! How busy raft is, how old its log is, and how long ago its followers were heard: told every other second.
#![allow(clippy::disallowed_methods)] // shares and ages are told by the clock

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ::metrics::Histogram;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::{Instant as _, ServerState};
use tokio::runtime::Handle;

use super::log::LastLog;
use super::machine::Engine;
use super::metrics::{self, Busy};

/// How often it is told: some values for each interval of ten seconds.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// Tells shares of the time between two looks.
struct Share {
    told: Histogram,
    before: Duration,
}

impl Share {
    fn new(name: &'static str) -> Self {
        Self { told: ::metrics::histogram!(name), before: Duration::ZERO }
    }

    fn tell(&mut self, busy: Duration, took: Duration) {
        let spent = busy.saturating_sub(std::mem::replace(&mut self.before, busy));
        self.told.record((spent.as_secs_f64() / took.as_secs_f64()).min(1.0));
    }
}

/// Runs as long as raft does, on its thread: it is this runtime whose time is told.
pub(super) async fn tell(engine: Engine, log: LastLog, fsm: Busy) {
    let mut at = Instant::now();
    let runtime = Handle::current().metrics();
    let (mut main_share, mut fsm_share) = (Share::new(metrics::MAIN_SATURATION), Share::new(metrics::FSM_SATURATION));
    let (age, contact) = (::metrics::gauge!(metrics::OLDEST_LOG_AGE), ::metrics::histogram!(metrics::LAST_CONTACT));
    loop {
        tokio::time::sleep(TELL_EVERY).await;
        let took = at.elapsed();
        at += took;
        main_share.tell(runtime.worker_total_busy_duration(0), took);
        fsm_share.tell(fsm.get(), took);
        if let Some(oldest) = log.oldest() {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            age.set((now.as_millis() as f64 - oldest as f64).max(0.0));
        }
        if let Some(ago) = last_contact(&engine) {
            contact.record(ago.as_secs_f64() * 1e3);
        }
    }
}

/// How long ago a majority was heard; only on a leader that has followers.
fn last_contact(engine: &Engine) -> Option<Duration> {
    let metrics = engine.metrics();
    let metrics = metrics.borrow_watched();
    let followed = metrics.state == ServerState::Leader && metrics.membership_config.membership().voter_ids().nth(1).is_some();
    metrics.last_quorum_acked.filter(|_| followed).map(|at| at.elapsed())
}
