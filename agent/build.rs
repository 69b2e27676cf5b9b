//! Packs the files of the web page: the program holds them as they travel. Lays code that runs often side by side.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;

/// Written by `bench/often`.
const OFTEN: &str = "often.ld";
const FOLDER: &str = "src/door/http/ui";
const FILES: [&str; 4] = ["index.html", "page.css", "page.js", "icon.svg"];

fn main() -> io::Result<()> {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?);
    for name in FILES {
        let path = format!("{FOLDER}/{name}");
        let mut packer = GzEncoder::new(File::create(out.join(format!("{name}.gz")))?, Compression::best());
        packer.write_all(&fs::read(&path)?)?;
        packer.finish()?;
        writeln!(io::stdout(), "cargo::rerun-if-changed={path}")?;
    }
    order()
}

/// Tells the linker which functions agents run through after their start. Nothing but their place changes.
///
/// Code comes into memory in pieces of 64 KB around what is used. Strewn over the program, what an idle agent uses brought in two
/// thirds of it, 10 MB. The script is one that GNU ld and lld understand; others are left alone.
fn order() -> io::Result<()> {
    let told = |name| std::env::var(name).unwrap_or_default();
    let known = told("TARGET").contains("-linux-") && !told("CARGO_ENCODED_RUSTFLAGS").contains("fuse-ld");
    writeln!(io::stdout(), "cargo::rerun-if-changed={OFTEN}")?;
    if known && told("PROFILE") == "release" {
        writeln!(io::stdout(), "cargo::rustc-link-arg-bin=muster=-Wl,-T,{}/{OFTEN}", told("CARGO_MANIFEST_DIR"))?;
    }
    Ok(())
}
