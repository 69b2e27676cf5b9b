//! The agent's startup and end, in the order in which they happen.

use std::ffi::OsString;
use std::future::Future;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Parser;
use muster_catalog::{AntiEntropy, Cause, CauseKind, Command, Meta, Node, Run, Store};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::config::{self, AgentFlags, Config, Host};
use crate::desk::disk::{self, Disk};
use crate::desk::{Bells, Desk, Errand, LocalDesk, LocalSettings, Policy, Setup};
use crate::loops::{self, Member};
use crate::raft::{self, Raft};

/// Waiting reads, writes under way and connections have this long to end after a signal; then they are cut.
const STOP_WAIT: Duration = Duration::from_secs(5);
/// Errands at once: a reload that waits behind another finds nothing new to do.
const ERRANDS_MAX: usize = 4;
/// Worker threads at most: the agent shares its host with what it looks after.
const WORKERS_MAX: usize = 4;

/// Runs `muster agent`.
pub(crate) fn agent(arguments: Vec<OsString>) -> ExitCode {
    let program = std::iter::once(OsString::from("muster agent"));
    let flags = match AgentFlags::try_parse_from(config::go_style(program.chain(arguments))) {
        Ok(flags) => flags,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    let loaded = match config::load(&flags, &Host::this()) {
        Ok(loaded) => loaded,
        Err(faults) => return end(&anyhow!("{faults}")),
    };
    let workers = std::thread::available_parallelism().map_or(2, usize::from).min(WORKERS_MAX);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).thread_name("agent").enable_all().build();
    let ended = runtime.context("no runtime").and_then(|runtime| {
        let ended = runtime.block_on(run(flags, loaded));
        runtime.shutdown_timeout(STOP_WAIT);
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => end(&error),
    }
}

fn end(error: &anyhow::Error) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "muster: {error:#}");
    ExitCode::FAILURE
}
