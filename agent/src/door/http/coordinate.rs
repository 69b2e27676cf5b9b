//! `/v1/coordinate`: where nodes are in the space of round trips.

use std::sync::Arc;

use http::{Method, StatusCode};
use muster_catalog::{CauseKind, Command, Coordinate, Coordinates, DIMENSIONS, NodeName, Outcome, Placed};
use serde_json::{Value, json};

use super::Door;
use super::agent::go_json;
use super::call::{Answering, Call, Handler, Route};
use super::decode::Object;
use super::error::HttpError;
use super::near::{own, shown};
use super::options::{Family, ReadOptions, read};
use super::reply::Reply;
use crate::desk::{Consistency, Standing};

const fn route(path: &'static str, methods: &'static [(Method, Handler)]) -> Route {
    Route { path, methods, namespaced: false }
}

pub(super) const ROUTES: &[Route] = &[
    route("/v1/coordinate/datacenters", &[(Method::GET, Handler::Soon(datacenters))]),
    route("/v1/coordinate/nodes", &[(Method::GET, Handler::Soon(nodes))]),
    route("/v1/coordinate/node/", &[(Method::GET, Handler::Soon(node))]),
    route("/v1/coordinate/update", &[(Method::PUT, Handler::Soon(update))]),
];

/// Consul's answer where coordinates are off.
fn disabled(door: &Door) -> Option<Answering> {
    door.facts.config().disable_coordinates.then(|| -> Answering {
        Box::pin(std::future::ready(Ok(Reply::text(StatusCode::UNAUTHORIZED, "Coordinate support disabled"))))
    })
}

fn list(placed: &[Arc<Placed>], segment: &str) -> Reply {
    // There are no segments but the one without a name.
    let all = placed.iter().filter(|_| segment.is_empty());
    let all = all.map(|one| json!({ "Node": one.node.as_str(), "Segment": "", "Coord": shown(&one.coordinate) }));
    Reply::json(go_json(&Value::Array(all.collect())))
}

fn nodes(door: Arc<Door>, call: Call) -> Answering {
    disabled(&door).unwrap_or_else(|| {
        read(door, call, |door, call| {
            let options = ReadOptions::read(door, &call.query, &call.headers, Family::Kv)?;
            options.must_be_here()?;
            let segment = call.query.get("segment").cloned().unwrap_or_default();
            Ok((options, Coordinates::default(), move |_: &Door, placed: Vec<Arc<Placed>>| list(&placed, &segment)))
        })
    })
}

fn node(door: Arc<Door>, call: Call) -> Answering {
    disabled(&door).unwrap_or_else(|| {
        read(door, call, |door, call| {
            let options = ReadOptions::read(door, &call.query, &call.headers, Family::Kv)?;
            if call.rest.is_empty() {
                return Err(HttpError::BadRequest("Missing node name".into()));
            }
            options.must_be_here()?;
            let segment = call.query.get("segment").cloned().unwrap_or_default();
            let render = move |_: &Door, placed: Vec<Arc<Placed>>| match placed.is_empty() {
                true => Reply::bare(StatusCode::NOT_FOUND),
                false => list(&placed, &segment),
            };
            Ok((options, Coordinates { node: Some(call.rest.clone()) }, render))
        })
    })
}

/// The servers of all datacenters: of this one, which is the only one that is known.
fn datacenters(door: Arc<Door>, call: Call) -> Answering {
    disabled(&door).unwrap_or_else(|| {
        Box::pin(async move {
            let seen = door.desk.read(&{ call }.who, &Coordinates::default(), Consistency::Stale, None).await?;
            let (own_id, dc) = (door.desk.id(), door.datacenter());
            let members = door.desk.cluster().members();
            let servers = members.iter().filter(|member| member.is_server() && member.standing == Standing::Alive);
            let places = servers.map(|member| {
                let placed = seen.answer.iter().find(|placed| placed.node.as_str().eq_ignore_ascii_case(&member.name));
                let coordinate = match placed {
                    _ if member.id == own_id => own(&door),
                    Some(placed) => placed.coordinate,
                    None => Coordinate::default(),
                };
                json!({ "Node": member.name.as_str(), "Segment": "", "Coord": shown(&coordinate) })
            });
            let places: Vec<Value> = places.collect();
            Ok(Reply::json(go_json(&json!([{ "Datacenter": dc, "AreaID": "wan", "Coordinates": places }]))))
        })
    })
}

