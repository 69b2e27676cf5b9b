//! What can go wrong while the ways to watch the agent are set up.

/// Nothing was changed, whichever it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TelemetryError {
    /// No such level; whoever wrote it can mend it.
    #[error("unknown log level {0:?}: one of trace, debug, info, warn, error is right")]
    UnknownLevel(String),
    /// So many listen to the log already; later may do.
    #[error("too many listen to the log already")]
    Crowded,
    /// The file or socket that the log is to go to besides stderr; whoever wrote its name can mend it.
    #[error("logs cannot go to {0}")]
    Outlet(String, #[source] std::io::Error),
    /// Logs or metrics were installed before in this process: a fault of the program.
    #[error("{0} are installed already")]
    Installed(&'static str),
}
