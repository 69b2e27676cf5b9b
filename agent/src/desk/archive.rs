//! A snapshot as a file: packed by gzip, with what is known of it before the rows. Every byte is under a checksum.

use std::io::{self, BufRead, BufReader, Read, Write};

use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use muster_catalog::{SnapshotError, State, Survey};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How our gzip begins: no name, no time, packed fast. A file that begins otherwise is none of ours, and no bit of it is unchecked.
const GZIP_HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];
/// What stands first within.
const MAGIC: &[u8; 8] = b"musterar";
const VERSION: u16 = 1;
/// Longest head: a few numbers, so this only stops a damaged length.
const HEAD_BYTES_MAX: u32 = 64 << 10;
/// Bytes read from a file at once.
const BUFFER_BYTES: usize = 64 << 10;

/// Where a snapshot was taken. Fields are only added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Origin {
    /// Of this archive.
    pub(crate) id: Uuid,
    /// Up to which entry of the log it goes.
    pub(crate) index: u64,
    /// In which term.
    pub(crate) term: u64,
    /// By the clock of who took it, in milliseconds since 1970.
    pub(crate) at_ms: u64,
    /// Its version of muster.
    pub(crate) muster: String,
    /// Of the archive's own form.
    #[serde(skip)]
    pub(crate) version: u16,
}

/// A file is not restored. Nothing was changed; another file is needed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    /// Something else than an archive of muster, Consul's included, or one of which some bytes are missing or wrong.
    #[error("failed to decompress snapshot: {0}")]
    Foreign(String),
    /// Written by a newer version of muster; upgrade this one.
    #[error("snapshot archive has version {0}, this version of muster reads {VERSION}")]
    Newer(u16),
    /// The rows cannot be read.
    #[error("{0}")]
    Rows(#[from] SnapshotError),
    /// The file itself fails.
    #[error("snapshot cannot be read: {0}")]
    Io(io::Error),
}

impl From<io::Error> for ArchiveError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
                ArchiveError::Foreign(error.to_string())
            }
            _ => ArchiveError::Io(error),
        }
    }
}

/// Writes an archive, piece by piece: no copy of the state is made.
pub(crate) fn write(state: &State, origin: &Origin, to: impl Write) -> io::Result<()> {
    let mut packer = GzEncoder::new(to, Compression::fast());
    let head = rmp_serde::to_vec_named(origin).map_err(io::Error::other)?;
    packer.write_all(MAGIC)?;
    packer.write_all(&VERSION.to_be_bytes())?;
    packer.write_all(&(head.len() as u32).to_be_bytes())?;
    packer.write_all(&head)?;
    state.write_to(&mut packer)?;
    packer.finish()?.flush()
}

/// An archive that is read.
pub(crate) struct Archive<R> {
    pub(crate) origin: Origin,
    rows: GzDecoder<BufReader<R>>,
}

impl<R: Read> Archive<R> {
    /// Reads up to its rows.
    pub(crate) fn open(from: R) -> Result<Self, ArchiveError> {
        let mut from = BufReader::with_capacity(BUFFER_BYTES, from);
        let begin = from.fill_buf()?;
        let length = begin.len().min(GZIP_HEAD.len());
        if begin[..length] != GZIP_HEAD[..length] || length == 0 {
            return Err(ArchiveError::Foreign("this is no snapshot of muster".to_owned()));
        }
        let mut rows = GzDecoder::new(from);
        let mut start = [0; 14];
        rows.read_exact(&mut start)?;
        if start[..8] != *MAGIC {
            return Err(ArchiveError::Foreign("this is no snapshot of muster".to_owned()));
        }
        let version = u16::from_be_bytes([start[8], start[9]]);
        if version != VERSION {
            return Err(ArchiveError::Newer(version));
        }
        let length = u32::from_be_bytes([start[10], start[11], start[12], start[13]]);
        if length > HEAD_BYTES_MAX {
            return Err(ArchiveError::Foreign(format!("a head of {length} bytes")));
        }
        let mut head = vec![0; length as usize];
        rows.read_exact(&mut head)?;
        let mut origin: Origin = muster_catalog::unpack(&head).map_err(|error| ArchiveError::Foreign(error.to_string()))?;
        origin.version = version;
        Ok(Self { origin, rows })
    }

    /// Reads and checks all of it, and says what is in it; of its rows nothing is kept.
    pub(crate) fn survey(mut self, detail: Option<(usize, String)>) -> Result<(Origin, Survey), ArchiveError> {
        let survey = Survey::of(&mut self.rows, detail)?;
        if self.rows.read(&mut [0])? != 0 || !self.rows.get_mut().fill_buf()?.is_empty() {
            return Err(ArchiveError::Foreign("bytes follow its end".to_owned()));
        }
        Ok((self.origin, survey))
    }

    /// The next bytes of its rows, at most so many; none at the end.
    pub(crate) fn piece(&mut self, bytes_max: usize) -> io::Result<Vec<u8>> {
        let mut piece = Vec::with_capacity(bytes_max);
        (&mut self.rows).take(bytes_max as u64).read_to_end(&mut piece)?;
        Ok(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive() -> Vec<u8> {
        let origin = Origin { id: Uuid::from_u128(1), index: 7, term: 2, at_ms: 3, muster: "0".to_owned(), version: 0 };
        let mut bytes = Vec::new();
        write(&State::default(), &origin, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = archive();
        assert_eq!(bytes[..10], GZIP_HEAD);
        let (origin, survey) = Archive::open(&*bytes).unwrap().survey(None).unwrap();
        assert_eq!((origin.index, origin.term, origin.version, survey.index), (7, 2, 1, 0));
    }

    #[test]
    fn a_cut_or_altered_or_lengthened_archive_is_refused() {
        let bytes = archive();
        let read = |bytes: &[u8]| Archive::open(bytes).and_then(|archive| archive.survey(None));
        for end in 0..bytes.len() {
            assert!(read(&bytes[..end]).is_err(), "cut at {end}");
        }
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 0xff;
            assert!(read(&other).is_err(), "byte {at}");
        }
        assert!(read(&[&bytes[..], b"x"].concat()).is_err());
        assert!(read(b"junk").unwrap_err().to_string().contains("no snapshot of muster"));
    }
}
