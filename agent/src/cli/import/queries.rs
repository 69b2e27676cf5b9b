//! Prepared queries, by their names: their ids are made anew.

use bytes::Bytes;
use http::Method;
use serde_json::{Map, Value};

use super::super::client::Client;
use super::super::error::Error;
use super::super::target::Target;
use super::{Fate, Import, Report, fate, kept, list, text};

const FIELDS: [&str; 4] = ["Name", "Template", "Service", "DNS"];

/// A query as it can be compared: what is said in its parts, on all levels.
fn said(query: &Value) -> Map<String, Value> {
    fn thin(value: &Value) -> Value {
        match value {
            Value::Object(all) => {
                let fields: Vec<&str> = all.keys().map(String::as_str).collect();
                let thinned: Map<String, Value> = all.iter().map(|(name, value)| (name.clone(), thin(value))).collect();
                Value::Object(kept(&Value::Object(thinned), &fields))
            }
            other => other.clone(),
        }
    }
    kept(&thin(query), &FIELDS)
}

pub(super) async fn import(from: &mut Client, to: &mut Client, import: &Import, report: &mut Report) -> Result<(), Error> {
    let theirs = list(from, Target::at("/v1/query")).await?;
    let ours = list(to, Target::at("/v1/query")).await?;
    for query in &theirs {
        let (name, wanted) = (text(query, "Name"), said(query));
        let shown = if name.is_empty() { text(query, "ID") } else { name };
        if !text(query, "Session").is_empty() {
            report.note("query", shown, Fate::Left, "it ends with a session of Consul's");
            continue;
        }
        let here = ours.iter().find(|row| if name.is_empty() { said(row) == wanted } else { text(row, "Name") == name });
        let fate = fate(&wanted, here.map(said), import.force);
        let why = match fate {
            Fate::Differs => "it is another one here",
            Fate::Create if name.is_empty() => "under another id",
            _ => "",
        };
        report.note("query", shown, fate, why);
        if import.dry_run || !matches!(fate, Fate::Create | Fate::Change) {
            continue;
        }
        let body = Bytes::from(serde_json::to_vec(&wanted).map_err(|source| Error::Output { source: source.into() })?);
        let (method, target) = match here {
            Some(row) => (Method::PUT, Target::at("/v1/query/").name(text(row, "ID"))),
            None => (Method::POST, Target::at("/v1/query")),
        };
        if let Err(error) = to.ask(method, &target, body).await?.done() {
            report.failed("query", shown, fate, error.to_string());
        }
    }
    Ok(())
}
