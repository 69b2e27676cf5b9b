//! The log as it is written, for those who listen to it over the API.
#![allow(clippy::disallowed_methods)] // each line has its time

use std::fmt::{self, Write as _};
use std::io;
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::SystemTime;

use bytes::Bytes;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::mpsc;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Layer};

use super::error::TelemetryError;
use super::levels::targets;

/// Lines that a listener may be behind (Consul's); further ones are not told to it, and it is told how many.
const LINES_MAX: usize = 512;
/// Who may listen at once: each makes every line longer to write.
const LISTENERS_MAX: usize = 16;

static TAP: Mutex<Vec<Listener>> = Mutex::new(Vec::new());
/// Sets what reaches the tap at all.
static OPEN: OnceLock<Box<dyn Fn(Targets) + Send + Sync>> = OnceLock::new();

struct Listener {
    number: u64,
    wants: Targets,
    level: LevelFilter,
    json: bool,
    lines: mpsc::Sender<io::Result<Bytes>>,
    missed: u64,
}

/// Lines as they are written; dropping it ends them.
pub(crate) type Lines = mpsc::Receiver<io::Result<Bytes>>;

fn listeners() -> MutexGuard<'static, Vec<Listener>> {
    TAP.lock().expect("no holder panics: lines are written into memory")
}

/// The tap is put beside the log; `open` sets what reaches it.
pub(super) fn install(open: impl Fn(Targets) + Send + Sync + 'static) {
    let _ = OPEN.set(Box::new(open)); // A second log in one process, in tests, has no listeners.
}

/// Listens from a level on. With the lines comes what is to be called once they are not wanted any more.
pub(crate) fn listen(level: &str, json: bool) -> Result<(Lines, Tapped), TelemetryError> {
    let wants = targets(level)?;
    let level = wants.default_level().unwrap_or(LevelFilter::INFO);
    let (lines, reader) = mpsc::channel(LINES_MAX);
    let mut all = listeners();
    if all.len() >= LISTENERS_MAX {
        return Err(TelemetryError::Crowded);
    }
    let number = all.iter().map(|listener| listener.number).max().map_or(0, |number| number + 1);
    all.push(Listener { number, wants, level, json, lines: lines.clone(), missed: 0 });
    reopen(all);
    Ok((reader, Tapped { number, lines }))
}

/// Somebody listens.
pub(crate) struct Tapped {
    number: u64,
    lines: mpsc::Sender<io::Result<Bytes>>,
}

impl Tapped {
    /// Returns when the listener has gone.
    pub(crate) async fn gone(&self) {
        self.lines.closed().await;
    }
}

impl Drop for Tapped {
    fn drop(&mut self) {
        let mut all = listeners();
        all.retain(|listener| listener.number != self.number);
        reopen(all);
    }
}

/// What reaches the tap is what the most curious wants. The lock is given back first: whoever logs holds others.
fn reopen(all: MutexGuard<'static, Vec<Listener>>) {
    let most = all.iter().max_by_key(|listener| listener.level).map(|listener| listener.wants.clone());
    drop(all);
    if let Some(open) = OPEN.get() {
        open(most.unwrap_or_default());
    }
}

/// The layer that hears events.
pub(super) struct Tap;

impl<S: Subscriber> Layer<S> for Tap {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let meta = event.metadata();
        let mut all = listeners();
        let mut made: [Option<Bytes>; 2] = [None, None];
        for listener in all.iter_mut().filter(|listener| listener.wants.would_enable(meta.target(), meta.level())) {
            let line = made[usize::from(listener.json)].get_or_insert_with(|| written(event, listener.json)).clone();
            if listener.missed > 0 {
                let word = format!("[WARN] {} lines were not sent: the reader is too slow\n", listener.missed);
                if listener.lines.try_send(Ok(word.into())).is_err() {
                    listener.missed += 1;
                    continue;
                }
                listener.missed = 0;
            }
            if listener.lines.try_send(Ok(line)).is_err() {
                listener.missed += 1;
            }
        }
    }
}

#[derive(Default)]
struct Said {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let (mut text, mut below) = (value.to_string(), value.source());
        while let Some(error) = below {
            let _ = write!(text, ": {error}"); // a String takes everything
            below = error.source();
        }
        self.put(field, text);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

impl Said {
    fn put(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            name => self.fields.push((name, value)),
        }
    }
}

/// As Consul's lines look.
fn written(event: &Event<'_>, json: bool) -> Bytes {
    let mut said = Said::default();
    event.record(&mut said);
    let now = OffsetDateTime::from(SystemTime::now());
    let now = now.replace_millisecond(now.millisecond()).unwrap_or(now).format(&Rfc3339).unwrap_or_default();
    let (level, module) = (event.metadata().level(), event.metadata().target());
    if json {
        let mut object = serde_json::Map::new();
        object.insert("@level".to_owned(), level.as_str().to_ascii_lowercase().into());
        object.insert("@message".to_owned(), said.message.into());
        object.insert("@module".to_owned(), module.into());
        object.insert("@timestamp".to_owned(), now.into());
        object.extend(said.fields.into_iter().map(|(name, value)| (name.to_owned(), value.into())));
        return format!("{}\n", serde_json::Value::Object(object)).into();
    }
    let gap = if matches!(*level, Level::INFO | Level::WARN) { " " } else { "" };
    let mut line = format!("{now} [{level}] {gap}{module}: {}", said.message);
    for (name, value) in said.fields {
        let _ = write!(line, " {name}={value}"); // a String takes everything
    }
    line.push('\n');
    line.into()
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn a_listener_hears_its_level_and_a_slow_one_is_told_what_it_missed() {
        let subscriber = tracing_subscriber::Registry::default().with(Tap);
        tracing::subscriber::with_default(subscriber, || {
            let (mut lines, _tapped) = listen("warn", false).unwrap();
            let (mut objects, _also) = listen("debug", true).unwrap();
            tracing::info!(target: "tap::test", "not for the first");
            tracing::warn!(target: "tap::test", node = "n1", "for both");
            let line = lines.try_recv().unwrap().unwrap();
            let text = String::from_utf8(line.to_vec()).unwrap();
            assert!(text.ends_with(" [WARN]  tap::test: for both node=n1\n"), "{text}");
            let object: serde_json::Value = serde_json::from_slice(&objects.try_recv().unwrap().unwrap()).unwrap();
            assert_eq!((&object["@level"], &object["@message"]), (&"info".into(), &"not for the first".into()));
            for _ in 0..LINES_MAX + 3 {
                tracing::error!(target: "tap::test", "flood");
            }
            while lines.try_recv().is_ok() {}
            tracing::error!(target: "tap::test", "after");
            let word = lines.try_recv().unwrap().unwrap();
            assert!(word.starts_with(b"[WARN] 3 lines"), "{word:?}");
        });
        assert!(listen("loud", false).is_err());
    }
}
