//! The agent about itself: who it is, what it was configured to be, its figures.

use serde_json::{Value, json};

use super::super::call::{Answer, Call};
use super::super::reply::Reply;
use super::super::{Door, near};
use super::{debug, go_json, members, stats};
use crate::config::{CONSUL_VERSION, Config, MUSTER_VERSION};
use crate::desk::Member;

/// Builds are to be the same whenever they are made, so none knows when it was made; Consul's own stand-in for that.
const BUILD_DATE: &str = "1970-01-01T00:00:01Z";

/// `GET self`.
pub(super) fn this(door: &Door, _: &Call) -> Answer {
    let config = door.facts.config();
    let about = json!({
        "Datacenter": config.datacenter,
        "PrimaryDatacenter": config.primary_datacenter,
        "NodeName": config.node_name.as_str(),
        "NodeID": door.desk.id().to_string(),
        "Revision": "",
        "Server": config.server,
        "Version": CONSUL_VERSION,
        "BuildDate": BUILD_DATE,
        "Muster": MUSTER_VERSION,
    });
    let mut out = Vec::with_capacity(4096);
    let parts: [(&str, &Value); 3] =
        [("{\"Config\":", &about), (",\"DebugConfig\":", &debug::all(&config)), (",\"Coord\":", &coordinate(door, &config))];
    for (name, part) in parts {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(&go_json(part));
    }
    out.extend_from_slice(b",\"Member\":");
    match door.desk.cluster().own() {
        Some(own) => members::show(&mut out, &own),
        None => members::show(&mut out, &Member::of(&config, door.desk.id())),
    }
    out.extend_from_slice(b",\"Stats\":");
    out.extend_from_slice(&go_json(&stats::all(door, &config)));
    out.extend_from_slice(b",\"Meta\":");
    out.extend_from_slice(&go_json(&meta(door, &config)));
    out.push(b'}');
    Ok(Reply::json(out))
}

/// `GET version`.
pub(super) fn version(_: &Door, _: &Call) -> Answer {
    let version = json!({
        "SHA": "",
        "BuildDate": BUILD_DATE,
        "HumanVersion": CONSUL_VERSION,
        "FIPS": "",
        "Muster": MUSTER_VERSION,
    });
    Ok(Reply::json(go_json(&version)))
}

/// Where this node is; `null` where no distances are measured.
fn coordinate(door: &Door, config: &Config) -> Value {
    if config.disable_coordinates {
        return Value::Null;
    }
    near::shown(&near::own(door))
}

/// The node's meta data as the catalog has it; as configured until then.
fn meta(door: &Door, config: &Config) -> Value {
    let state = door.desk.reader().load();
    match state.node(door.desk.name().as_str()) {
        Some(row) => json!(row.meta),
        None => {
            let mut meta = config.node_meta.clone();
            meta.insert("consul-network-segment".into(), "".into());
            json!(meta)
        }
    }
}
