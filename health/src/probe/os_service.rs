//! A check by the host's service manager, asked through its own `systemctl`.
//!
//! Not over D-Bus: `systemctl show` says the same, on hosts without a bus too, and is one program where that would be a protocol.

use std::time::Duration;

use muster_catalog::{OsServiceProbe, Status};

use super::exec::{self, Ended};
use crate::text;
use crate::verdict::Outcome;

/// Most that is read of what `systemctl` says: three lines, or why not.
const SAID_BYTES_MAX: usize = 4096;

pub(super) async fn look(probe: &OsServiceProbe, timeout: Duration, output_bytes_max: usize, systemctl: &str) -> Outcome {
    let name = probe.name.as_str();
    let outcome = if name.contains(['*', '?', '[']) {
        // It would be asked for all services that match.
        Outcome::critical(format!("OS service {name:?}: a pattern is no name of a service"))
    } else {
        let args = [systemctl, "show", "--no-pager", "--property=LoadState,ActiveState,SubState", "--", name];
        match exec::run(&args.map(str::to_owned), timeout, SAID_BYTES_MAX).await {
            Ended::Exited(_, said) => judge(name, &said),
            Ended::Broken(why) => Outcome::critical(format!("OS service {name:?} cannot be looked at, systemd is needed: {why}")),
            Ended::Late(_) => Outcome::critical(exec::timed_out(timeout, "")),
        }
    };
    Outcome { output: text::head(outcome.output, output_bytes_max), ..outcome }
}

fn judge(name: &str, said: &str) -> Outcome {
    let value = |key: &str| said.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let (Some(active), load) = (value("ActiveState"), value("LoadState").unwrap_or_default()) else {
        let said = said.trim();
        return Outcome::critical(format!("OS service {name:?} cannot be looked at, systemd is needed: {said}"));
    };
    let sub = value("SubState").unwrap_or_default();
    match (active, load) {
        ("active", _) => Outcome::new(Status::Passing, format!("Service {name:?} is healthy")),
        (_, "not-found") => Outcome::critical(format!("Service {name:?} is not known to systemd")),
        ("inactive" | "failed", _) => Outcome::critical(format!("Service {name:?} is {active} ({sub})")),
        _ => Outcome::new(Status::Warning, format!("Service {name:?} is {active} ({sub})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_passes_what_stands_is_critical_and_what_is_between_warns() {
        for (said, status, output) in [
            ("LoadState=loaded\nActiveState=active\nSubState=running\n", Status::Passing, "Service \"web\" is healthy"),
            ("LoadState=loaded\nActiveState=active\nSubState=exited\n", Status::Passing, "Service \"web\" is healthy"),
            ("LoadState=loaded\nActiveState=failed\nSubState=failed\n", Status::Critical, "Service \"web\" is failed (failed)"),
            ("LoadState=loaded\nActiveState=inactive\nSubState=dead\n", Status::Critical, "Service \"web\" is inactive (dead)"),
            (
                "LoadState=loaded\nActiveState=activating\nSubState=auto-restart\n",
                Status::Warning,
                "Service \"web\" is activating (auto-restart)",
            ),
            (
                "LoadState=not-found\nActiveState=inactive\nSubState=dead\n",
                Status::Critical,
                "Service \"web\" is not known to systemd",
            ),
            (
                "System has not been booted with systemd as init system (PID 1). Can't operate.\n",
                Status::Critical,
                "OS service \"web\" cannot be looked at, systemd is needed: System has not been booted with systemd as init \
                 system (PID 1). Can't operate.",
            ),
        ] {
            assert_eq!(judge("web", said), Outcome::new(status, output.to_owned()));
        }
    }
}
