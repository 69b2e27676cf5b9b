//! Who this agent is: role, directory, datacenter, node.

use std::path::PathBuf;

use muster_catalog::{Meta, NodeName};
use smol_str::SmolStr;

use super::{Meaning, text};
use crate::config::address::Host;
use crate::config::file::ConfigFile;
use crate::config::names::{META_PAIRS_MAX, check_meta_pair, is_label};
use crate::config::read::Given;

impl Meaning {
    pub(super) fn data_dir(&mut self, file: &ConfigFile) -> Option<PathBuf> {
        match text(&file.data_dir) {
            _ if self.dev => None,
            Some(given) => Some(PathBuf::from(&given.value)),
            None => {
                self.missing("data_dir", "must be given (flag -data-dir), or start with -dev to keep everything in memory");
                None
            }
        }
    }

    pub(super) fn datacenter(&mut self, key: &str, given: &Option<Given<String>>) -> Option<String> {
        let given = text(given)?;
        let lower = given.value.to_ascii_lowercase();
        if lower.len() > 63 || !lower.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_') {
            self.bad_text(key, given, "must consist of at most 63 letters, digits, - and _");
            return None;
        }
        Some(lower)
    }

    pub(super) fn node_name(&mut self, file: &ConfigFile, host: &Host) -> Option<NodeName> {
        let given = text(&file.node_name);
        let name = given.map_or(host.name.as_str(), |given| given.value.as_str());
        let checked = if name.contains(|c: char| c.is_whitespace() || c == '"' || c == '\'') {
            Err("must not hold blanks or quotes".to_owned())
        } else {
            NodeName::new(name).map_err(|error| error.to_string())
        };
        match (checked, given) {
            (Ok(checked), _) => {
                if !is_label(name) {
                    self.warnings.push(format!("node name {name:?} is no DNS label: it cannot be looked up over DNS"));
                }
                Some(checked)
            }
            (Err(wanted), Some(given)) => {
                self.bad_text("node_name", given, wanted);
                None
            }
            (Err(wanted), None) => {
                self.missing("node_name", format!("must be given, because the host's name {name:?} {wanted}"));
                NodeName::new("unnamed").ok()
            }
        }
    }

    pub(super) fn node_id(&mut self, file: &ConfigFile) -> Option<uuid::Uuid> {
        let given = text(&file.node_id)?;
        let parsed = uuid::Uuid::try_parse(&given.value.to_ascii_lowercase());
        if parsed.is_err() || given.value.len() != 36 {
            self.bad_text("node_id", given, "must be a UUID such as 6f9619ff-8b86-d011-b42d-00c04fc964ff");
        }
        parsed.ok()
    }

    pub(super) fn node_meta(&mut self, file: &ConfigFile) -> Meta {
        let Some(pairs) = &file.node_meta else { return Meta::new() };
        let count = pairs.len();
        for (key, given) in pairs {
            if let Err(wanted) = check_meta_pair(key, &given.value) {
                self.bad_text(&format!("node_meta.{key}"), given, wanted);
            }
        }
        if let Some((_, given)) = pairs.iter().next_back().filter(|_| count > META_PAIRS_MAX) {
            self.fault("node_meta", given, format!("{count} pairs"), format!("must be at most {META_PAIRS_MAX}"));
        }
        pairs.iter().map(|(key, given)| (SmolStr::new(key), SmolStr::new(&given.value))).collect()
    }
}
