//! `completions`: a script that lets a shell complete the commands and flags.

use clap::{Args, Command};
use clap_complete::Shell;

use super::done::Done;
use super::error::Error;
use super::print::Out;

#[derive(Args, Debug)]
pub(crate) struct Completions {
    /// The shell the script is for.
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self, mut shape: Command, name: &str, out: &mut Out) -> Result<Done, Error> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut shape, name, &mut script);
        out.bytes(&script)?;
        Ok(Done::Well)
    }
}
