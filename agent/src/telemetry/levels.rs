//! What is heard at which level.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

use super::error::TelemetryError;

/// Dependencies whose debug lines tell about themselves, not about the cluster: they are heard from `warn` on, unless
/// everything is asked for.
const QUIET: [&str; 8] = ["openraft", "redb", "hyper", "hyper_util", "h2", "rustls", "hickory_proto", "mio"];

/// Parts of raft that warn of each message that did not arrive, ten times a second for each peer that is out of reach. Which
/// servers are missing, and since when, is told once elsewhere; these are heard from `debug` on.
const REPEATING: [&str; 3] =
    ["openraft::core::heartbeat", "openraft::replication", "openraft::engine::handler::replication_handler"];

/// What is heard of whom from this level on.
pub(super) fn targets(level: &str) -> Result<Targets, TelemetryError> {
    let level = match level.to_ascii_lowercase().as_str() {
        "trace" => LevelFilter::TRACE,
        "debug" => LevelFilter::DEBUG,
        "info" => LevelFilter::INFO,
        "warn" | "warning" => LevelFilter::WARN,
        "error" | "err" => LevelFilter::ERROR,
        _ => return Err(TelemetryError::UnknownLevel(level.to_owned())),
    };
    let quiet = if level == LevelFilter::TRACE { level } else { level.min(LevelFilter::WARN) };
    let calm = if level >= LevelFilter::DEBUG { quiet } else { level.min(LevelFilter::ERROR) };
    let targets = Targets::new().with_default(level).with_targets(QUIET.map(|target| (target, quiet)));
    Ok(targets.with_targets(REPEATING.map(|target| (target, calm))))
}
