//! The log on stderr, and in files and at syslog if so said: text or JSON, at a level that a reload can change.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use tracing::{Level, Metadata, Subscriber, subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::{Registry, fmt, reload};

use super::error::TelemetryError;
use super::levels::targets;
use super::logfile::{LogFile, LogFileConfig};
use super::syslog::{SOCKET, Syslog};
use super::tap;

/// How the log looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogsConfig {
    /// `trace`, `debug`, `info`, `warn` (`warning`) or `error` (`err`), in any case.
    pub(crate) level: String,
    /// JSON lines instead of text.
    pub(crate) json: bool,
    /// Files that it goes to as well.
    pub(crate) file: Option<LogFileConfig>,
    /// The facility of syslog as which it goes there as well.
    pub(crate) syslog: Option<u8>,
}

/// Where lines go.
struct Outlets {
    file: Option<Mutex<LogFile>>,
    syslog: Option<Syslog>,
}

/// The outlets at a line of some level.
struct Outlet<'a> {
    to: &'a Outlets,
    level: Level,
}

impl Outlets {
    fn open(config: &LogsConfig) -> Result<Self, TelemetryError> {
        let file = config.file.clone().map(|file| {
            let name = file.path.display().to_string();
            LogFile::open(file).map(Mutex::new).map_err(|error| TelemetryError::Outlet(name, error))
        });
        let open = |facility| Syslog::open(Path::new(SOCKET), facility);
        let syslog =
            config.syslog.map(|facility| open(facility).map_err(|error| TelemetryError::Outlet(SOCKET.to_owned(), error)));
        Ok(Self { file: file.transpose()?, syslog: syslog.transpose()? })
    }
}

impl<'a> MakeWriter<'a> for Outlets {
    type Writer = Outlet<'a>;

    fn make_writer(&'a self) -> Outlet<'a> {
        Outlet { to: self, level: Level::INFO }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Outlet<'a> {
        Outlet { to: self, level: *meta.level() }
    }
}

impl Write for Outlet<'_> {
    /// Takes a whole line: that is how lines are written.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(file) = &self.to.file {
            file.lock().unwrap_or_else(PoisonError::into_inner).line(line);
        }
        if let Some(syslog) = &self.to.syslog {
            syslog.line(self.level, line);
        }
        io::stderr().write_all(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// The installed log.
#[derive(Debug)]
pub(crate) struct Logs {
    level: reload::Handle<Targets, Registry>,
}

impl Logs {
    /// Sends the whole process' log to stderr and its other outlets, in colours only if a terminal is all there is.
    pub(super) fn install(config: &LogsConfig) -> Result<Self, TelemetryError> {
        let outlets = Outlets::open(config)?;
        let colours = outlets.file.is_none() && outlets.syslog.is_none() && io::stderr().is_terminal();
        let (logs, subscriber) = Self::new(config, outlets, colours)?;
        subscriber::set_global_default(subscriber).map_err(|_| TelemetryError::Installed("logs"))?;
        Ok(logs)
    }

    fn new<W>(config: &LogsConfig, writer: W, colours: bool) -> Result<(Self, impl Subscriber + Send + Sync), TelemetryError>
    where
        W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
    {
        let (filter, level) = reload::Layer::new(targets(&config.level)?);
        let lines = fmt::layer().with_writer(writer).with_ansi(colours && !config.json);
        let lines = match config.json {
            true => lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed(),
            false => lines.boxed(),
        };
        let (heard, open) = reload::Layer::new(Targets::new());
        tap::install(move |wanted| drop(open.reload(wanted)));
        let layers = vec![lines.with_filter(filter).boxed(), tap::Tap.with_filter(heard).boxed()];
        Ok((Self { level }, Registry::default().with(layers)))
    }

    /// Logs this level and what is worse from now on.
    pub(super) fn set_level(&self, level: &str) -> Result<(), TelemetryError> {
        let targets = targets(level)?;
        // It fails only when the subscriber is gone, and then nobody logs.
        let _ = self.level.reload(targets);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Page {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: &str, json: bool, speak: impl FnOnce(&Logs)) -> String {
        let page = Page::default();
        let writer = page.clone();
        let config = LogsConfig { level: level.to_owned(), json, file: None, syslog: None };
        let (logs, subscriber) = Logs::new(&config, move || writer.clone(), false).unwrap();
        subscriber::with_default(subscriber, || speak(&logs));
        page.text()
    }

    #[test]
    fn a_new_level_takes_effect_at_once() {
        let text = logged("INFO", false, |logs| {
            tracing::debug!("before");
            logs.set_level("debug").unwrap();
            tracing::debug!("between");
            logs.set_level("ERR").unwrap();
            tracing::warn!("after");
            tracing::error!(node = "n1", "worst");
        });
        assert!(!text.contains("before") && text.contains("between") && !text.contains("after"), "{text}");
        assert!(text.contains("ERROR") && text.contains("worst node=\"n1\""), "{text}");
        assert!(!text.contains('\u{1b}'), "no colours: {text}");
    }

    #[test]
    fn dependencies_are_heard_from_warn_on_unless_everything_is_asked_for() {
        let speak = |_: &Logs| {
            tracing::info!(target: "openraft::core", "vote");
            tracing::warn!(target: "openraft::core", "lost");
            tracing::info!("ours");
        };
        let text = logged("debug", false, speak);
        assert!(!text.contains("vote") && text.contains("lost") && text.contains("ours"), "{text}");
        assert!(logged("trace", false, speak).contains("vote"));
        assert_eq!(logged("error", false, speak), "");
    }

    #[test]
    fn a_peer_out_of_reach_fills_no_log() {
        let speak = |_: &Logs| tracing::warn!(target: "openraft::core::heartbeat::worker", "no answer");
        assert_eq!(logged("info", false, speak), "");
        assert!(logged("debug", false, speak).contains("no answer"));
    }

    #[test]
    fn json_is_one_object_a_line_with_its_fields_beside_the_message() {
        let text = logged("info", true, |_| tracing::info!(service = "web", "registered"));
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!((&line["level"], &line["message"], &line["service"]), (&"INFO".into(), &"registered".into(), &"web".into()));
        assert!(line["timestamp"].is_string(), "{line}");
    }

    #[test]
    fn an_unknown_level_is_refused_and_changes_nothing() {
        let text = logged("info", false, |logs| {
            let error = logs.set_level("loud").unwrap_err().to_string();
            assert!(error.contains("\"loud\"") && error.contains("debug"), "{error}");
            tracing::info!("still here");
        });
        assert!(text.contains("still here"));
    }
}
