//! `kv export` and `kv import`: many keys as one JSON list.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use bytes::Bytes;
use clap::Args;
use serde::{Deserialize, Serialize};

use super::client::Client;
use super::error::Error;
use super::input;
use super::print::{self, Out};
use super::remote::QueryArgs;
use super::target::Target;
use super::value::{decode, key};

/// An import is held in memory, so that a fault anywhere in it is found before the first key is written.
const IMPORT_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// A line of progress each so many keys: a single writer does some thousand a second.
const PROGRESS_KEYS: usize = 500;

#[derive(Args, Debug)]
pub(crate) struct Export {
    /// Only keys that begin with this.
    #[arg(value_name = "PREFIX", default_value = "")]
    prefix: String,

    #[command(flatten)]
    query: QueryArgs,
}

#[derive(Args, Debug)]
pub(crate) struct Import {
    /// Write all keys under this prefix.
    #[arg(long, value_name = "PREFIX", default_value = "")]
    prefix: String,

    /// The export itself, @FILE for a file's content, or - for standard input.
    #[arg(value_name = "DATA")]
    data: OsString,

    #[command(flatten)]
    query: QueryArgs,
}

/// A key as an export has it.
#[derive(Debug, Deserialize, Serialize)]
struct Entry {
    #[serde(alias = "Key")]
    key: String,
    #[serde(alias = "Flags", default)]
    flags: u64,
    #[serde(alias = "Value", default)]
    value: Option<String>,
}

impl Export {
    pub(crate) async fn run(self, out: &mut Out) -> Result<(), Error> {
        let target = self.query.reading(Target::at("/v1/kv/").name(key(&self.prefix)?)).with("recurse");
        let mut begun = false;
        Client::new(&self.query.agent)?
            .each(&target, |entry: Entry| {
                out.bytes(if std::mem::replace(&mut begun, true) { b",\n" } else { b"[\n" })?;
                let key = serde_json::to_string(&entry.key).map_err(|source| Error::Output { source: source.into() })?;
                let value = entry.value.unwrap_or_default(); // base64 needs no escapes
                let flags = entry.flags;
                let text = format!("\t{{\n\t\t\"key\": {key},\n\t\t\"flags\": {flags},\n\t\t\"value\": \"{value}\"\n\t}}");
                out.bytes(text.as_bytes())
            })
            .await?;
        out.bytes(if begun { b"\n]\n" } else { b"[]\n" })
    }
}

impl Import {
    pub(crate) async fn run(self, out: &mut Out) -> Result<(), Error> {
        let pairs = self.pairs()?;
        let mut client = Client::new(&self.query.agent)?;
        let shows = print::stderr_is_terminal() && !out.is_live();
        let total = pairs.len();
        for (at, (key, flags, value)) in pairs.into_iter().enumerate() {
            let mut target = self.query.writing(Target::at("/v1/kv/").name(&key));
            if flags != 0 {
                target = target.param("flags", &flags.to_string());
            }
            let written: bool = client
                .put(&target, value)
                .await
                .and_then(|answer| answer.json())
                .inspect_err(|_| print::note(format_args!("{at} of {total} keys were imported; {key} was not")))?;
            if !written {
                return Err(Error::NotDone(format!("Did not write to {key}; {at} of {total} keys were imported")));
            }
            out.line(format_args!("Imported: {key}"))?;
            if shows && (at + 1) % PROGRESS_KEYS == 0 {
                print::progress(format_args!("{} of {total} keys", at + 1));
            }
        }
        if shows && total >= PROGRESS_KEYS {
            print::progress(format_args!("{total} of {total} keys\n"));
        }
        Ok(())
    }

    fn pairs(&self) -> Result<Vec<(String, u64, Bytes)>, Error> {
        let data = match self.data.as_bytes() {
            b"-" => input::stdin(IMPORT_BYTES_MAX)?,
            [b'@', path @ ..] => input::file(Path::new(OsStr::from_bytes(path)), IMPORT_BYTES_MAX)?,
            _ => self.data.clone().into_vec(),
        };
        let entries: Vec<Entry> =
            serde_json::from_slice(&data).map_err(|error| Error::Usage(format!("The import is no list of keys: {error}")))?;
        entries
            .into_iter()
            .map(|entry| {
                let name = under(&self.prefix, &entry.key);
                key(&name)?;
                let value = decode(&name, entry.value.unwrap_or_default().as_bytes())?;
                Ok((name, entry.flags, Bytes::from(value)))
            })
            .collect()
    }
}

/// A prefix is a folder: a slash stands between it and the key.
fn under(prefix: &str, key: &str) -> String {
    match prefix {
        "" => key.to_owned(),
        prefix if prefix.ends_with('/') => format!("{prefix}{key}"),
        prefix => format!("{prefix}/{key}"),
    }
}
