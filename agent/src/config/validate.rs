//! `muster validate`: whether files could be started with, without starting.

use std::path::PathBuf;

use super::address::Host;
use super::fault::{Fault, Faults};
use super::merge::{Format, Written};
use super::settled::Config;
use super::tree::At;

/// Reads files and directories as `muster agent` would and says what is worth a warning, or all that is wrong. What may
/// come from flags (the data directory, the role) is not missed, and neither are addresses of another host.
pub(crate) fn validate(paths: &[PathBuf], format: Option<Format>, host: &Host) -> Result<Vec<String>, Faults> {
    read(paths, format, host).map(|(_, warnings)| warnings)
}

/// What files and directories mean, by the same rules.
pub(crate) fn understood(paths: &[PathBuf], format: Option<Format>, host: &Host) -> Result<Config, Faults> {
    read(paths, format, host).map(|(config, _)| config)
}

fn read(paths: &[PathBuf], format: Option<Format>, host: &Host) -> Result<(Config, Vec<String>), Faults> {
    let mut written = Written::read(paths, format);
    if written.files.is_empty() && written.faults.is_empty() {
        written.faults.extend(paths.iter().map(|path| Fault {
            at: At::whole(path.to_string_lossy()),
            key: String::new(),
            value: String::new(),
            wanted: "holds no *.toml, *.json or *.hcl file".to_owned(),
        }));
    }
    written.lenient = true;
    Config::new(written, false, host)
}
