//! A snapshot as a file: the archive that Consul's own command line checks and inspects, with rows of ours. Every byte of them is
//! under a checksum.
//!
//! ```text
//! gzip( tar( meta.json: of whom, up to where · state.bin: the catalog's own stream · SHA256SUMS: of these two ) )
//! ```
//!
//! tar says a file's length before its bytes, so that the rows are written twice: counted first, then sent. A state does not change,
//! so the second time gives the same bytes, and neither a copy in memory nor a file beside the data is needed.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};

use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use muster_catalog::{SnapshotError, State, Survey};
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use self::tar::{BLOCK_BYTES, Header};

pub(crate) mod tar;

const META: &str = "meta.json";
const ROWS: &str = "state.bin";
const SUMS: &str = "SHA256SUMS";
/// Of the archive. Consul's have 0 and 1, and its servers refuse another one before they change anything.
const VERSION: u16 = 2;
/// How every gzip begins.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// What stands first in an archive of version 1, which is no tar: then 2 bytes of version, 4 of length, [`Origin`], and the rows.
const FIRST_MAGIC: &[u8; 8] = b"musterar";
const FIRST_VERSION: u16 = 1;
const FIRST_START_BYTES: usize = 14;
/// Longest description: a few numbers and a line a server, so this only stops a damaged length.
const META_BYTES_MAX: usize = 64 << 10;
/// Bytes read from a file at once.
const BUFFER_BYTES: usize = 64 << 10;

/// Where a snapshot was taken, by the names that Consul has for it. Fields are only added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Origin {
    /// Of the archive's own form.
    pub(crate) version: u16,
    /// Of this archive.
    #[serde(rename = "ID", alias = "id")]
    pub(crate) id: Uuid,
    /// Up to which entry of the log it goes.
    #[serde(alias = "index")]
    pub(crate) index: u64,
    /// In which term.
    #[serde(alias = "term")]
    pub(crate) term: u64,
    /// Of whom the log was.
    pub(crate) configuration: Configuration,
    /// Which entry of the log made them such.
    pub(crate) configuration_index: u64,
    /// Bytes of the rows; version 1 does not say.
    pub(crate) size: u64,
    /// By the clock of who took it, in milliseconds since 1970.
    #[serde(alias = "at_ms")]
    pub(crate) at_ms: u64,
    /// Its version of muster.
    #[serde(alias = "muster")]
    pub(crate) muster: String,
}

/// The servers of raft.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Configuration {
    pub(crate) servers: Vec<Peer>,
}

/// One of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Peer {
    /// 0 has a vote, 1 has none.
    pub(crate) suffrage: u8,
    #[serde(rename = "ID")]
    pub(crate) id: String,
    pub(crate) address: String,
}

/// A file is not restored. Nothing was changed; another file is needed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    /// Something else than an archive of muster, or one of which some bytes are missing or wrong.
    #[error("failed to decompress snapshot: {0}")]
    Foreign(String),
    /// Consul's own; its rows come here out of a running Consul.
    #[error("this is a snapshot of Consul, and only Consul can read what is in it: start one with it, then run `muster import`")]
    OfConsul,
    /// Written by a newer version of muster; upgrade this one.
    #[error("snapshot archive has version {0}, this version of muster reads {VERSION}")]
    Newer(u64),
    /// The rows cannot be read.
    #[error("{0}")]
    Rows(#[from] SnapshotError),
    /// The file itself fails.
    #[error("snapshot cannot be read: {0}")]
    Io(io::Error),
}

impl ArchiveError {
    fn foreign() -> Self {
        Self::Foreign("this is no snapshot of muster".to_owned())
    }
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
pub(crate) fn write(state: &State, mut origin: Origin, to: impl Write) -> io::Result<()> {
    let mut counted = Summed::new(io::sink(), None);
    state.write_to(&mut counted)?;
    (origin.version, origin.size) = (VERSION, counted.bytes);
    let seconds = origin.at_ms / 1000;
    let meta = serde_json::to_vec(&origin).map_err(io::Error::other)?;
    let mut packer = GzEncoder::new(to, Compression::fast());
    let mut sums = String::new();
    file(META, meta.len() as u64, seconds, &mut packer, &mut sums, |to| to.write_all(&meta))?;
    file(ROWS, origin.size, seconds, &mut packer, &mut sums, |to| state.write_to(to))?;
    let listed = sums.clone();
    file(SUMS, listed.len() as u64, seconds, &mut packer, &mut sums, |to| to.write_all(listed.as_bytes()))?;
    tar::end(&mut packer)?;
    packer.finish()?.flush()
}

/// One file of the archive, which must have as many bytes as were announced; its line is added to the sums.
fn file<W: Write>(
    name: &str,
    bytes: u64,
    seconds: u64,
    to: &mut W,
    sums: &mut String,
    content: impl FnOnce(&mut Summed<&mut W>) -> io::Result<()>,
) -> io::Result<()> {
    Header { name: name.to_owned(), bytes }.write(seconds, &mut *to)?;
    let mut written = Summed::new(&mut *to, Some(Context::new(&SHA256)));
    content(&mut written)?;
    if written.bytes != bytes {
        return Err(io::Error::other(format!("{name} has {} bytes and not {bytes}", written.bytes)));
    }
    sums.push_str(&line(written.sum, name));
    tar::pad(bytes, to)
}

/// As `sha256sum -c` reads it.
fn line(sum: Option<Context>, name: &str) -> String {
    let mut line = String::new();
    for byte in sum.into_iter().flat_map(|sum| sum.finish().as_ref().to_vec()) {
        let _ = write!(line, "{byte:02x}"); // writing to a text does not fail
    }
    line + "  " + name + "\n"
}

/// Counts what passes, and sums it up.
struct Summed<T> {
    inner: T,
    bytes: u64,
    sum: Option<Context>,
}

impl<T> Summed<T> {
    fn new(inner: T, sum: Option<Context>) -> Self {
        Self { inner, bytes: 0, sum }
    }

