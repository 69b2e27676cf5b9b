//! What a command reads besides its arguments: files and standard input, never more than it can hold.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::error::Error;

pub(crate) fn file(path: &Path, bytes_max: usize) -> Result<Vec<u8>, Error> {
    let fault = |source| Error::Read { path: path.to_owned(), source };
    bounded(File::open(path).map_err(fault)?, path, bytes_max)
}

pub(crate) fn stdin(bytes_max: usize) -> Result<Vec<u8>, Error> {
    bounded(io::stdin().lock(), Path::new("standard input"), bytes_max)
}

fn bounded(from: impl Read, path: &Path, bytes_max: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    from.take(bytes_max as u64 + 1).read_to_end(&mut bytes).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    if bytes.len() > bytes_max {
        return Err(Error::File { path: path.to_owned(), fault: format!("is larger than {bytes_max} bytes") });
    }
    Ok(bytes)
}
