//! What the supervisor that started this process (systemd) is told, if it asked for it.

use std::process::Stdio;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::desk::Desk;

/// An agent without a leader is ready after this long all the same: it answers, and says that it knows no leader.
const LEADER_WAIT: Duration = Duration::from_secs(10);

/// The host's answer to whether it is going down comes in milliseconds, or the agent stops without it.
const HOST_ANSWERS_WITHIN: Duration = Duration::from_millis(500);

/// Whether the host itself is going down: nobody starts this agent again in a moment. Where there is no systemd, nobody knows.
pub(super) async fn host_is_stopping() -> bool {
    let mut ask = tokio::process::Command::new("systemctl");
    ask.arg("is-system-running").stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(HOST_ANSWERS_WITHIN, ask.output()).await {
        Ok(Ok(answer)) => answer.stdout.trim_ascii() == b"stopping",
        Ok(Err(_)) | Err(_) => false,
    }
}

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
