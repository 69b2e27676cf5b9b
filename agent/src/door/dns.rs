//! What DNS asks the desk: how old its rows are, and rows as new as what was acknowledged.

use std::sync::Arc;

use muster_dns::{Age, Beyond, Errand};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::desk::Desk;

/// Errands that wait to be looked at: a moment's worth, for each is begun at once.
const ERRANDS_MAX: usize = 64;

/// What DNS is given to ask with, and where what it asks arrives.
pub(crate) fn beyond(desk: &Desk) -> (Beyond, mpsc::Receiver<Errand>) {
    let (errands, inlet) = mpsc::channel(ERRANDS_MAX);
    let desk = desk.clone();
    let age = move || {
        let (known_leader, last_contact) = desk.age();
        Age { known_leader, last_contact }
    };
    (Beyond { age: Arc::new(age), errands }, inlet)
}

/// Runs DNS' errands until the agent stops. DNS bounds how many there are at once.
pub(crate) async fn run(desk: Desk, mut inlet: mpsc::Receiver<Errand>) {
    let mut running = JoinSet::new();
    let mut stop = std::pin::pin!(desk.stopping());
    loop {
        let errand = tokio::select! {
            () = &mut stop => return,
            errand = inlet.recv() => match errand {
                Some(errand) => errand,
                None => return,
            },
        };
        while running.try_join_next().is_some() {}
        running.spawn(renew(desk.clone(), errand));
    }
}

/// An errand that cannot be done is dropped, which says so.
async fn renew(desk: Desk, Errand { mut answer }: Errand) {
    tokio::select! {
        fresh = desk.caught_up() => if fresh.is_ok() {
            let _ = answer.send(desk.reader().load().clone()); // Who asked may have given up.
        },
        () = answer.closed() => {}
    }
}
