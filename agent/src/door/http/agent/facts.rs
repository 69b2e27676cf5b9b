//! What the door knows of its own agent besides the desk.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::config::Config;
use crate::telemetry::Metrics;

/// What the assembly tells the door of the agent; exchanged at reload.
#[derive(Debug)]
pub(crate) struct AgentFacts {
    config: ArcSwap<Config>,
    metrics: Metrics,
    version: watch::Sender<u64>,
}

impl AgentFacts {
    pub(crate) fn new(config: Config, metrics: Metrics) -> Self {
        Self { config: ArcSwap::from_pointee(config), metrics, version: watch::Sender::new(0) }
    }

    /// Takes what a reload brought.
    pub(crate) fn configure(&self, config: Config) {
        self.config.store(Arc::new(config));
        self.version.send_modify(|version| *version += 1);
    }

    /// Rises with each reload.
    pub(in crate::door::http) fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    pub(in crate::door::http) fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}
