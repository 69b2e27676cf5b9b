//! What DNS asks the desk: how old its rows are, and rows that are newer or not in this agent's copy.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use muster_catalog::{Coordinates, Part, ResolveQuery, ServiceName, State, fold};
use muster_dns::{Age, Beyond, Errand};
use smol_str::SmolStr;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::desk::{Consistency, Desk, DeskError, Who};

/// Errands that wait to be looked at: a moment's worth, for each is begun at once.
const ERRANDS_MAX: usize = 64;

/// Where nodes are is asked of a server; one that takes longer leaves answers in no order. An order is not worth a wait.
const COORDINATES_MAX: Duration = Duration::from_secs(1);

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
        running.spawn(fetch(desk.clone(), errand));
    }
}

/// An errand that cannot be done is dropped, which says so.
async fn fetch(desk: Desk, Errand { parts, fresh, mut answer }: Errand) {
    tokio::select! {
        fetched = rows(&desk, parts, fresh) => if let Ok(state) = fetched {
            let _ = answer.send(state); // Who asked may have given up.
        },
        () = answer.closed() => {}
    }
}

async fn rows(desk: &Desk, mut parts: BTreeSet<Part>, fresh: bool) -> Result<Arc<State>, DeskError> {
    let query = parts.iter().find_map(|part| if let Part::Query(name) = part { Some(name.clone()) } else { None });
    if let Some(name) = query {
        parts.retain(|part| !matches!(part, Part::Query(_)));
        return query_rows(desk, name, parts, fresh).await;
    }
    if parts.is_empty() {
        desk.caught_up().await?;
        return Ok(desk.reader().load().clone());
    }
    desk.rows(&Who::outside("dns", None), &parts, fresh).await
}

/// What a prepared query asks for, as servers have it, with the rows of its service.
async fn query_rows(desk: &Desk, name: SmolStr, mut parts: BTreeSet<Part>, fresh: bool) -> Result<Arc<State>, DeskError> {
    let who = Who::outside("dns", None);
    let consistency = if fresh { Consistency::Default } else { Consistency::Stale };
    let ask = ResolveQuery { name };
    // A template that was asked for by its id is no answer to anybody.
    let row = desk.read(&who, &ask, consistency, None).await?.answer.unwrap_or(None);
    let service = row.as_ref().and_then(|row| ServiceName::new(fold(&row.query.service.service)).ok());
    parts.extend(service.map(Part::Service));
    let near = row.as_ref().is_some_and(|row| !row.query.service.near.is_empty());
    let state = if parts.is_empty() { Arc::default() } else { desk.rows(&who, &parts, fresh).await? };
    let mut state = State::clone(&state).with_query(&ask.name, row);
    if near {
        let all = Coordinates::default();
        let asked = tokio::time::timeout(COORDINATES_MAX, desk.read(&who, &all, Consistency::Stale, None)).await;
        if let Ok(Ok(seen)) = asked {
            state = state.with_coordinates(seen.answer);
        }
    }
    Ok(Arc::new(state))
}
