//! What the door knows of its own agent besides the desk.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::Config;
use crate::telemetry::Metrics;

/// What the assembly tells the door of the agent; exchanged at reload.
#[derive(Debug)]
pub(crate) struct AgentFacts {
    config: ArcSwap<Config>,
    metrics: Metrics,
}

impl AgentFacts {
    pub(crate) fn new(config: Config, metrics: Metrics) -> Self {
        Self { config: ArcSwap::from_pointee(config), metrics }
    }

    /// Takes what a reload brought.
    pub(crate) fn configure(&self, config: Config) {
        self.config.store(Arc::new(config));
    }

    pub(in crate::door::http) fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}
