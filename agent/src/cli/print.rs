//! Standard output and standard error of a command, where a reader that went away is no failure.

use std::fmt::Display;
use std::io::{self, BufWriter, ErrorKind, IsTerminal, StdoutLock, Write};

use serde::Serialize;

use super::error::Error;

/// For people or for programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Tables and sentences.
    #[default]
    Pretty,
    /// The API's own JSON, indented.
    Json,
}

/// Standard output, locked and buffered for the whole command.
pub(crate) struct Out {
    to: BufWriter<StdoutLock<'static>>,
    live: bool,
}

impl Out {
    pub(crate) fn new() -> Out {
        let to = io::stdout().lock();
        let live = to.is_terminal();
        Out { to: BufWriter::new(to), live }
    }

    /// Whether a person watches each line as it comes.
    pub(crate) fn is_live(&self) -> bool {
        self.live
    }

    pub(crate) fn line(&mut self, text: impl Display) -> Result<(), Error> {
        writeln!(self.to, "{text}").map_err(fault)?;
        if self.live { self.flush() } else { Ok(()) }
    }

    /// Bytes as they are: a value may hold anything.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.to.write_all(bytes).map_err(fault)
    }

    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Error> {
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
        value
            .serialize(&mut serde_json::Serializer::with_formatter(&mut self.to, formatter))
            .map_err(|error| fault(error.into()))?;
        self.bytes(b"\n")
    }

    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        self.to.flush().map_err(fault)
    }
}

/// A line on standard error. There is nobody left to tell when that fails.
pub(crate) fn note(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Writes over the last line of a terminal on standard error.
pub(crate) fn progress(text: impl Display) {
    let mut to = io::stderr().lock();
    let _ = write!(to, "\r{text}");
    let _ = to.flush();
}

pub(crate) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

fn fault(source: io::Error) -> Error {
    match source.kind() {
        ErrorKind::BrokenPipe => Error::Closed,
        _ => Error::Output { source },
    }
}
