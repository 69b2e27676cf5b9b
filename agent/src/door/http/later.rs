//! Paths of Consul that this version knows and does not answer: a client learns that from the status, not from a missing path.

use http::{Method, StatusCode};

use super::call::{Handler, Route};

const NO_ACL: Handler = Handler::Fixed(StatusCode::UNAUTHORIZED, "ACL support disabled");

const fn route(path: &'static str, methods: &'static [(Method, Handler)]) -> Route {
    Route { path, methods, namespaced: false }
}

const GET_ACL: &[(Method, Handler)] = &[(Method::GET, NO_ACL)];
const PUT_ACL: &[(Method, Handler)] = &[(Method::PUT, NO_ACL)];
const ONE_ACL: &[(Method, Handler)] = &[(Method::GET, NO_ACL), (Method::PUT, NO_ACL), (Method::DELETE, NO_ACL)];

pub(super) const ROUTES: &[Route] = &[
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
