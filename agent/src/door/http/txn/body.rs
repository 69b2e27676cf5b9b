//! The body of a transaction.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use muster_catalog::{Fault, Index, Kv, KvVerb, Look, Node, NodeName, Op};
use serde_json::Value;

use super::super::catalog::register;
use super::super::decode::Object;
use super::super::error::HttpError;
use super::super::kv::check_key;
use super::super::session;

/// Operations in one transaction, as Consul's.
const OPS_MAX: usize = 128;

/// What a transaction is to do.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) ops: Vec<Op>,
    /// Whether any of it is a write, whatever comes of that.
    pub(super) writes: bool,
    /// What is found out before anything is tried: then nothing is.
    pub(super) faults: Vec<Fault>,
}

/// One operation, as it was told.
struct One {
    op: Op,
    writes: bool,
}

/// Why an operation is not tried, in Consul's words.
type Asked = Result<One, String>;

/// Reads it: a list of operations, `null` for none; what follows on the list is not looked at.
pub(super) fn read(body: &[u8], value_bytes_max: usize, check_keys: bool) -> Result<Told, HttpError> {
    let list = match serde_json::Deserializer::from_slice(body).into_iter::<Value>().next() {
        None => return Err(unparsed("EOF")),
        Some(Err(error)) => return Err(unparsed(&error.to_string())),
        Some(Ok(Value::Null)) => Vec::new(),
        Some(Ok(Value::Array(list))) => list,
        Some(Ok(_)) => return Err(unparsed("json: cannot unmarshal it into a list of operations")),
    };
    let count = list.len();
    let mut told = Told { ops: Vec::new(), writes: false, faults: Vec::new() };
    let mut all = Vec::new();
    for value in list {
        all.extend(one(value, value_bytes_max, check_keys)?);
    }
    if count > OPS_MAX {
        return Err(HttpError::TooMuch(format!("Transaction contains too many operations ({count} > {OPS_MAX})")));
    }
    for (at, (asked, writes)) in all.into_iter().enumerate() {
        told.writes |= writes;
        match asked {
            Ok(One { op, writes }) => {
                told.writes |= writes;
                told.ops.push(op);
            }
            Err(what) => told.faults.push(Fault { at, what }),
        }
    }
    Ok(told)
}

fn unparsed(what: &str) -> HttpError {
    HttpError::BadRequest(format!("Failed to parse body: {what}"))
}

/// The same fault, of this body.
fn reword(error: HttpError) -> HttpError {
    match error {
        HttpError::Decode(what) => unparsed(&what),
        error => error,
    }
}

/// An operation and whether it is a write even if it cannot be tried; `None` where none is named.
fn one(value: Value, value_bytes_max: usize, check_keys: bool) -> Result<Option<(Asked, bool)>, HttpError> {
    let read = || -> Result<Option<(Asked, bool)>, HttpError> {
        let mut object = Object::of(value, "operation")?;
        let (kv, node) = (object.object("KV")?, object.object("Node")?);
        let (service, check) = (object.object("Service")?, object.object("Check")?);
        object.finish()?;
        // All that is there must be right; the first of them counts.
        let mut all = Vec::new();
        all.extend(kv.map(|told| key(told, value_bytes_max, check_keys)).transpose()?);
        all.extend(node.map(self::node).transpose()?);
        all.extend(service.map(self::service).transpose()?);
        all.extend(check.map(self::check).transpose()?);
        Ok(all.into_iter().next())
    };
    read().map_err(reword)
}

fn count(object: &mut Object, name: &str) -> Result<u64, HttpError> {
    match object.take(name) {
        None => Ok(0),
        Some(value) => value
            .as_u64()
            .ok_or_else(|| HttpError::Decode(format!("json: cannot unmarshal {value} into field {name} of type uint64"))),
    }
}

fn key(mut object: Object, value_bytes_max: usize, check_keys: bool) -> Result<(Asked, bool), HttpError> {
    let (verb, key) = (object.text("Verb")?, object.text("Key")?);
    let value = object.text("Value")?;
    let (flags, index) = (count(&mut object, "Flags")?, count(&mut object, "Index")?);
    let session = object.text("Session")?;
    object.finish()?;
    let value = STANDARD.decode(value.as_bytes()).map_err(|error| HttpError::Decode(format!("illegal base64 data: {error}")))?;
    if value.len() > value_bytes_max {
        let text = format!("Value for key {key:?} is too large ({} > {value_bytes_max} bytes)", value.len());
        return Err(HttpError::TooMuch(text));
    }
    let value = bytes::Bytes::from(value);
    let write = |verb: KvVerb| Op::Kv(Kv { key: key.clone(), verb });
    let look = |look: Look| Op::Key { key: key.clone(), look };
    let op = match verb.as_str() {
        "set" => write(KvVerb::Set { value, flags, cas: None }),
        "cas" => write(KvVerb::Set { value, flags, cas: Some(index) }),
        "delete" => write(KvVerb::Delete { cas: None }),
        "delete-cas" => write(KvVerb::Delete { cas: Some(index) }),
        "delete-tree" => write(KvVerb::DeleteTree),
        "lock" | "unlock" if session.is_empty() => Op::Refused("missing session".into()),
        "lock" => match session::id(&session) {
            Ok(Some(session)) => write(KvVerb::Acquire { value, flags, session }),
            Ok(None) => Op::Refused(format!("invalid session {session:?}")),
            Err(what) => Op::Refused(what),
        },
        "unlock" => match session::id(&session) {
            Ok(Some(session)) => write(KvVerb::Release { value, flags, session }),
            _ => Op::Refused(format!("failed to unlock key {key:?}, lock isn't held, or is held by another session")),
        },
        "get" => look(Look::Get),
        "get-or-empty" => look(Look::GetOrEmpty),
        "get-tree" => look(Look::GetTree),
        "check-index" => look(Look::CheckIndex(index)),
        "check-session" => look(Look::CheckSession(session)),
        "check-not-exists" => look(Look::CheckNotExists),
        verb => Op::Refused(format!("unknown KV verb {verb:?}")),
    };
    let writes = matches!(verb.as_str(), "set" | "cas" | "lock" | "unlock" | "delete" | "delete-cas" | "delete-tree");
    let asked = if key.is_empty() && verb != "delete-tree" {
        Err("Must provide key".to_owned())
    } else if check_keys && matches!(verb.as_str(), "set" | "cas" | "lock") {
        check_key(&key).map(|()| One { op, writes }).map_err(|error| error.to_string())
    } else {
        Ok(One { op, writes })
    };
    Ok((asked, writes))
}

