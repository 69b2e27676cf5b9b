//! Files and directories, read in the order they were named and merged by Consul's rules:
//! of scalars the last one counts, lists are appended, maps and sections are merged.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::fault::Fault;
use super::file::ConfigFile;
use super::read::{Dialect, Merge, Reading};
use super::section::read_what_is_right;
use super::tree::{At, Node};
use super::{hcl, json, toml};

/// Largest file that is read: 10 000 service definitions with checks are under 8 MiB; beyond this it is not a configuration.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The languages of configuration files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// JSON.
    Json,
    /// HCL.
    Hcl,
    /// TOML.
    Toml,
}

impl Format {
    /// The language a file's name says.
    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "json" => Some(Format::Json),
            "hcl" => Some(Format::Hcl),
            "toml" => Some(Format::Toml),
            _ => None,
        }
    }
}

/// All that files said, merged, with what is wrong in them.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// The merged configuration; of files with faults only what could be read.
    pub(crate) file: ConfigFile,
    /// What is wrong.
    pub(crate) faults: Vec<Fault>,
    /// Keys that are left out on purpose, once each.
    pub(crate) left_out: BTreeSet<String>,
    /// Keys without effect yet, once each.
    pub(crate) later: BTreeSet<String>,
    /// The files that were read.
    pub(crate) files: Vec<PathBuf>,
    /// Whether flags may yet give what is missing.
    pub(crate) lenient: bool,
}

impl Written {
    /// Reads files and directories in order; with `format`, all files are taken to be in it.
    pub(crate) fn read(paths: &[PathBuf], format: Option<Format>) -> Self {
        let mut written = Self::default();
        for path in paths {
            if path.is_dir() {
                written.add_directory(path, format);
            } else {
                written.add_file(path, format);
            }
        }
        written
    }

    /// Adds a text as if it were a file of that name.
    pub(crate) fn add_text(&mut self, source: &str, text: &str, format: Format) {
        let node = match format {
            Format::Json => json::parse(source, text),
            Format::Hcl => hcl::parse(source, text),
            Format::Toml => toml::parse(source, text),
        };
        match node {
            Ok(node) => self.add_tree(&node),
            Err(fault) => self.faults.push(fault),
        }
    }

    /// One warning that names all keys left out on purpose, and one for those of later versions.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let list = |keys: &BTreeSet<String>| keys.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let mut warnings = Vec::new();
        if !self.left_out.is_empty() {
            warnings
                .push(format!("accepted and ignored, because muster leaves these parts of Consul out: {}", list(&self.left_out)));
        }
        let later: BTreeSet<String> = self.later.iter().filter(|key| !self.lent_to_checks(key)).cloned().collect();
        if !later.is_empty() {
            warnings.push(format!("accepted, without effect in this version: {}", list(&later)));
        }
        warnings
    }

    /// Whether a key of TLS that has no other effect yet has this one.
    fn lent_to_checks(&self, key: &str) -> bool {
        let key = ["tls.internal_rpc.", "tls.defaults."].iter().find_map(|of_use| key.strip_prefix(of_use)).unwrap_or(key);
        self.file.enable_agent_tls_for_checks.as_ref().is_some_and(|given| given.value)
            && matches!(key, "ca_file" | "ca_path" | "cert_file" | "key_file" | "server_name")
    }

    /// Adds a tree: of a file, or of a flag.
    pub(super) fn add_tree(&mut self, node: &Node) {
        let mut reading = Reading::new(Dialect::File);
        self.file.merge(read_what_is_right(node, &mut reading));
        self.faults.append(&mut reading.faults);
        self.left_out.extend(reading.left_out);
        self.later.extend(reading.later);
    }

    fn add_directory(&mut self, path: &Path, format: Option<Format>) {
        let entries = match std::fs::read_dir(path).and_then(|entries| entries.collect::<Result<Vec<_>, _>>()) {
            Ok(entries) => entries,
            Err(error) => return self.whole_file(path, format!("cannot be listed: {error}")),
        };
        let mut names: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).filter(|path| !path.is_dir()).collect();
        names.sort();
        for name in names {
            // Editors' and packagers' remains lie beside configurations.
            if Format::of(&name).is_some() {
                self.add_file(&name, format);
            }
        }
    }

    fn add_file(&mut self, path: &Path, format: Option<Format>) {
        let Some(format) = format.or_else(|| Format::of(path)) else {
            return self.whole_file(
                path,
                "the name must end in .toml, .json or .hcl, or -config-format must say the language".to_owned(),
            );
        };
        match read_text(path) {
            Ok(text) => {
                self.add_text(&path.to_string_lossy(), &text, format);
                self.files.push(path.to_owned());
            }
            Err(wanted) => self.whole_file(path, wanted),
        }
    }

    fn whole_file(&mut self, path: &Path, wanted: String) {
        self.faults.push(Fault { at: At::whole(path.to_string_lossy()), key: String::new(), value: String::new(), wanted });
    }
}

fn read_text(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("is larger than {FILE_BYTES_MAX} bytes: split it"));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..good].iter().filter(|b| **b == b'\n').count() + 1;
        format!("is not UTF-8 text (line {line})")
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}
