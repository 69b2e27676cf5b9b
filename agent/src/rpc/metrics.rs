//! The names under which calls between agents are measured: Consul's, where the thing is the same. Times are in milliseconds.

use std::sync::{LazyLock, OnceLock};

use metrics::{Counter, Histogram};

use super::Method;

/// Counter: calls made to other agents.
pub(crate) const CALL: &str = "client.rpc";
/// Counter: calls that gave no answer.
pub(crate) const CALL_FAILED: &str = "client.rpc.failed";
/// Counter: calls that were not made because of this agent's own limit.
pub(crate) const CALL_EXCEEDED: &str = "client.rpc.exceeded";
/// Counter: connections that other agents made.
pub(crate) const ACCEPTED: &str = "rpc.accept_conn";
/// Counter: calls of other agents that were answered.
pub(crate) const ANSWERED: &str = "rpc.request";
/// Counter: calls of other agents that were refused, strangers and foreign bytes included.
pub(crate) const REFUSED: &str = "rpc.request_error";

/// Histogram, ms: answering a call of another agent, by method and whether it was refused. Raft's own have names of their own.
pub(crate) const SERVED: &str = "rpc.server.call";

/// Handles to what each call records: looked up once, for a look-up costs more than the record.
pub(crate) struct Meters {
    pub(crate) call: Counter,
    pub(crate) call_failed: Counter,
    pub(crate) call_exceeded: Counter,
    pub(crate) accepted: Counter,
    pub(crate) answered: Counter,
    pub(crate) refused: Counter,
}

/// What the time of a call is told to: made when a method is first asked for.
static SERVED_BY_METHOD: [[OnceLock<Histogram>; 2]; Method::COUNT] = [const { [const { OnceLock::new() }; 2] }; Method::COUNT];

/// What the time of answering such a call is told to, by whether it was refused.
pub(crate) fn served(method: Method, errored: bool) -> &'static Histogram {
    SERVED_BY_METHOD[method as usize][usize::from(errored)].get_or_init(|| {
        let (name, errored) = (method.path().trim_start_matches("/1/"), if errored { "true" } else { "false" });
        let kind = if method == Method::Write { "write" } else { "read" };
        metrics::histogram!(SERVED, "method" => name, "errored" => errored, "request_type" => kind, "rpc_type" => "internal")
    })
}

/// The handles; first used with the first call, and the recorder is there before that.
pub(crate) static METERS: LazyLock<Meters> = LazyLock::new(|| Meters {
    call: metrics::counter!(CALL),
    call_failed: metrics::counter!(CALL_FAILED),
    call_exceeded: metrics::counter!(CALL_EXCEEDED),
    accepted: metrics::counter!(ACCEPTED),
    answered: metrics::counter!(ANSWERED),
    refused: metrics::counter!(REFUSED),
});
