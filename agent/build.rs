//! Packs the files of the web page: the program holds them as they travel.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;

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
    Ok(())
}
