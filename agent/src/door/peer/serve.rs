//! The listener for other agents: how many may come, and how they are taken.
#![allow(clippy::disallowed_methods)] // Each connection is a task of its own; the tracker ends them with the door.

use std::future::Future;
use std::io::ErrorKind;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::sleep;

use super::door::Door;
use crate::rpc::{self, metrics};

/// Pause of accepting while the process has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop` is ready: then nobody is let in any more, calls under way end within a bound, and the rest is cut.
pub(crate) async fn serve(door: Door, listener: TcpListener, stop: impl Future<Output = ()>) {
    let shared = door.shared.clone();
    tokio::select! {
        biased;
        () = stop => {}
        () = listen(door, listener) => {}
    }
    shared.closing.cancel();
    shared.tasks.close();
    shared.tasks.wait().await;
}

async fn listen(door: Door, listener: TcpListener) {
    let shared = &door.shared;
    let mut troubled = false;
    loop {
        let Ok(place) = shared.places.clone().acquire_owned().await else { return };
        match rpc::accept(&listener).await {
            Ok((stream, from)) => {
                metrics::METERS.accepted.increment(1);
                if std::mem::take(&mut troubled) {
                    tracing::info!("connections of peers are accepted again");
                }
                // no place for one more stranger, or from there: it is closed without a word
                let stranger = shared.strangers.clone().try_acquire_owned().ok().filter(|_| door.admits(from.ip()));
                if let Some(stranger) = stranger {
                    shared.tasks.spawn(super::connection::run(door.clone(), stream, from, place, stranger));
                } else {
                    metrics::METERS.refused.increment(1);
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {}
            Err(error) => {
                if !std::mem::replace(&mut troubled, true) {
                    tracing::warn!(%error, "no connection of a peer can be accepted at present; trying on");
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
