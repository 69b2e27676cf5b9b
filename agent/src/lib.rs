//! The agent: its doors, loops, desk and startup order behind one [`main`].

mod config;

use std::process::ExitCode;

/// Runs the program with the arguments of this process.
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
