//! `/v1/catalog`: nodes and services as the servers hold them, whatever their health.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::Method;
use muster_catalog::{
    Ask, CatalogService, CauseKind, Command, Instance, MetaFilter, Near, Node, NodeServices, Nodes, Outcome, Refusal, Row,
    Service, ServiceTags, State, Topic,
};
use smallvec::{SmallVec, smallvec};
use smol_str::SmolStr;

use super::Door;
use super::answers::{AllServices, render_services};
use super::asked;
use super::call::{Answer, Answering, Call, Handler, Route};
use super::error::HttpError;
use super::fields::{NodeView, ServiceNodeView};
use super::filter::{self, Filter};
use super::health::{mesh, service_name};
use super::json;
use super::options::{Family, ReadOptions, node_meta, read, read_near, tags};
use super::reply::Reply;
use crate::desk::{Question, Rows, Travel};

mod deregister;
pub(super) mod register;

const fn route(path: &'static str, methods: &'static [(Method, Handler)]) -> Route {
    Route { path, methods, namespaced: true }
}

pub(super) const ROUTES: &[Route] = &[
    route("/v1/catalog/register", &[(Method::PUT, Handler::Soon(register))]),
    route("/v1/catalog/deregister", &[(Method::PUT, Handler::Soon(deregister))]),
    Route { path: "/v1/catalog/datacenters", methods: &[(Method::GET, Handler::Now(datacenters))], namespaced: false },
    Route { path: "/v1/catalog/nodes", methods: &[(Method::GET, Handler::Soon(nodes))], namespaced: false },
    route("/v1/catalog/services", &[(Method::GET, Handler::Soon(services))]),
    route("/v1/catalog/service/", &[(Method::GET, Handler::Soon(service))]),
    route("/v1/catalog/connect/", &[(Method::GET, Handler::Soon(mesh))]),
    route("/v1/catalog/gateway-services/", &[(Method::GET, Handler::Soon(mesh))]),
    route("/v1/catalog/node/", &[(Method::GET, Handler::Soon(node))]),
    route("/v1/catalog/node-services/", &[(Method::GET, Handler::Soon(node_services))]),
];

fn datacenters(door: &Door, call: &Call) -> Answer {
    let age = call.query.has("cached").then_some(0);
    Ok(Reply::json(json::texts(std::iter::once(door.datacenter()))).with_age(age))
}

fn nodes(door: Arc<Door>, call: Call) -> Answering {
    read_near(door, call, |door, call| {
        let options = ReadOptions::read(door, &call.query, &call.headers, Family::Catalog)?;
        options.must_be_here()?;
        let filter = Filter::read(call.query.get("filter"), filter::Rows::Nodes)?;
        let ask = Nodes { node_meta: node_meta(&call.query) };
        let render = move |door: &Door, mut nodes: Vec<Arc<Row<Node>>>, near: &Near| {
            let datacenter = door.datacenter();
            near.sort(&mut nodes, |row| row.node.as_str());
            let admits = |node: &&Row<Node>| filter.as_ref().is_none_or(|filter| filter.admits(&NodeView { node, datacenter }));
            Reply::json(json::nodes(nodes.iter().map(|row| &**row).filter(admits), datacenter))
        };
        Ok((options, ask, render))
    })
}

fn services(door: Arc<Door>, call: Call) -> Answering {
    if call.query.filled("filter").is_none() && !call.query.has("node-meta") {
        return read(door, call, |door, call| {
            let options = ReadOptions::read(door, &call.query, &call.headers, Family::Catalog)?;
            options.must_be_here()?;
            Ok((options, AllServices(door.answers.clone()), |_: &Door, rendered| Reply::shared(rendered)))
        });
    }
    read(door, call, |door, call| {
        let options = ReadOptions::read(door, &call.query, &call.headers, Family::Catalog)?;
        options.must_be_here()?;
        let filter = Filter::read(call.query.get("filter"), filter::Rows::ServiceNodes)?;
        let ask = ServicesWith { node_meta: node_meta(&call.query), filter, datacenter: SmolStr::new(door.datacenter()) };
        Ok((options, ask, |_: &Door, services: Vec<ServiceTags>| Reply::json(render_services(&services))))
    })
}

/// The services that have an instance which a filter and the meta of its node admit, with the tags of those.
struct ServicesWith {
    node_meta: MetaFilter,
    filter: Option<Filter>,
    datacenter: SmolStr,
}

impl Travel for ServicesWith {
    /// A filter does not travel: all rows come here.
    fn question(&self) -> Question {
        Rows::default().question()
    }

    fn read(&self, bytes: &[u8]) -> Option<Self::Answer> {
        let state = Rows::state(&Rows::default().read(bytes)?)?;
        Some(self.look(&state))
    }
}

