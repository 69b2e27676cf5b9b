//! The names under which calls between agents are measured: Consul's, where the thing is the same. Times are in milliseconds.

use std::sync::LazyLock;

use metrics::Counter;

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

/// Handles to what each call records: looked up once, for a look-up costs more than the record.
pub(crate) struct Meters {
    pub(crate) call: Counter,
    pub(crate) call_failed: Counter,
    pub(crate) call_exceeded: Counter,
    pub(crate) accepted: Counter,
    pub(crate) answered: Counter,
    pub(crate) refused: Counter,
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
