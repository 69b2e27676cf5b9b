//! The little of tar that archives need: plain files one after another, in blocks, and what says where one ends.

use std::io::{self, Read, Write};

pub(super) const BLOCK_BYTES: usize = 512;
/// What a size in octal digits reaches to; above it stands in binary, as GNU's tar does.
const OCTAL_MAX: u64 = 0o77777777777;
/// Where the fields of a header lie.
mod field {
    use std::ops::Range;

    pub(super) const NAME: Range<usize> = 0..100;
    pub(super) const MODE: Range<usize> = 100..108;
    pub(super) const OWNER: Range<usize> = 108..116;
    pub(super) const GROUP: Range<usize> = 116..124;
    pub(super) const SIZE: Range<usize> = 124..136;
    pub(super) const TIME: Range<usize> = 136..148;
    pub(super) const SUM: Range<usize> = 148..156;
    pub(super) const KIND: usize = 156;
    pub(super) const FORM: Range<usize> = 257..265;
}

/// What stands before a file's bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) name: String,
    pub(crate) bytes: u64,
}

impl Header {
    /// `seconds` is the file's time, since 1970.
    pub(crate) fn write(&self, seconds: u64, mut to: impl Write) -> io::Result<()> {
        let mut block = [0; BLOCK_BYTES];
        if self.name.len() >= field::NAME.len() {
            return Err(io::Error::other(format!("{:?} is too long a name for an archive", self.name)));
        }
        block[field::NAME][..self.name.len()].copy_from_slice(self.name.as_bytes());
        octal(&mut block[field::MODE], 0o600);
        octal(&mut block[field::OWNER], 0);
        octal(&mut block[field::GROUP], 0);
        match self.bytes {
            0..=OCTAL_MAX => octal(&mut block[field::SIZE], self.bytes),
            _ => {
                block[field::SIZE][0] = 0x80;
                block[field::SIZE][4..].copy_from_slice(&self.bytes.to_be_bytes());
            }
        }
        octal(&mut block[field::TIME], seconds.min(OCTAL_MAX));
        block[field::KIND] = b'0';
        block[field::FORM].copy_from_slice(b"ustar\x0000");
        let sum = sum(&block);
        octal(&mut block[field::SUM], sum);
        to.write_all(&block)
    }

    /// Of a plain file; anything else is none of a snapshot's.
    pub(super) fn read(block: &[u8; BLOCK_BYTES]) -> Option<Self> {
        if !block[field::FORM].starts_with(b"ustar")
            || ![0, b'0'].contains(&block[field::KIND])
            || number(&block[field::SUM])? != sum(block)
        {
            return None;
        }
        let name = block[field::NAME].split(|byte| *byte == 0).next()?;
        let size = &block[field::SIZE];
        let bytes = match size {
            [0x80, 0, 0, 0, binary @ ..] => u64::from_be_bytes(binary.try_into().ok()?),
            digits => number(digits)?,
        };
        Some(Self { name: std::str::from_utf8(name).ok()?.to_owned(), bytes })
    }
}

/// How many bytes a file of this length is followed by, to the end of its last block.
pub(super) fn padding(bytes: u64) -> usize {
    (BLOCK_BYTES - (bytes % BLOCK_BYTES as u64) as usize) % BLOCK_BYTES
}

pub(crate) fn pad(bytes: u64, mut to: impl Write) -> io::Result<()> {
    to.write_all(&[0; BLOCK_BYTES][..padding(bytes)])
}

/// What an archive ends with.
pub(crate) fn end(mut to: impl Write) -> io::Result<()> {
    to.write_all(&[0; 2 * BLOCK_BYTES])
}

/// Reads what follows a file.
pub(super) fn skip(bytes: u64, mut from: impl Read) -> io::Result<()> {
    from.read_exact(&mut [0; BLOCK_BYTES][..padding(bytes)])
}

/// Digits up to the last byte of a field, which ends it.
fn octal(field: &mut [u8], number: u64) {
    let Some((_, digits)) = field.split_last_mut() else { return };
    let mut left = number;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (left & 7) as u8;
        left >>= 3;
    }
}

fn number(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    u64::from_str_radix(text, 8).ok()
}

/// Of all bytes of a header, as if its own field held spaces.
fn sum(block: &[u8; BLOCK_BYTES]) -> u64 {
    let byte = |(at, byte): (usize, &u8)| if field::SUM.contains(&at) { u64::from(b' ') } else { u64::from(*byte) };
    block.iter().enumerate().map(byte).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_says_name_and_length_however_long() {
        for bytes in [0, 1, 511, OCTAL_MAX, OCTAL_MAX + 1, u64::MAX] {
            let header = Header { name: "state.bin".to_owned(), bytes };
            let mut block = Vec::new();
            header.write(1_700_000_000, &mut block).unwrap();
            assert_eq!(Header::read(block.as_slice().try_into().unwrap()), Some(header));
        }
    }

    #[test]
    fn a_name_that_does_not_fit_is_refused() {
        let header = |length: usize| Header { name: "x".repeat(length), bytes: 0 };
        assert!(header(99).write(0, io::sink()).is_ok() && header(100).write(0, io::sink()).is_err());
    }

    #[test]
    fn an_altered_header_is_none() {
        let mut block = Vec::new();
        Header { name: "meta.json".to_owned(), bytes: 7 }.write(1, &mut block).unwrap();
        let block: [u8; BLOCK_BYTES] = block.try_into().unwrap();
        for at in 0..BLOCK_BYTES {
            let mut other = block;
            other[at] ^= 1;
            assert_eq!(Header::read(&other), None, "byte {at}");
        }
    }
}
