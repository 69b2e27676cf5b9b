//! What a fuzzer may throw at the HTTP door: filters, paths and queries, bodies.

use smol_str::SmolStr;

use super::decode::Object;
use super::filter::{Filter, Rows};
use super::path;
use super::query::Query;
use super::txn;
use crate::config::{check_from_body, service_from_body, update_from_body};

/// A filter, of each kind of rows.
pub fn filter(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let text = SmolStr::new(text);
    for rows in [Rows::Nodes, Rows::ServiceNodes, Rows::Services, Rows::Health, Rows::Checks, Rows::Members, Rows::Sessions] {
        drop(Filter::read(Some(&text), rows));
    }
}

/// A path, and behind a question mark a query.
pub fn http(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (raw, query) = text.split_once('?').unwrap_or((text, ""));
    let decoded = path::decode(raw);
    if path::is_plain(raw) {
        let as_written = decoded.as_deref() == Ok(raw) && path::is_printable(raw) && path::clean(raw).is_none();
        assert!(as_written, "one pass says of a plain path what three say");
    }
    if let Ok(path) = decoded {
        path::is_printable(&path);
        if let Some(clean) = path::clean(&path) {
            assert!(path::clean(&clean).is_none(), "a clean path stays as it is");
        }
        assert_eq!(path::decode(&path::escape(&path)), Ok(path), "what is escaped comes back");
    }
    if let Some(query) = Query::parse(query) {
        drop(query.encoded());
    }
}

/// A body: of a service, a check, an update, a transaction, an object.
pub fn body(bytes: &[u8]) {
    let limits = crate::config::DefinitionLimits { output_bytes_max: 4096, scripts: true };
    drop(service_from_body(bytes, limits));
    drop(check_from_body(bytes, limits));
    drop(update_from_body(bytes));
    txn::fuzz(bytes);
    drop(Object::parse(bytes));
}
