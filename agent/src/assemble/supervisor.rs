//! What the supervisor that started this process (systemd) is told, if it asked for it.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::desk::Desk;

/// An agent without a leader is ready after this long all the same: it answers, and says that it knows no leader.
const LEADER_WAIT: Duration = Duration::from_secs(10);

/// Says that the agent is ready: its listeners are open, and it has a leader or waited long enough for one.
pub(super) async fn tell_ready(desk: Desk) {
    tokio::select! {
        () = desk.stopping() => return,
        _ = tokio::time::timeout(LEADER_WAIT, desk.caught_up()) => {}
    }
    tell(&[NotifyState::Ready]);
}

/// Says that the configuration is read again.
pub(super) fn tell_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// Says that this is over, whatever came of it.
pub(super) fn tell_reloaded() {
    tell(&[NotifyState::Ready]);
}

/// Says that the agent ends.
pub(super) fn tell_stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the supervisor could not be told");
    }
}
