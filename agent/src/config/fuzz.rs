//! What a fuzzer may throw at configuration: a file in each of its forms, read and understood.

use super::merge::{Format, Written};
use super::{Config, Host};

/// A file that ends in `.hcl`.
pub fn hcl(bytes: &[u8]) {
    understand(bytes, Format::Hcl);
}

/// A file that ends in `.toml`.
pub fn toml(bytes: &[u8]) {
    understand(bytes, Format::Toml);
}

/// A file that ends in `.json`, and with it the files of services and checks.
pub fn json(bytes: &[u8]) {
    understand(bytes, Format::Json);
}

fn understand(bytes: &[u8], format: Format) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut written = Written { lenient: true, ..Written::default() };
    written.add_text("fuzz", text, format);
    let host = Host { name: "host".to_owned(), interfaces: Vec::new() };
    drop(Config::new(written, false, &host));
}
