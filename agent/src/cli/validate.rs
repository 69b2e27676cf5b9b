//! `validate`: reads configuration as an agent would, and starts none.

use std::path::PathBuf;

use clap::Args;

use super::done::Done;
use super::error::Error;
use super::print::{self, Out};

/// Reads an agent's configuration from files and folders, in the given format or by the names' endings: the warnings,
/// or the text of all faults.
pub(crate) type Reads = fn(&[PathBuf], Option<&str>) -> Result<Vec<String>, String>;

#[derive(Args, Debug)]
pub(crate) struct Validate {
    /// The format of all files, where their names' endings do not say it: hcl, json or toml.
    #[arg(long, value_name = "FORMAT")]
    config_format: Option<String>,

    /// Print nothing if all is well.
    #[arg(long)]
    quiet: bool,

    /// Configuration files, and folders of them.
    #[arg(required = true, value_name = "FILE_OR_FOLDER")]
    paths: Vec<PathBuf>,
}

impl Validate {
    pub(crate) fn run(self, validate: Reads, out: &mut Out) -> Result<Done, Error> {
        let warnings = validate(&self.paths, self.config_format.as_deref())
            .map_err(|faults| Error::Usage(format!("Config validation failed: {faults}")))?;
        if !self.quiet {
            for warning in warnings {
                print::note(format_args!("Warning: {warning}"));
            }
            out.line("Configuration is valid!")?;
        }
        Ok(Done::Well)
    }
}
