//! Paths of Consul that this version knows and does not answer: a client learns that from the status, not from a missing path.

use http::{Method, StatusCode};

use super::call::{Handler, Route};

const LATER: Handler = Handler::Fixed(StatusCode::NOT_IMPLEMENTED, "this version of muster does not offer this endpoint");
const NO_ACL: Handler = Handler::Fixed(StatusCode::UNAUTHORIZED, "ACL support disabled");
/// What reads of prepared queries by id answer where there is none.
const NO_QUERY: Handler = Handler::Fixed(StatusCode::NOT_FOUND, "Query not found");

const fn route(path: &'static str, methods: &'static [(Method, Handler)]) -> Route {
    Route { path, methods, namespaced: false }
}

const GET_LATER: &[(Method, Handler)] = &[(Method::GET, LATER)];
const PUT_LATER: &[(Method, Handler)] = &[(Method::PUT, LATER)];
const GET_ACL: &[(Method, Handler)] = &[(Method::GET, NO_ACL)];
const PUT_ACL: &[(Method, Handler)] = &[(Method::PUT, NO_ACL)];
const ONE_ACL: &[(Method, Handler)] = &[(Method::GET, NO_ACL), (Method::PUT, NO_ACL), (Method::DELETE, NO_ACL)];

/// The prefix that checks methods in its own way: its 405 lacks `OPTIONS`, and its `OPTIONS` has a body.
pub(super) const QUERY_PREFIX: &str = "/v1/query/";

pub(super) const ROUTES: &[Route] = &[
    route("/v1/event/fire/", PUT_LATER),
    route("/v1/event/list", GET_LATER),
    route("/v1/query", &[(Method::GET, LATER), (Method::POST, LATER)]),
    route(QUERY_PREFIX, &[(Method::GET, NO_QUERY), (Method::PUT, NO_QUERY), (Method::DELETE, NO_QUERY)]),
    route("/v1/snapshot", &[(Method::GET, LATER), (Method::PUT, LATER)]),
    route("/v1/operator/usage", GET_LATER),
    route("/v1/acl/bootstrap", PUT_ACL),
    route("/v1/acl/replication", GET_ACL),
    route("/v1/acl/policies", GET_ACL),
    route("/v1/acl/policy", PUT_ACL),
    route("/v1/acl/policy/name/", GET_ACL),
    route("/v1/acl/policy/", ONE_ACL),
    route("/v1/acl/roles", GET_ACL),
    route("/v1/acl/role", PUT_ACL),
    route("/v1/acl/role/name/", GET_ACL),
    route("/v1/acl/role/", ONE_ACL),
    route("/v1/acl/tokens", GET_ACL),
    route("/v1/acl/token", PUT_ACL),
    route("/v1/acl/token/self", GET_ACL),
    route("/v1/acl/token/", ONE_ACL),
];
