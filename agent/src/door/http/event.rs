//! `/v1/event`: what is told to all agents, and the last of it.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue, Method};
use serde_json::{Value, json};
use smol_str::SmolStr;
use uuid::Uuid;

use super::Door;
use super::call::{Answering, Call, Handler, Route};
use super::error::HttpError;
use super::options::hold;
use super::reply::Reply;
use crate::desk::{Order, UserEvent};

pub(super) const ROUTES: &[Route] = &[
    Route { path: "/v1/event/fire/", methods: &[(Method::PUT, Handler::Soon(fire))], namespaced: false },
    Route { path: "/v1/event/list", methods: &[(Method::GET, Handler::Soon(list))], namespaced: false },
];

/// Longest payload that is read: what is longer than a few hundred bytes is refused for what it is.
const PAYLOAD_BYTES_MAX: usize = 64 << 10;
/// How long a reader of the list waits that does not say (Consul's).
const WAIT: Duration = Duration::from_secs(600);

const INDEX: HeaderName = HeaderName::from_static("x-consul-index");

fn shown(event: &UserEvent) -> Value {
    let payload = (!event.payload.is_empty()).then(|| STANDARD.encode(&event.payload));
    json!({
        "ID": event.id.to_string(),
        "Name": event.name.as_str(),
        "Payload": payload,
        "NodeFilter": event.node_filter.as_str(),
        "ServiceFilter": event.service_filter.as_str(),
        "TagFilter": event.tag_filter.as_str(),
        "Version": 1,
        "LTime": event.time,
    })
}

/// `PUT fire/<name>`.
fn fire(door: Arc<Door>, call: Call) -> Answering {
    Box::pin(async move {
        let Call { rest: name, query, body, who, .. } = call;
        if name.is_empty() {
            return Err(HttpError::BadRequest("Missing name".into()));
        }
        if query.filled("dc").is_some_and(|dc| dc != door.datacenter()) {
            return Err(HttpError::Server("No path to datacenter".into()));
        }
        let filter = |name: &str| query.filled(name).cloned().unwrap_or_default();
        let event = UserEvent {
            id: Uuid::new_v4(),
            name,
            node_filter: filter("node"),
            service_filter: filter("service"),
            tag_filter: filter("tag"),
            payload: body.read(PAYLOAD_BYTES_MAX, "the limit of an event").await?,
            time: 0,
        };
        let answer = shown(&event).to_string();
        door.desk.obey(&who, Order::Fire(Box::new(event))).await?;
        Ok(Reply::json(answer))
    })
}

/// `GET list`: waits while its index is the one that was seen, for it is no position.
fn list(door: Arc<Door>, call: Call) -> Answering {
    Box::pin(async move {
        let (seen, asked) = hold(&door, &call.query)?;
        let wait = if call.query.filled("wait").is_some() { asked } else { WAIT };
        let name: SmolStr = call.query.filled("name").cloned().unwrap_or_default();
        drop(call);
        let mut news = door.desk.events().news();
        let found = |news: &mut tokio::sync::watch::Receiver<u64>| {
            news.borrow_and_update();
            let events = door.desk.events().list(&name);
            let index = events.last().map_or(1, |event| event.index());
            (events, index)
        };
        let (mut events, mut index) = found(&mut news);
        let mut over = std::pin::pin!(tokio::time::sleep(wait));
        let mut stopping = std::pin::pin!(door.desk.stopping());
        while seen > 0 && index == seen {
            tokio::select! {
                changed = news.changed() => if changed.is_err() { break },
                () = &mut over => break,
                () = &mut stopping => break,
            }
            (events, index) = found(&mut news);
        }
        let shown: Vec<Value> = events.iter().map(|event| shown(event)).collect();
        Ok(Reply::json(Value::Array(shown).to_string()).with_header(INDEX, HeaderValue::from(index)))
    })
}
