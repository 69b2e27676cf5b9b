//! How a client comes to a feed: from one of the servers that are known, and each time from another one; and its beats while it is fed.
#![allow(clippy::disallowed_methods)] // the beats are a task, which ends with the feed

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt as _, unfold};
use muster_catalog::{Index, Interest, Position};
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::follow::Feed;
use super::source::BEAT;
use super::wants::Wants;
use crate::rpc::{Method, Pool};

/// How long a server may take to begin; it begins at once, or looks through its tables first.
const BEGIN_MAX: Duration = Duration::from_secs(4);

/// From where on, and of what, a feed is asked for: a [`Position`] with an interest, which older agents leave out. It travels between
/// agents: fields are only added.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct FeedRequest {
    history: Option<Uuid>,
    index: Index,
    /// Only these rows; an older server sends all of them, which does no harm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) interest: Option<Interest>,
}

impl FeedRequest {
    pub(crate) fn at(&self) -> Position {
        Position { history: self.history, index: self.index }
    }
}

/// A feed over RPC.
pub(crate) type Remote = Feed<BoxStream<'static, io::Result<Bytes>>>;

/// What [`super::Follower::run`] connects with: a server at random, so that they share the followers, but not the last one again.
pub(crate) fn over<R: Rng>(
    pool: Pool,
    wants: Option<Wants>,
    mut rng: R,
) -> impl FnMut(Position) -> std::pin::Pin<Box<dyn Future<Output = io::Result<Remote>> + Send>> {
    let last = Arc::new(Mutex::new(None));
    move |at| {
        let (pool, last, turn) = (pool.clone(), last.clone(), rng.random_range(0..usize::MAX));
        let interest = wants.as_ref().map(Wants::interest);
        let request = FeedRequest { history: at.history, index: at.index, interest };
        Box::pin(async move {
            let node = next(&pool, &last, turn).ok_or_else(|| io::Error::other("no server is known"))?;
            let body = rmp_serde::to_vec_named(&request).map_err(io::Error::other)?;
            let frames = pool.stream(node, Method::Feed, body, BEGIN_MAX).await.map_err(io::Error::other)?;
            let beats = AbortOnDropHandle::new(tokio::spawn(beat(pool, node)));
            let pieces = unfold(Some((frames, beats)), |fed| async move {
                let (mut frames, beats) = fed?;
                match frames.next().await {
                    Ok(Some(piece)) => Some((Ok(piece), Some((frames, beats)))),
                    Ok(None) => None,
                    Err(error) => Some((Err(io::Error::other(error)), None)),
                }
            });
            Ok(Feed { server: node, frames: pieces.boxed() })
        })
    }
}

/// Tells the server once a second that this agent lives. One that does not take it is silent itself, or of an older version.
async fn beat(pool: Pool, server: Uuid) {
    let mut tick = interval(BEAT);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let _ = pool.call(server, Method::Beat, Bytes::new(), BEAT).await;
    }
}

/// Another server than the last one, if there is one.
fn next(pool: &Pool, last: &Mutex<Option<Uuid>>, turn: usize) -> Option<Uuid> {
    let mut last = last.lock().expect("no holder panics: a number is stored");
    let servers = pool.book().all();
    let others: Vec<Uuid> = servers.keys().copied().filter(|node| Some(*node) != *last).collect();
    let node = others.get(turn.checked_rem(others.len()).unwrap_or(0)).copied().or(*last);
    *last = node.filter(|node| servers.contains_key(node));
    *last
}