/// `PUT update`: for nodes that no agent speaks for.
fn update(door: Arc<Door>, call: Call) -> Answering {
    disabled(&door).unwrap_or_else(|| {
        Box::pin(async move {
            door.must_be_here(&call)?;
            let Call { body, who, .. } = call;
            let placed = understand(&body.read_json().await?)?;
            match door.desk.write(&who, Command::Place(vec![placed]), CauseKind::Api, "coordinate/update").await? {
                (_, Outcome::Refused(refusal)) => Err(HttpError::Server(refusal.to_string())),
                (_, Outcome::Done | Outcome::Kv(_) | Outcome::Transaction(_)) => Ok(Reply::nothing()),
            }
        })
    })
}

fn understand(body: &[u8]) -> Result<Placed, HttpError> {
    let mut object = Object::parse(body)?;
    let node = object.text("Node")?;
    object.ignore(&["Segment", "Datacenter"]);
    let coordinate = object.object("Coord")?;
    object.finish()?;
    let node = NodeName::new(&node).map_err(|error| HttpError::Server(format!("invalid node name: {error}")))?;
    let Some(mut coordinate) = coordinate else { return Err(HttpError::Server("invalid coordinate: there is none".into())) };
    let vec = coordinate.list("Vec")?.iter().map(|number| fraction(number, "Vec")).collect::<Result<Vec<f64>, _>>()?;
    let mut number = |name| coordinate.take(name).map_or(Ok(0.0), |number| fraction(&number, name));
    let (error, adjustment, height) = (number("Error")?, number("Adjustment")?, number("Height")?);
    coordinate.finish()?;
    let Ok(vec) = <[f64; DIMENSIONS]>::try_from(vec.as_slice()) else {
        let text = format!("invalid coordinate: it has {} dimensions, those of this cluster have {DIMENSIONS}", vec.len());
        return Err(HttpError::Server(text));
    };
    Ok(Placed { node, coordinate: Coordinate { vec, error, adjustment, height } })
}

/// JSON has no number that is none, and one too big for a place is none that its reader takes.
fn fraction(value: &Value, name: &str) -> Result<f64, HttpError> {
    let number = value.as_f64().filter(|number| number.is_finite());
    number.ok_or_else(|| HttpError::Decode(format!("json: cannot unmarshal {value} into field {name} of type float64")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_one_node_with_eight_numbers_and_three() {
        let body =
            br#"{"node":"a","Segment":"","Coord":{"Vec":[1,0,0,0,0,0,0,2.5],"Error":1.5,"Adjustment":-1e-3,"Height":1e-4}}"#;
        let placed = understand(body).expect("a good body");
        assert_eq!((placed.node.as_str(), placed.coordinate.vec[7], placed.coordinate.adjustment), ("a", 2.5, -1e-3));
        for (body, text) in [
            ("junk", "Request decode failed: "),
            (r#"{"Node":"a","Bogus":1}"#, "unknown field \"Bogus\""),
            (r#"{"Node":"a"}"#, "invalid coordinate"),
            (r#"{"Node":"","Coord":{"Vec":[1,2,3,4,5,6,7,8]}}"#, "invalid node name"),
            (r#"{"Node":"a","Coord":{"Vec":[0.1]}}"#, "1 dimensions"),
            (r#"{"Node":"a","Coord":{"Vec":[1,2,3,4,5,6,7,"x"]}}"#, "field Vec"),
            (r#"{"Node":"a","Coord":{"Vec":[1,2,3,4,5,6,7,8],"Height":1e999}}"#, "Request decode failed: "),
        ] {
            let fault = understand(body.as_bytes()).expect_err("it is wrong").to_string();
            assert!(fault.contains(text), "{body}: {fault}");
        }
    }
}
