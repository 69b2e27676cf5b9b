//! `/v1/health`: instances with their checks, and checks by node, service and state.

use std::sync::Arc;

use http::Method;
use muster_catalog::{
    Ask, Check, Health, HealthService, Instance, Near, NodeChecks, Row, ServiceChecks, ServiceName, StateChecks, state_named,
};

use super::Door;
use super::answers;
use super::asked;
use super::call::{Answering, Call, Handler, Route};
use super::error::HttpError;
use super::fields::HealthView;
use super::filter::{Filter, Rows, parse_bool};
use super::json;
use super::options::{Family, ReadOptions, node_meta, read, read_near, tags};
use super::reply::Reply;
use crate::desk::{Question, Travel};

const fn get(path: &'static str, handler: &'static [(Method, Handler)]) -> Route {
    Route { path, methods: handler, namespaced: true }
}

pub(super) const ROUTES: &[Route] = &[
    get("/v1/health/service/", &[(Method::GET, Handler::Soon(service))]),
    get("/v1/health/connect/", &[(Method::GET, Handler::Soon(mesh))]),
    get("/v1/health/ingress/", &[(Method::GET, Handler::Soon(mesh))]),
    get("/v1/health/node/", &[(Method::GET, Handler::Soon(node))]),
    get("/v1/health/checks/", &[(Method::GET, Handler::Soon(checks))]),
    get("/v1/health/state/", &[(Method::GET, Handler::Soon(state))]),
];

fn service(door: Arc<Door>, call: Call) -> Answering {
    read_near(door, call, |door, call| {
        let options = ReadOptions::read(door, &call.query, &call.headers, Family::Catalog)?;
        let name = service_name(call)?;
        let only_passing = passing(call)?;
        options.must_be_here()?;
        let filter = Filter::read(call.query.get("filter"), Rows::Health)?;
        let ask = HealthService { name: name.clone(), tags: tags(&call.query), node_meta: node_meta(&call.query) };
        let (gzip, tags) = (call.gzip, ask.tags.len());
        let render = move |door: &Door, mut instances: Vec<Arc<Instance>>, near: &Near| {
            let counted = asked::HEALTH.count(&name, tags, !instances.is_empty());
            if let Some(filter) = filter {
                instances.retain(|instance| filter.admits(&HealthView::new(instance, door.datacenter())));
            }
            if only_passing {
                instances.retain(|instance| instance.health == Health::Passing);
            }
            near.sort(&mut instances, |instance| instance.node.node.as_str());
            let reply = match door.answers.health(instances, door.datacenter(), gzip) {
                answers::Health::Own(json) => Reply::json(json),
                answers::Health::Shared(rendered) => Reply::shared(rendered),
            };
            reply.counted(counted)
        };
        Ok((options, ask, render))
    })
}

/// `passing` without a value is yes.
fn passing(call: &Call) -> Result<bool, HttpError> {
    match call.query.get("passing") {
        None => Ok(false),
        Some(text) if text.is_empty() => Ok(true),
        Some(text) => parse_bool(text).ok_or_else(|| HttpError::BadRequest("Invalid value for ?passing".into())),
    }
}

/// The service a path names, folded.
pub(super) fn service_name(call: &Call) -> Result<ServiceName, HttpError> {
    if call.rest.is_empty() {
        return Err(HttpError::BadRequest("Missing service name".into()));
    }
    let name = ServiceName::new(&call.rest).map_err(|error| HttpError::BadRequest(format!("Invalid service name: {error}")))?;
    Ok(name.folded())
}

/// There is no mesh: nothing is in it.
pub(super) fn mesh(door: Arc<Door>, call: Call) -> Answering {
    read(door, call, |door, call| {
        let options = ReadOptions::read(door, &call.query, &call.headers, Family::Catalog)?;
        let name = service_name(call)?;
        options.must_be_here()?;
        let ask = HealthService { name, tags: Vec::new(), node_meta: Vec::new() };
        Ok((options, ask, |_: &Door, _| Reply::json("[]")))
    })
}

fn node(door: Arc<Door>, call: Call) -> Answering {
    let ask = match call.rest.is_empty() {
        true => Err(HttpError::BadRequest("Missing node name".into())),
        false => Ok(NodeChecks { node: call.rest.clone() }),
    };
    list(door, call, ask)
}

fn checks(door: Arc<Door>, call: Call) -> Answering {
    let ask = service_name(&call).map(|name| ServiceChecks { name, node_meta: node_meta(&call.query) });
    list(door, call, ask)
}

fn state(door: Arc<Door>, call: Call) -> Answering {
    let ask = match (call.rest.is_empty(), state_named(&call.rest)) {
        (true, _) => Err(HttpError::BadRequest("Missing check state".into())),
        (_, Some(state)) => Ok(Some(StateChecks { state, node_meta: node_meta(&call.query) })),
        (_, None) => Ok(None),
    };
    match ask {
        Ok(Some(ask)) => list(door, call, Ok(ask)),
        Ok(None) => list(door, call, Ok(NoChecks)),
        Err(error) => list::<NoChecks>(door, call, Err(error)),
    }
}

/// The checks of a status that no check can have; its index is that of all checks.
struct NoChecks;

impl Travel for NoChecks {
    fn question(&self) -> Question {
        StateChecks { state: Some(Health::Critical), node_meta: Vec::new() }.question()
    }

    fn read(&self, _: &[u8]) -> Option<Self::Answer> {
        Some(Vec::new())
    }
}

impl Ask for NoChecks {
    type Answer = Vec<Arc<Row<Check>>>;
    fn topics(&self) -> smallvec::SmallVec<[muster_catalog::Topic; 1]> {
        smallvec::smallvec![muster_catalog::Topic::State(None)]
    }
    fn look(&self, _: &muster_catalog::State) -> Self::Answer {
        Vec::new()
    }
}

fn list<A>(door: Arc<Door>, call: Call, ask: Result<A, HttpError>) -> Answering
where
    A: Travel<Answer = Vec<Arc<Row<Check>>>> + Send + Sync + 'static,
{
    read_near(door, call, |door, call| {
        let options = ReadOptions::read(door, &call.query, &call.headers, Family::Catalog)?;
        let ask = ask?;
        options.must_be_here()?;
        let filter = Filter::read(call.query.get("filter"), Rows::Checks)?;
        let render = move |_: &Door, mut rows: Vec<Arc<Row<Check>>>, near: &Near| {
            near.sort(&mut rows, |row| row.node.as_str());
            let rows = rows.iter().map(|row| &**row);
            Reply::json(json::checks(rows.filter(|row| filter.as_ref().is_none_or(|filter| filter.admits(*row)))))
        };
        Ok((options, ask, render))
    })
}