    fn passed(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        if let Some(sum) = &mut self.sum {
            sum.update(bytes);
        }
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.inner.write(bytes)?;
        self.passed(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(to)?;
        self.passed(&to[..length]);
        Ok(length)
    }
}

type Unpacker<R> = GzDecoder<BufReader<R>>;

/// An archive that is read.
pub(crate) struct Archive<R> {
    pub(crate) origin: Origin,
    rows: Summed<io::Take<Unpacker<R>>>,
    /// The line of the file before the rows, where they are summed up.
    sums: Option<String>,
}

impl<R: Read> Archive<R> {
    /// Reads up to its rows.
    pub(crate) fn open(from: R) -> Result<Self, ArchiveError> {
        let mut from = BufReader::with_capacity(BUFFER_BYTES, from);
        if !from.fill_buf()?.starts_with(&GZIP) {
            return Err(ArchiveError::foreign());
        }
        let mut from = GzDecoder::new(from);
        let mut block = [0; BLOCK_BYTES];
        from.read_exact(&mut block[..FIRST_START_BYTES])?;
        if block.starts_with(FIRST_MAGIC) {
            return Self::open_first(&block[FIRST_MAGIC.len()..FIRST_START_BYTES], from);
        }
        from.read_exact(&mut block[FIRST_START_BYTES..])?;
        let header = Header::read(&block).filter(|header| header.name == META).ok_or_else(ArchiveError::foreign)?;
        let meta = small(&header, &mut from)?;
        let mut sum = Context::new(&SHA256);
        sum.update(&meta);
        let meta: serde_json::Value = serde_json::from_slice(&meta).map_err(|_| ArchiveError::foreign())?;
        match meta["Version"].as_u64() {
            Some(0 | 1) => return Err(ArchiveError::OfConsul),
            Some(version) if version == u64::from(VERSION) => {}
            Some(version) => return Err(ArchiveError::Newer(version)),
            None => return Err(ArchiveError::foreign()),
        }
        let origin = serde_json::from_value(meta).map_err(|error| ArchiveError::Foreign(error.to_string()))?;
        let header = next(&mut from, ROWS)?;
        let rows = Summed::new(from.take(header.bytes), Some(Context::new(&SHA256)));
        Ok(Self { origin, rows, sums: Some(line(Some(sum), META)) })
    }

    fn open_first(start: &[u8], mut from: Unpacker<R>) -> Result<Self, ArchiveError> {
        let [version @ .., a, b, c, d] = start else { return Err(ArchiveError::foreign()) };
        let version = version.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        if version != u64::from(FIRST_VERSION) {
            return Err(ArchiveError::Newer(version));
        }
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        if length > META_BYTES_MAX {
            return Err(ArchiveError::Foreign(format!("a head of {length} bytes")));
        }
        let mut head = vec![0; length];
        from.read_exact(&mut head)?;
        let origin: Origin = muster_catalog::unpack(&head).map_err(|error| ArchiveError::Foreign(error.to_string()))?;
        let origin = Origin { version: FIRST_VERSION, ..origin };
        Ok(Self { origin, rows: Summed::new(from.take(u64::MAX), None), sums: None })
    }

