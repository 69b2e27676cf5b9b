//! The log at the host's syslog (`enable_syslog`): a datagram a line, never waited for.
#![allow(clippy::disallowed_methods)] // lines to syslog begin with their time

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;
use time::format_description::StaticFormatDescription;
use time::macros::format_description;
use tracing::Level;

/// Where syslog listens.
pub(super) const SOCKET: &str = "/dev/log";
/// Longest message: what every syslog takes (RFC 5424 6.1). The rest of a line is cut.
const MESSAGE_BYTES_MAX: usize = 2048;
/// RFC 3164's time, in UTC.
const TIME: StaticFormatDescription = format_description!("[month repr:short] [day padding:space] [hour]:[minute]:[second]");

/// The way to syslog.
#[derive(Debug)]
pub(super) struct Syslog {
    socket: UnixDatagram,
    path: PathBuf,
    facility: u8,
}

impl Syslog {
    pub(super) fn open(path: &Path, facility: u8) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, path: path.to_owned(), facility })
    }

    /// Sends a line. Where nobody listens, or who listens is behind, it is lost.
    pub(super) fn line(&self, level: Level, line: &[u8]) {
        let severity = match level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        let time = OffsetDateTime::now_utc().format(TIME).unwrap_or_default();
        let mut message = format!("<{}>{time} muster[{}]: ", self.facility * 8 + severity, std::process::id()).into_bytes();
        message.extend_from_slice(line.trim_ascii_end());
        message.truncate(MESSAGE_BYTES_MAX);
        let _ = self.socket.send_to(&message, &self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_datagram_of_its_facility_and_severity() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let syslog = Syslog::open(&path, 16).unwrap();
        syslog.line(Level::INFO, b"nobody listens\n");
        let listener = UnixDatagram::bind(&path).unwrap();
        syslog.line(Level::WARN, b"somebody does\n");
        let mut buffer = [0; 4096];
        let length = listener.recv(&mut buffer).unwrap();
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        assert!(text.starts_with("<132>") && text.ends_with(&format!("muster[{}]: somebody does", std::process::id())), "{text}");
        syslog.line(Level::ERROR, &[b'x'; 10_000]);
        assert_eq!(listener.recv(&mut buffer).unwrap(), MESSAGE_BYTES_MAX);
        // Who does not read holds up nobody: its queue is full soon.
        for _ in 0..1000 {
            syslog.line(Level::INFO, b"more\n");
        }
    }
}
