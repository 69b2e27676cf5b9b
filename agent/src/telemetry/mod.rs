//! How the agent is watched: its logs, its metrics, and what it tells about its process and host.

mod catalog;
mod error;
mod host;
mod levels;
mod load;
mod logfile;
mod logs;
mod metrics;
mod names;
mod process;
mod syslog;
mod tap;

pub(crate) use catalog::publish_catalog;
pub(crate) use error::TelemetryError;
pub(crate) use host::host_report;
pub(crate) use logfile::LogFileConfig;
pub(crate) use logs::LogsConfig;
pub(crate) use metrics::{Filter, Metrics, MetricsConfig, SinkConfig, SinkKind};
pub(crate) use tap::listen;

use logs::Logs;

/// What of the configuration concerns logs and metrics.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) logs: LogsConfig,
    pub(crate) metrics: MetricsConfig,
}

/// Both ways to watch the agent, installed for the whole process.
#[derive(Debug)]
pub(crate) struct Telemetry {
    logs: Logs,
    metrics: Metrics,
}

/// Installs logs and metrics for the whole process: once, before anything logs or takes a handle.
pub(crate) fn start(config: Config) -> Result<Telemetry, TelemetryError> {
    let logs = Logs::install(&config.logs)?;
    let metrics = Metrics::install(config.metrics)?;
    Ok(Telemetry { logs, metrics })
}

impl Telemetry {
    /// Logs this level and what is worse from now on.
    pub(crate) fn set_level(&self, level: &str) -> Result<(), TelemetryError> {
        self.logs.set_level(level)
    }

    /// The metrics, to ask for them and to keep them up.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}
