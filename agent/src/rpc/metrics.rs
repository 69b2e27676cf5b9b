//! The names under which calls between agents are measured: Consul's, where the thing is the same. Times are in milliseconds.

/// Counter: calls made to other agents.
pub(crate) const CALL: &str = "client.rpc";
/// Counter: calls that gave no answer.
pub(crate) const CALL_FAILED: &str = "client.rpc.failed";
/// Counter: connections that other agents made.
pub(crate) const ACCEPTED: &str = "rpc.accept_conn";
/// Counter: calls of other agents that were answered.
pub(crate) const ANSWERED: &str = "rpc.request";
/// Counter: calls of other agents that were refused, strangers and foreign bytes included.
pub(crate) const REFUSED: &str = "rpc.request_error";
