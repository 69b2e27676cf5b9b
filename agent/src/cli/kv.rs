//! `kv get|put|delete`: single keys and prefixes of the key-value store.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use bytes::Bytes;
use clap::{Args, Subcommand};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::client::Client;
use super::error::Error;
use super::input;
use super::print::{Format, Out};
use super::remote::QueryArgs;
use super::target::Target;
use super::transfer::{Export, Import};
use super::value::{decode, key};

/// The API refuses larger values in any sensible setting (`kv_max_value_size` is 512 KiB); this only keeps a slip from filling memory.
const VALUE_BYTES_MAX: usize = 64 * 1024 * 1024;

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Print the value of a key, or the keys and values under a prefix
    Get(Get),
    /// Write a value
    Put(Put),
    /// Remove a key, or all keys under a prefix
    Delete(Delete),
    /// Print all keys under a prefix as JSON that `kv import` reads
    Export(Export),
    /// Write all keys of an export
    Import(Import),
}

#[derive(Args, Debug)]
pub(crate) struct Get {
    /// Print values in base64.
    #[arg(long)]
    base64: bool,

    /// Print indexes, flags and session too.
    #[arg(long)]
    detailed: bool,

    /// Print the keys under the prefix, without values.
    #[arg(long)]
    keys: bool,

    /// Print all keys under the prefix with their values.
    #[arg(long)]
    recurse: bool,

    /// With -keys: print up to the first of these after the prefix, and that once.
    #[arg(long, default_value = "/", value_name = "TEXT")]
    separator: String,

    /// For people or for programs; JSON always has values in base64, as the API does.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,

    /// The key, or with -keys or -recurse the prefix (without it: all keys).
    #[arg(value_name = "KEY_OR_PREFIX", required_unless_present_any = ["keys", "recurse"])]
    key: Option<String>,

    #[command(flatten)]
    query: QueryArgs,
}

#[derive(Args, Debug)]
pub(crate) struct Put {
    /// The value is given in base64.
    #[arg(long)]
    base64: bool,

    /// Write only if the key's index is still that of -modify-index.
    #[arg(long, requires = "modify_index")]
    cas: bool,

    /// With -cas: the ModifyIndex that was seen; 0 writes only where there is no key yet.
    #[arg(long, requires = "cas", value_name = "INDEX")]
    modify_index: Option<u64>,

    /// A number kept with the key, for the writer's own use.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    flags: u64,

    /// Take the key's lock for -session.
    #[arg(long, requires = "session", conflicts_with_all = ["cas", "release"])]
    acquire: bool,

    /// Give the key's lock back from -session.
    #[arg(long, requires = "session", conflicts_with = "cas")]
    release: bool,

    /// The session for -acquire and -release.
    #[arg(long, value_name = "ID")]
    session: Option<String>,

    #[arg(value_name = "KEY")]
    key: String,

    /// The value itself, @FILE for a file's content, or - for standard input. Without it: empty.
    #[arg(value_name = "VALUE")]
    value: Option<OsString>,

    #[command(flatten)]
    query: QueryArgs,
}

#[derive(Args, Debug)]
pub(crate) struct Delete {
    /// Remove only if the key's index is still that of -modify-index.
    #[arg(long, requires = "modify_index", conflicts_with = "recurse")]
    cas: bool,

    /// With -cas: the ModifyIndex that was seen.
    #[arg(long, requires = "cas", value_name = "INDEX")]
    modify_index: Option<u64>,

    /// Remove all keys that begin with the given text; without any, all keys.
    #[arg(long)]
    recurse: bool,

    #[arg(value_name = "KEY_OR_PREFIX", required_unless_present = "recurse")]
    key: Option<String>,

    #[command(flatten)]
    query: QueryArgs,
}

/// A key with its value, as the API gives it.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Pair {
    lock_index: u64,
    key: String,
    flags: u64,
    /// Base64; `null` where the value is empty.
    value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    create_index: u64,
    modify_index: u64,
}

impl Command {
    pub(crate) async fn run(self, out: &mut Out) -> Result<(), Error> {
        match self {
            Command::Get(get) => get.run(out).await,
            Command::Put(put) => put.run(out).await,
            Command::Delete(delete) => delete.run(out).await,
            Command::Export(export) => export.run(out).await,
            Command::Import(import) => import.run(out).await,
        }
    }
}

impl Get {
    async fn run(self, out: &mut Out) -> Result<(), Error> {
        let key = key(self.key.as_deref().unwrap_or_default())?;
        let mut client = Client::new(&self.query.agent)?;
        let target = self.query.reading(Target::at("/v1/kv/").name(key));
        if self.keys {
            self.names(&mut client, target.with("keys").param("separator", &self.separator), out).await
        } else if self.recurse {
            self.pairs(&mut client, target.with("recurse"), out).await
        } else {
            self.one(&mut client, &target, key, out).await
        }
    }

    async fn names(&self, client: &mut Client, target: Target, out: &mut Out) -> Result<(), Error> {
        let mut names: Vec<String> = Vec::new();
        client
            .each(&target, |name: String| match self.format {
                Format::Pretty => out.line(name),
                Format::Json => {
                    names.push(name);
                    Ok(())
                }
            })
            .await?;
        if self.format == Format::Json { out.json(&names) } else { Ok(()) }
    }