    /// Reads and checks all of it, and says what is in it; of its rows nothing is kept.
    pub(crate) fn survey(mut self, detail: Option<(usize, String)>) -> Result<(Origin, Survey), ArchiveError> {
        let survey = Survey::of(&mut self.rows, detail)?;
        if self.rows.read(&mut [0])? != 0 {
            return Err(ArchiveError::Foreign("bytes follow its rows".to_owned()));
        }
        let Summed { inner, bytes, sum } = self.rows;
        let mut from = inner.into_inner();
        if let Some(sums) = self.sums {
            tar::skip(bytes, &mut from)?;
            let header = next(&mut from, SUMS)?;
            if small(&header, &mut from)? != (sums + &line(sum, ROWS)).as_bytes() {
                return Err(ArchiveError::Foreign("its checksums do not agree".to_owned()));
            }
            let mut end = [0; 2 * BLOCK_BYTES];
            from.read_exact(&mut end)?;
            if from.read(&mut [0])? != 0 || end != [0; 2 * BLOCK_BYTES] {
                return Err(ArchiveError::Foreign("bytes follow its end".to_owned()));
            }
        }
        if !from.get_mut().fill_buf()?.is_empty() {
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

/// The header of the file that must be next.
fn next(from: &mut impl Read, name: &str) -> Result<Header, ArchiveError> {
    let mut block = [0; BLOCK_BYTES];
    from.read_exact(&mut block)?;
    let found = Header::read(&block).filter(|header| header.name == name);
    found.ok_or_else(|| ArchiveError::Foreign(format!("it has no {name}")))
}

/// A file that is no longer than a description.
fn small(header: &Header, from: &mut impl Read) -> Result<Vec<u8>, ArchiveError> {
    if header.bytes > META_BYTES_MAX as u64 {
        return Err(ArchiveError::Foreign(format!("{} has {} bytes", header.name, header.bytes)));
    }
    let mut content = vec![0; header.bytes as usize];
    from.read_exact(&mut content)?;
    tar::skip(header.bytes, from)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin { id: Uuid::from_u128(1), index: 7, term: 2, at_ms: 3, muster: "0".to_owned(), ..Origin::default() }
    }

    fn archive() -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&State::default(), origin(), &mut bytes).unwrap();
        bytes
    }

    fn read(bytes: &[u8]) -> Result<(Origin, Survey), ArchiveError> {
        Archive::open(bytes).and_then(|archive| archive.survey(None))
    }

    #[test]
    fn what_is_written_is_read() {
        let (read, survey) = read(&archive()).unwrap();
        assert!(read.size > 0);
        assert_eq!((Origin { size: 0, ..read }, survey.index), (Origin { version: VERSION, ..origin() }, 0));
    }

    #[test]
    fn a_cut_or_altered_or_lengthened_archive_is_refused() {
        let bytes = archive();
        for end in 0..bytes.len() {
            assert!(read(&bytes[..end]).is_err(), "cut at {end}");
        }
        // Time, speed and system of who packed it say nothing of what is packed.
        for at in (0..4).chain(10..bytes.len()) {
            let mut other = bytes.clone();
            other[at] ^= 0xff;
            assert!(read(&other).is_err(), "byte {at}");
        }
        assert!(read(&[&bytes[..], b"x"].concat()).is_err());
        assert!(read(b"junk").unwrap_err().to_string().contains("no snapshot of muster"));
    }

    /// Packed as whoever else has gzip and tar would.
    fn packed(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut packer = GzEncoder::new(Vec::new(), Compression::best());
        for (name, content) in files {
            Header { name: (*name).to_owned(), bytes: content.len() as u64 }.write(0, &mut packer).unwrap();
            packer.write_all(content).unwrap();
            tar::pad(content.len() as u64, &mut packer).unwrap();
        }
        tar::end(&mut packer).unwrap();
        packer.finish().unwrap()
    }

    #[test]
    fn an_archive_of_consul_is_told_apart_and_says_the_way() {
        let meta = br#"{"Version":1,"ID":"2-11-1700000000000","Index":11,"Term":2,"Peers":"","Size":3}"#;
        let error = read(&packed(&[(META, meta), (ROWS, b"abc"), (SUMS, b"")])).unwrap_err();
        assert!(error.to_string().contains("muster import"), "{error}");
    }

    #[test]
    fn what_the_sums_do_not_hold_is_refused() {
        let mut rows = Vec::new();
        State::default().write_to(&mut rows).unwrap();
        let meta = serde_json::to_vec(&Origin { version: VERSION, ..origin() }).unwrap();
        let sum = |name: &str, content: &[u8]| {
            let mut sum = Context::new(&SHA256);
            sum.update(content);
            line(Some(sum), name)
        };
        let sums = sum(META, &meta) + &sum(ROWS, &rows);
        assert!(read(&packed(&[(META, &meta), (ROWS, &rows), (SUMS, sums.as_bytes())])).is_ok());
        let other = sum(META, b"{}") + &sum(ROWS, &rows);
        assert!(read(&packed(&[(META, &meta), (ROWS, &rows), (SUMS, other.as_bytes())])).is_err());
        assert!(read(&packed(&[(META, &meta), (ROWS, &rows)])).is_err());
        assert!(read(&packed(&[(ROWS, &rows), (META, &meta), (SUMS, sums.as_bytes())])).is_err());
        let newer = br#"{"Version":3}"#;
        assert!(matches!(read(&packed(&[(META, newer)])), Err(ArchiveError::Newer(3))));
    }
}