impl Ask for ServicesWith {
    type Answer = Vec<ServiceTags>;
    fn topics(&self) -> SmallVec<[Topic; 1]> {
        if self.node_meta.is_empty() && self.filter.is_none() {
            return smallvec![Topic::Services];
        }
        SmallVec::from_iter([Topic::Services, Topic::Nodes])
    }
    fn look(&self, state: &State) -> Self::Answer {
        let mut all = Vec::new();
        for bucket in state.services() {
            let admitted = bucket.instances().iter().filter(|instance| {
                let (node, service, datacenter) = (&*instance.node, &*instance.service, &*self.datacenter);
                self.node_meta.iter().all(|(key, value)| node.meta.get(key) == Some(value))
                    && self.filter.as_ref().is_none_or(|filter| filter.admits(&ServiceNodeView { node, service, datacenter }))
            });
            let mut admitted = admitted.peekable();
            if admitted.peek().is_some() {
                let tags: BTreeSet<_> = admitted.flat_map(|instance| &instance.service.tags).collect();
                all.push(ServiceTags { name: bucket.name().clone(), tags: tags.into_iter().cloned().collect() });
            }
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}

fn service(door: Arc<Door>, call: Call) -> Answering {
    read_near(door, call, |door, call| {
        let options = ReadOptions::read(door, &call.query, &call.headers, Family::Catalog)?;
        let name = service_name(call)?;
        options.must_be_here()?;
        let filter = Filter::read(call.query.get("filter"), filter::Rows::ServiceNodes)?;
        let ask = CatalogService { name: name.clone(), tags: tags(&call.query), node_meta: node_meta(&call.query) };
        let tags = ask.tags.len();
        let render = move |door: &Door, mut instances: Vec<Arc<Instance>>, near: &Near| {
            let counted = asked::CATALOG.count(&name, tags, !instances.is_empty());
            let datacenter = door.datacenter();
            near.sort(&mut instances, |instance| instance.node.node.as_str());
            let admitted = instances.iter().map(|instance| &**instance).filter(|instance| {
                let view = ServiceNodeView { node: &instance.node, service: &instance.service, datacenter };
                filter.as_ref().is_none_or(|filter| filter.admits(&view))
            });
            Reply::json(json::service_nodes(admitted, datacenter)).counted(counted)
        };
        Ok((options, ask, render))
    })
}

fn node(door: Arc<Door>, call: Call) -> Answering {
    one_node(door, call, |answer, filter, datacenter| match answer {
        None => Reply::json("null"),
        Some((node, services)) => Reply::json(json::node_with_services(node, admitted(services, filter), datacenter)),
    })
}

fn node_services(door: Arc<Door>, call: Call) -> Answering {
    one_node(door, call, |answer, filter, datacenter| match answer {
        None => Reply::json(r#"{"Node":null,"Services":null}"#),
        Some((node, services)) => {
            Reply::json(json::node_services_list(node, admitted(services, filter), !services.is_empty(), datacenter))
        }
    })
}

fn admitted<'a>(services: &'a [Arc<Row<Service>>], filter: Option<&'a Filter>) -> impl Iterator<Item = &'a Row<Service>> {
    services.iter().map(|row| &**row).filter(move |row| filter.is_none_or(|filter| filter.admits(*row)))
}

type OneNode = <NodeServices as Ask>::Answer;

fn one_node(door: Arc<Door>, call: Call, render: fn(&OneNode, Option<&Filter>, &str) -> Reply) -> Answering {
    read(door, call, move |door, call| {
        let options = ReadOptions::read(door, &call.query, &call.headers, Family::Catalog)?;
        if call.rest.is_empty() {
            return Err(HttpError::BadRequest("Missing node name".into()));
        }
        options.must_be_here()?;
        let filter = Filter::read(call.query.get("filter"), filter::Rows::Services)?;
        let ask = NodeServices { node: call.rest.clone() };
        Ok((options, ask, move |door: &Door, answer: OneNode| render(&answer, filter.as_ref(), door.datacenter())))
    })
}

fn register(door: Arc<Door>, call: Call) -> Answering {
    Box::pin(async move {
        let Call { body, who, .. } = call;
        let mut told = register::read(&body.read_json().await?, door.datacenter())?;
        let mut spare = told.node_if_unknown.take();
        loop {
            let command = Command::Register(told.register.clone());
            let (_, outcome) = door.desk.write(&who, command, CauseKind::Api, "catalog/register").await?;
            return match (outcome, spare.take()) {
                // SkipNodeUpdate leaves a node as it is, and makes one where there is none.
                (Outcome::Refused(Refusal::UnknownNode(_)), Some(node)) => {
                    told.register.about = Some(node);
                    continue;
                }
                (Outcome::Refused(refusal), _) => Err(refused(&refusal)),
                (Outcome::Done | Outcome::Kv(_) | Outcome::Transaction(_), _) => Ok(Reply::truth(true)),
            };
        }
    })
}

fn refused(refusal: &Refusal) -> HttpError {
    HttpError::Server(match refusal {
        Refusal::MissingService(_) => format!("failed inserting check: {refusal}"),
        Refusal::NodeIdTaken { .. } | Refusal::NodeNameTaken { .. } => format!("failed inserting node: {refusal}"),
        _ => refusal.to_string(),
    })
}

fn deregister(door: Arc<Door>, call: Call) -> Answering {
    Box::pin(async move {
        let Call { body, who, .. } = call;
        let told = deregister::read(&body.read_json().await?, door.datacenter())?;
        let command = Command::Deregister(told);
        match door.desk.write(&who, command, CauseKind::Api, "catalog/deregister").await? {
            (_, Outcome::Refused(refusal)) => Err(refused(&refusal)),
            (_, Outcome::Done | Outcome::Kv(_) | Outcome::Transaction(_)) => Ok(Reply::truth(true)),
        }
    })
}
