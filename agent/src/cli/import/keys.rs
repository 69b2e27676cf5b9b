//! Keys with their flags: what is not here is created, what differs is left unless it is to be replaced.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::client::Client;
use super::super::error::Error;
use super::super::target::Target;
use super::super::value::key;
use super::batch::{Batch, Write};
use super::{Fate, Import, Report, text};

/// What is to be written is held in memory until all of Consul's keys have been read.
const BYTES_MAX: usize = 1024 * 1024 * 1024;

/// What an operation costs beside key and value.
const AROUND_BYTES: usize = 128;

struct Here {
    flags: u64,
    index: u64,
    value: String,
}

fn number(row: &Value, field: &str) -> u64 {
    row[field].as_u64().unwrap_or(0)
}

pub(super) async fn import(
    from: &mut Client,
    to: &mut Client,
    import: &Import,
    batch: &mut Batch,
    report: &mut Report,
) -> Result<(), Error> {
    let target = Target::at("/v1/kv/").name(key(&import.prefix)?).with("recurse");
    let mut here = BTreeMap::new();
    let note = |row: Value| {
        let seen =
            Here { flags: number(&row, "Flags"), index: number(&row, "ModifyIndex"), value: text(&row, "Value").to_owned() };
        here.insert(text(&row, "Key").to_owned(), seen);
        Ok(())
    };
    to.each(&target, note).await?;
    let mut writes = Vec::new();
    let mut bytes = 0;
    let take = |row: Value| {
        let (name, value, flags) = (text(&row, "Key"), text(&row, "Value"), number(&row, "Flags"));
        let (fate, index) = match here.get(name) {
            None => (Fate::Create, 0),
            Some(seen) if seen.flags == flags && seen.value == value => (Fate::Equal, 0),
            Some(seen) if import.force => (Fate::Change, seen.index),
            Some(_) => (Fate::Differs, 0),
        };
        if !matches!(fate, Fate::Create | Fate::Change) {
            report.note("key", name, fate, if fate == Fate::Differs { "other value or flags here" } else { "" });
            return Ok(());
        }
        let size = name.len() + value.len() + AROUND_BYTES;
        bytes += size;
        if bytes > BYTES_MAX {
            return Err(Error::Usage("These are more than 1 GiB of keys; import them in parts, by -prefix".to_owned()));
        }
        let op = json!({ "KV": { "Verb": "cas", "Key": name, "Value": value, "Flags": flags, "Index": index } });
        writes.push(Write { kind: "key", name: name.to_owned(), fate, op, bytes: size });
        Ok(())
    };
    from.each(&target, take).await?;
    for write in writes {
        batch.push(write, to, report).await?;
    }
    Ok(())
}