    async fn pairs(&self, client: &mut Client, target: Target, out: &mut Out) -> Result<(), Error> {
        let mut list = JsonList::default();
        let mut first = true;
        client
            .each(&target, |pair: Pair| match self.format {
                Format::Json => list.push(&pair, out),
                Format::Pretty if self.detailed => {
                    if !std::mem::take(&mut first) {
                        out.bytes(b"\n")?;
                    }
                    self.details(&pair, out)
                }
                Format::Pretty => {
                    out.bytes(pair.key.as_bytes())?;
                    out.bytes(b":")?;
                    out.bytes(&self.shown(&pair)?)?;
                    out.bytes(b"\n")
                }
            })
            .await?;
        if self.format == Format::Json { list.end(out) } else { Ok(()) }
    }

    async fn one(&self, client: &mut Client, target: &Target, key: &str, out: &mut Out) -> Result<(), Error> {
        let answer = client.get(target).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Err(Error::NoKey(key.to_owned()));
        }
        let pairs: Vec<Pair> = answer.json()?;
        let Some(pair) = pairs.into_iter().next() else { return Err(Error::NoKey(key.to_owned())) };
        match self.format {
            Format::Json => out.json(&pair),
            Format::Pretty if self.detailed => self.details(&pair, out),
            Format::Pretty => {
                out.bytes(&self.shown(&pair)?)?;
                out.bytes(b"\n")
            }
        }
    }

    fn details(&self, pair: &Pair, out: &mut Out) -> Result<(), Error> {
        let session = pair.session.as_deref().filter(|session| !session.is_empty()).unwrap_or("-");
        out.line(format_args!("CreateIndex      {}", pair.create_index))?;
        out.line(format_args!("Flags            {}", pair.flags))?;
        out.line(format_args!("Key              {}", pair.key))?;
        out.line(format_args!("LockIndex        {}", pair.lock_index))?;
        out.line(format_args!("ModifyIndex      {}", pair.modify_index))?;
        out.line(format_args!("Session          {session}"))?;
        let value = self.shown(pair)?;
        out.bytes(if value.is_empty() { b"Value" } else { b"Value            " })?;
        out.bytes(&value)?;
        out.bytes(b"\n")
    }

    fn shown(&self, pair: &Pair) -> Result<Vec<u8>, Error> {
        let value = pair.value.clone().unwrap_or_default();
        if self.base64 { Ok(value.into_bytes()) } else { decode(&pair.key, value.as_bytes()) }
    }
}

impl Put {
    async fn run(self, out: &mut Out) -> Result<(), Error> {
        let key = key(&self.key)?;
        if key.is_empty() {
            return Err(Error::Usage("The key is empty".to_owned()));
        }
        let value = value(self.value.as_deref())?;
        let value = if self.base64 { decode(key, value.trim_ascii())? } else { value };
        let mut target = self.query.writing(Target::at("/v1/kv/").name(key));
        if self.flags != 0 {
            target = target.param("flags", &self.flags.to_string());
        }
        if let Some(index) = self.modify_index {
            target = target.param("cas", &index.to_string());
        }
        if let Some(session) = &self.session {
            target = match (self.acquire, self.release) {
                (true, _) => target.param("acquire", session),
                (_, true) => target.param("release", session),
                _ => return Err(Error::Usage("-session needs -acquire or -release beside it".to_owned())),
            };
        }
        let written: bool = Client::new(&self.query.agent)?.put(&target, Bytes::from(value)).await?.json()?;
        match (written, self.acquire || self.release) {
            (true, _) if self.acquire => out.line(format_args!("Success! Lock acquired on: {key}")),
            (true, _) if self.release => out.line(format_args!("Success! Lock released on: {key}")),
            (true, _) => out.line(format_args!("Success! Data written to: {key}")),
            (false, true) => {
                Err(Error::NotDone(format!("Did not write to {key}: the lock is held by another session, or not by this one")))
            }
            (false, false) => Err(Error::NotDone(format!("Did not write to {key}: CAS failed"))),
        }
    }
}

impl Delete {
    async fn run(self, out: &mut Out) -> Result<(), Error> {
        let key = key(self.key.as_deref().unwrap_or_default())?;
        let mut target = self.query.writing(Target::at("/v1/kv/").name(key));
        if self.recurse {
            target = target.with("recurse");
        }
        if let Some(index) = self.modify_index {
            target = target.param("cas", &index.to_string());
        }
        let deleted: bool = Client::new(&self.query.agent)?.delete(&target).await?.json()?;
        match (deleted, self.recurse) {
            (true, true) => out.line(format_args!("Success! Deleted keys with prefix: {key}")),
            (true, false) => out.line(format_args!("Success! Deleted key: {key}")),
            (false, _) => Err(Error::NotDone(format!("Did not delete key {key}: CAS failed"))),
        }
    }
}

/// A JSON list that is printed as it grows, a key a line.
#[derive(Debug, Default)]
struct JsonList {
    begun: bool,
}

impl JsonList {
    fn push(&mut self, pair: &Pair, out: &mut Out) -> Result<(), Error> {
        out.bytes(if std::mem::replace(&mut self.begun, true) { b",\n    " } else { b"[\n    " })?;
        let text = serde_json::to_string(pair).map_err(|source| Error::Output { source: source.into() })?;
        out.bytes(text.as_bytes())
    }

    fn end(self, out: &mut Out) -> Result<(), Error> {
        out.bytes(if self.begun { b"\n]\n" } else { b"[]\n" })
    }
}

fn value(written: Option<&OsStr>) -> Result<Vec<u8>, Error> {
    let Some(written) = written else { return Ok(Vec::new()) };
    match written.as_bytes() {
        b"-" => input::stdin(VALUE_BYTES_MAX),
        [b'@', path @ ..] => input::file(Path::new(OsStr::from_bytes(path)), VALUE_BYTES_MAX),
        _ => Ok(written.to_owned().into_vec()),
    }
}
