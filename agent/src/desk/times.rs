//! What commands and questions take: told at the server that does the work, under Consul's names.

use std::sync::LazyLock;

use metrics::{Counter, Histogram};
use muster_catalog::Command;

/// Handles to what each command or question records: looked up once, for a look-up costs more than the record.
struct Times {
    kv: Histogram,
    transaction: Histogram,
    register: Histogram,
    deregister: Histogram,
    session: Histogram,
    prepared: Histogram,
    asked: Counter,
    sure: Histogram,
}

/// First used with the first command, and the recorder is there before that.
static TIMES: LazyLock<Times> = LazyLock::new(|| Times {
    kv: metrics::histogram!("kvs.apply"),
    transaction: metrics::histogram!("txn.apply"),
    register: metrics::histogram!("catalog.register"),
    deregister: metrics::histogram!("catalog.deregister"),
    session: metrics::histogram!("session.apply"),
    prepared: metrics::histogram!("prepared-query.apply"),
    asked: metrics::counter!("rpc.query"),
    sure: metrics::histogram!("rpc.consistentRead"),
});

/// What the time of a command is told to, in milliseconds, on the leader.
pub(super) fn of(command: &Command) -> Option<&'static Histogram> {
    let times = &*TIMES;
    match command {
        Command::Kv(_) => Some(&times.kv),
        Command::Transaction(_) => Some(&times.transaction),
        Command::Register(_) => Some(&times.register),
        Command::Deregister(_) => Some(&times.deregister),
        Command::CreateSession(_) | Command::EndSession(_) => Some(&times.session),
        Command::SetQuery(_) | Command::DeleteQuery(_) => Some(&times.prepared),
        _ => None,
    }
}

/// A server was asked something.
pub(super) fn asked() {
    TIMES.asked.increment(1);
}

/// How long it took to be sure that a consistent read sees all that was acknowledged, in milliseconds.
pub(super) fn sure() -> &'static Histogram {
    &TIMES.sure
}
