//! The log in files (`log_file`): a new one after so long or so many bytes, old ones removed.
#![allow(clippy::disallowed_methods)] // files are named after the time at which they were begun, and last for a time

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What a directory's file is called, as Consul calls it.
const DEFAULT_NAME: &str = "consul.log";
/// Who may read it, as Consul's.
const MODE: u32 = 0o640;

/// Where the log goes besides stderr.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogFileConfig {
    /// A file, of which each one is named after the time at which it was begun; or a directory, with a slash at its end.
    pub(crate) path: PathBuf,
    /// A new file is begun after this long.
    pub(crate) duration: Duration,
    /// A new file is begun after this many bytes; 0 is never.
    pub(crate) bytes: u64,
    /// Old files kept; `None` is all.
    pub(crate) files: Option<usize>,
}

/// The file that is written, and what it has.
#[derive(Debug)]
pub(super) struct LogFile {
    config: LogFileConfig,
    dir: PathBuf,
    /// Before and behind the time in a file's name.
    name: (String, String),
    file: File,
    begun: Instant,
    written: u64,
    /// Whether the last line could not be written: it is said once.
    troubled: bool,
}

impl LogFile {
    /// Begins a file.
    pub(super) fn open(config: LogFileConfig) -> io::Result<Self> {
        let (dir, name) = match config.path.file_name() {
            Some(name) if !config.path.as_os_str().as_encoded_bytes().ends_with(b"/") => {
                (config.path.parent().unwrap_or(Path::new("")), Path::new(name))
            }
            _ => (config.path.as_path(), Path::new(DEFAULT_NAME)),
        };
        let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let end = name.extension().map_or_else(|| "log".to_owned(), |end| end.to_string_lossy().into_owned());
        let name = (format!("{}-", text(name.file_stem())), format!(".{end}"));
        let dir = if dir.as_os_str().is_empty() { PathBuf::from(".") } else { dir.to_owned() };
        let file = begin(&dir, &name)?;
        let log = Self { config, dir, name, file, begun: Instant::now(), written: 0, troubled: false };
        Ok(log)
    }

    /// Writes a line. What cannot be written is lost, and stderr hears of it once.
    pub(super) fn line(&mut self, line: &[u8]) {
        let wrote = self.rotate_if_due().and_then(|()| self.file.write_all(line));
        match wrote {
            Ok(()) => {
                self.written += line.len() as u64;
                self.troubled = false;
            }
            Err(error) if !self.troubled => {
                self.troubled = true;
                let _ = writeln!(io::stderr(), "muster: the log file cannot be written, lines are lost: {error}");
            }
            Err(_) => {}
        }
    }

    fn rotate_if_due(&mut self) -> io::Result<()> {
        let full = self.config.bytes > 0 && self.written >= self.config.bytes;
        if !full && self.begun.elapsed() < self.config.duration {
            return Ok(());
        }
        // The files before the one that begins now are the old ones.
        let old = self.old_files();
        self.file = begin(&self.dir, &self.name)?;
        (self.begun, self.written) = (Instant::now(), 0);
        if let Some(kept) = self.config.files {
            for path in old.iter().take(old.len().saturating_sub(kept)) {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Files of this log, oldest first.
    fn old_files(&self) -> Vec<PathBuf> {
        let time = |name: &str| -> Option<u128> {
            name.strip_prefix(self.name.0.as_str())?.strip_suffix(self.name.1.as_str())?.parse().ok()
        };
        let entries = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let mut files: Vec<_> = entries.filter_map(|entry| Some((time(entry.file_name().to_str()?)?, entry.path()))).collect();
        files.sort();
        files.into_iter().map(|(_, path)| path).collect()
    }
}

fn begin(dir: &Path, (before, behind): &(String, String)) -> io::Result<File> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let path = dir.join(format!("{before}{}{behind}", now.as_nanos()));
    OpenOptions::new().create(true).append(true).mode(MODE).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(path: PathBuf) -> LogFileConfig {
        LogFileConfig { path, duration: Duration::from_secs(3600), bytes: 0, files: None }
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_full_file_is_followed_by_another_and_so_many_old_ones_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("agent-note.txt"), "mine").unwrap();
        std::fs::write(dir.path().join("agent-12.txt"), "of a former run").unwrap();
        let mut log = LogFile::open(LogFileConfig { bytes: 10, files: Some(2), ..config(dir.path().join("agent.txt")) }).unwrap();
        for line in 0..6 {
            log.line(format!("line {line} of six\n").as_bytes());
        }
        let names = names(dir.path());
        assert_eq!(names.len(), 4, "{names:?}"); // one is written, two are kept, one is not of the log
        let texts: Vec<_> = names[..3].iter().map(|name| std::fs::read_to_string(dir.path().join(name)).unwrap()).collect();
        assert_eq!(texts, ["line 3 of six\n", "line 4 of six\n", "line 5 of six\n"]);
    }

    #[test]
    fn a_directory_gets_files_of_consuls_name_and_none_is_kept_if_so_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = PathBuf::from(format!("{}/", dir.path().display()));
        let mut log = LogFile::open(LogFileConfig { duration: Duration::ZERO, files: Some(0), ..config(path) }).unwrap();
        log.line(b"one\n");
        log.line(b"two\n");
        let names = names(dir.path());
        assert!(names.len() == 1 && names[0].starts_with("consul-") && names[0].ends_with(".log"), "{names:?}");
        assert!(LogFile::open(config("/no/such/dir/x".into())).is_err());
    }

    #[test]
    fn what_cannot_be_written_harms_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("own");
        std::fs::create_dir(&own).unwrap();
        let mut log = LogFile::open(LogFileConfig { bytes: 1, ..config(own.join("a.log")) }).unwrap();
        log.line(b"one\n");
        std::fs::remove_dir_all(&own).unwrap();
        log.line(b"lost\n");
        std::fs::create_dir(&own).unwrap();
        log.line(b"back\n");
        assert_eq!(std::fs::read_to_string(own.join(&names(&own)[0])).unwrap(), "back\n");
    }
}