/// The index that a verb with a condition expects.
fn expected(verb: &str, index: Index) -> Option<Index> {
    verb.ends_with("cas").then_some(index)
}

fn node(mut object: Object) -> Result<(Asked, bool), HttpError> {
    let verb = object.text("Verb")?;
    let told = object.object("Node")?;
    object.finish()?;
    let mut told = told.unwrap_or_default();
    let (id, name) = (told.text("ID")?, told.text("Node")?);
    let index = count(&mut told, "ModifyIndex")?;
    let address = told.text("Address")?;
    let (tagged_addresses, meta) = (told.pairs("TaggedAddresses")?, told.pairs("Meta")?);
    told.ignore(&["Datacenter", "CreateIndex", "PeerName", "Locality"]);
    told.finish()?;
    let writes = verb != "get";
    let asked = || {
        if !writes {
            return Ok(Op::GetNode(id, name));
        }
        if name.is_empty() {
            return Err("Must provide node".to_owned());
        }
        let id = register::node_id(&id).map_err(|error| error.to_string())?;
        let cas = expected(&verb, index);
        match verb.as_str() {
            "set" | "cas" => {
                let about = Node { id, address, tagged_addresses, meta };
                Ok(Op::SetNode(NodeName::new(&name).map_err(|error| format!("Invalid node name: {error}"))?, about, cas))
            }
            "delete" | "delete-cas" => Ok(Op::DeleteNode(name, cas)),
            verb => Ok(Op::Refused(format!("unknown Node verb {verb:?}"))),
        }
    };
    Ok((asked().map(|op| One { op, writes }), writes))
}

fn service(mut object: Object) -> Result<(Asked, bool), HttpError> {
    let (verb, node) = (object.text("Verb")?, object.text("Node")?);
    let told = object.object("Service")?;
    object.finish()?;
    let mut told = told.unwrap_or_default();
    let index = count(&mut told, "ModifyIndex")?;
    told.ignore(&["ContentHash", "Datacenter"]);
    let told = register::service(told)?;
    let writes = verb != "get";
    let asked = || {
        let id = if told.id.is_empty() { told.name.clone() } else { told.id.clone() };
        if !writes {
            return Ok(Op::GetService(node, told.id));
        }
        if !told.id.is_empty() && told.name.is_empty() {
            return Err("Must provide service name with ID".to_owned());
        }
        let address = &told.service.address;
        if address.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
            return Err("Invalid service address".to_owned());
        }
        let cas = expected(&verb, index);
        match verb.as_str() {
            "set" | "cas" => match told.into_service().map_err(|error| error.to_string())? {
                Some(service) => Ok(Op::SetService(node, service, cas)),
                None => Ok(Op::Refused("failed inserting service: object missing primary index".into())),
            },
            "delete" | "delete-cas" => Ok(Op::DeleteService(node, id, cas)),
            verb => Ok(Op::Refused(format!("unknown Service verb {verb:?}"))),
        }
    };
    Ok((asked().map(|op| One { op, writes }), writes))
}

fn check(mut object: Object) -> Result<(Asked, bool), HttpError> {
    let verb = object.text("Verb")?;
    let told = object.object("Check")?;
    object.finish()?;
    let mut told = told.unwrap_or_default();
    let index = count(&mut told, "ModifyIndex")?;
    let told = register::check(told)?;
    let writes = verb != "get";
    let asked = || {
        let node = told.node.clone();
        let id = if told.id.is_empty() { told.check.name.clone() } else { told.id.clone() };
        if !writes {
            return Ok(Op::GetCheck(node, told.id));
        }
        let cas = expected(&verb, index);
        match verb.as_str() {
            "set" | "cas" if id.is_empty() => Ok(Op::Refused("failed inserting check: object missing primary index".into())),
            "set" | "cas" => {
                Ok(Op::SetCheck(node.clone(), told.into_check(&node).map_err(|error| error.to_string())?.value, cas))
            }
            "delete" | "delete-cas" => Ok(Op::DeleteCheck(node, id, cas)),
            verb => Ok(Op::Refused(format!("unknown Check verb {verb:?}"))),
        }
    };
    Ok((asked().map(|op| One { op, writes }), writes))
}
