//! What a fuzzer may throw at this crate: packets. Built for tests and fuzzers alone.

use std::cell::RefCell;

use muster_catalog::{
    Cause, CauseKind, Command, NodeName, Offer, Proposal, Register, Run, Service, ServiceId, ServiceName, Store, Weights,
};

use crate::bounds::{Asker, Transport, View};
use crate::config::{Config, Settings};
use crate::elsewhere::{UNTOLD, addresses, judge};
use crate::fast::Scratch;
use crate::respond::{refuse, respond};

thread_local! {
    static SERVED: RefCell<(Store, Settings, Scratch, Vec<u8>)> = RefCell::new(served());
}

/// A packet, over each transport, answered from a catalog with one service; and the same as a recursor's reply.
pub fn packet(bytes: &[u8]) {
    SERVED.with_borrow_mut(|(store, settings, scratch, out)| {
        let view = View { state: store.state(), settings, now: 12_345, stale: false, too_old: false, told: &UNTOLD };
        for transport in [Transport::UdpNear, Transport::UdpAfar, Transport::Tcp] {
            let asker = Asker { transport, address: None };
            let answered = respond(bytes, asker, view, scratch, out);
            assert!(answered.bytes <= out.len());
            refuse(bytes, asker, view, out);
        }
        let _ = (judge(bytes, bytes), addresses(bytes, 1), addresses(bytes, 28));
    });
}

fn served() -> (Store, Settings, Scratch, Vec<u8>) {
    let mut store = Store::new();
    let service = Service {
        id: ServiceId::new("web-1").expect("a name"),
        name: ServiceName::new("web").expect("a name"),
        tags: vec!["v1".into()],
        address: "".into(),
        tagged_addresses: Default::default(),
        meta: Default::default(),
        port: 80,
        socket_path: "".into(),
        enable_tag_override: false,
        weights: Weights { passing: 1, warning: 1 },
        rare: None,
    };
    let node = NodeName::new("node").expect("a name");
    let register = Register { node, about: None, services: vec![Offer::unowned(service)], checks: vec![], owner: None };
    for (number, command) in (1..).zip([Command::OpenRun, Command::Register(register)]) {
        let proposal = Proposal {
            request: Default::default(),
            run: Run { agent: Default::default(), epoch: 65_536 },
            number,
            answered_below: number,
            time_ms: 1,
            cause: Cause::new("fuzz", CauseKind::Api, 1, "fuzz"),
            command,
        };
        store.apply(number, proposal);
    }
    store.publish();
    (store, Settings::new(&Config::default()).expect("the defaults are good"), Scratch::new(1), vec![0; 65_535])
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_is_answered_without_a_panic() {
        crate::corpus::replay("dns", super::packet);
    }
}
