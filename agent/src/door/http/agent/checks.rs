//! The checks of this agent: listed, registered and deregistered, and told their verdicts.

use muster_catalog::{CheckId, Status};

use super::super::Door;
use super::super::call::{Answer, Answering, Call};
use super::super::error::HttpError;
use super::super::fields::AgentCheckView;
use super::super::filter::Rows;
use super::super::json;
use super::super::reply::Reply;
use super::{TheDoor, filter, forget, obey, refused, soon, warn as warn_of};
use crate::config::{check_from_body, update_from_body};
use crate::desk::{DeskError, Order, Unknown};

/// `GET checks`.
pub(super) fn all(door: &Door, call: &Call) -> Answer {
    let filter = filter(call, Rows::Checks)?;
    let node = door.desk.name().as_str();
    let mut out = Vec::with_capacity(1024);
    door.desk.local().look(|local| {
        let all = local.checks().values().map(|local| AgentCheckView { node, check: &local.check });
        let shown = all.filter(|view| filter.as_ref().is_none_or(|filter| filter.admits(view)));
        json::map(&mut out, shown.map(|view| (view.check.id.as_str(), view)), |out, view| json::object(out, &view));
    });
    Ok(Reply::json(out))
}

/// `PUT check/register`.
pub(super) fn register(door: TheDoor, call: Call) -> Answering {
    soon(async move {
        let Call { body, who, .. } = call;
        let told = check_from_body(&body.read_json().await?, door.facts.config().checks.over_http()).map_err(refused)?;
        warn_of(&told.warnings, &who);
        obey(&door, &who, Order::RegisterCheck(Box::new(told.check))).await
    })
}

/// `PUT check/deregister/<id>`.
pub(super) fn deregister(door: TheDoor, call: Call) -> Answering {
    soon(async move {
        let order = Order::DeregisterCheck(check_id(&call)?);
        forget(&door, &{ call }.who, order).await
    })
}

/// `PUT check/pass/<id>`.
pub(super) fn pass(door: TheDoor, call: Call) -> Answering {
    report(door, call, Status::Passing)
}

/// `PUT check/warn/<id>`.
pub(super) fn warn(door: TheDoor, call: Call) -> Answering {
    report(door, call, Status::Warning)
}

/// `PUT check/fail/<id>`.
pub(super) fn fail(door: TheDoor, call: Call) -> Answering {
    report(door, call, Status::Critical)
}

fn report(door: TheDoor, call: Call, status: Status) -> Answering {
    soon(async move {
        let check = check_id(&call)?;
        let output = call.query.get("note").map(ToString::to_string).unwrap_or_default();
        obey(&door, &{ call }.who, Order::Report { check, status, output }).await
    })
}

/// `PUT check/update/<id>`: the verdict stands in the body.
pub(super) fn update(door: TheDoor, call: Call) -> Answering {
    soon(async move {
        let check = check_id(&call);
        let Call { body, who, .. } = call;
        let told = update_from_body(&body.read_json().await?).map_err(refused)?;
        let status = Status::from_text(&told.status);
        obey(&door, &who, Order::Report { check: check?, status, output: told.output }).await
    })
}

/// The check whose id stands in the path. What cannot be an id is the id of no check.
fn check_id(call: &Call) -> Result<CheckId, HttpError> {
    CheckId::new(&call.rest).map_err(|_| DeskError::Unknown(Unknown::Check(call.rest.to_string())).into())
}
