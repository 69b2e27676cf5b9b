//! What the page is told as it happens: all services and nodes once, then what changed, woken by the bells that wake waiting reads.
#![allow(clippy::disallowed_methods)] // each stream is fed by a task that ends with its reader or with the agent

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::header::CACHE_CONTROL;
use muster_catalog::{Part, State};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{sleep, timeout};

use super::super::Door;
use super::super::call::{Answering, Call};
use super::super::reply::Reply;
use super::look::Extract;
use super::show;
use crate::desk::{Consistency, Seen, Wait, Who};

/// Open pages that are told of changes as they happen. Each costs a look at the list of services with every change; one beyond
/// them is told all at once and asks again after [`AGAIN`].
pub(in super::super) const STREAMS_MAX: usize = 32;
/// Pause after which a page asks again whose stream has ended.
const AGAIN: Duration = Duration::from_secs(3);
/// Without a change something is said all the same, so that a page knows that it is heard, and how old what it shows is.
const BEAT: Duration = Duration::from_secs(5);
/// Changes that follow one another within this time are told together: nobody reads faster, and a storm stays a drizzle.
const GATHER: Duration = Duration::from_millis(200);
/// A reader that takes nothing for so long is gone.
const TAKING_MAX: Duration = Duration::from_secs(30);

/// `live`: the stream.
pub(super) fn answer(door: Arc<Door>, call: Call) -> Answering {
    let (to, pieces) = mpsc::channel(1);
    let place = door.pages.clone().try_acquire_owned().ok();
    tokio::spawn(tell(door, call.who, to, place));
    let reply = Reply::stream("text/event-stream; charset=utf-8", pieces);
    let reply = reply.with_header(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Box::pin(async move { Ok(reply) })
}

type Pieces = mpsc::Sender<io::Result<Bytes>>;

async fn tell(door: Arc<Door>, who: Who, to: Pieces, place: Option<OwnedSemaphorePermit>) {
    let ask = Extract(Part::Catalog);
    let mut stopping = pin!(door.desk.stopping());
    let mut told: Option<State> = None;
    let mut seen = 0;
    loop {
        let wait = Wait { seen, timeout: BEAT };
        let answer = tokio::select! {
            answer = door.desk.read(&who, &ask, Consistency::Stale, Some(&wait)) => answer,
            () = to.closed() => return,
            () = &mut stopping => return,
        };
        // What cannot be told now is asked for again by the page.
        let Ok(Seen { index, known_leader, last_contact_ms, answer: state }) = answer else { return };
        // Another history has other indexes: nothing of what was told holds.
        let before = told.as_ref().filter(|told| told.history() == state.history());
        let text = event(&door, before, &state, known_leader, last_contact_ms);
        let sent = timeout(TAKING_MAX, to.send(Ok(text))).await;
        if !matches!(sent, Ok(Ok(()))) || place.is_none() {
            return;
        }
        (told, seen) = (Some(state), index);
        tokio::select! {
            () = sleep(GATHER) => {}
            () = &mut stopping => return,
        }
    }
}

/// `all`, or the changes, with what is known of their age.
fn event(door: &Door, before: Option<&State>, state: &State, known_leader: bool, age_ms: u64) -> Bytes {
    let mut out =
        Vec::with_capacity(if before.is_none() { 64 * (state.services().len() + state.nodes().len()) } else { 0 } + 256);
    let name = if before.is_none() { "all" } else { "some" };
    out.extend_from_slice(format!("retry: {}\nevent: {name}\ndata: ", AGAIN.as_millis()).as_bytes());
    let server = door.desk.raft().is_some();
    show::head(&mut out, door.datacenter(), door.desk.name().as_str(), server, known_leader, age_ms);
    show::lists(&mut out, before, state);
    show::end(&mut out);
    out.extend_from_slice(b"\n\n");
    out.into()
}
