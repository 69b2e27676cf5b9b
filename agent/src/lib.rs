//! The agent of muster and the commands to one.

use std::process::ExitCode;

mod assemble;
mod cli;
mod config;
#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod corpus;
mod desk;
mod door;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod loops;
mod raft;
mod rpc;
mod telemetry;

/// Runs what the process' arguments ask for.
pub fn main() -> ExitCode {
    cli::main(&cli::Rooms { agent: assemble::agent, validate: assemble::validate, simulate: assemble::timing })
}
