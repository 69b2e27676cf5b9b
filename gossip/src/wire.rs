//! Bytes on the wire: what is written, and a reader that takes nothing on trust.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::BufMut;
use uuid::Uuid;

/// Bytes are not what they should be. Nothing was changed by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are cut short or out of bounds")]
pub(crate) struct Malformed;

/// Takes values off the front of some bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Nothing may be left.
    pub(crate) fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed) }
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(crate) fn flag(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }

    pub(crate) fn uuid(&mut self) -> Result<Uuid, Malformed> {
        Ok(Uuid::from_bytes(self.array()?))
    }

    /// A UUID, or none where it is nil.
    pub(crate) fn some_uuid(&mut self) -> Result<Option<Uuid>, Malformed> {
        Ok(Some(self.uuid()?).filter(|uuid| !uuid.is_nil()))
    }

    pub(crate) fn ip(&mut self) -> Result<IpAddr, Malformed> {
        match self.u8()? {
            4 => Ok(IpAddr::V4(Ipv4Addr::from(self.array::<4>()?))),
            6 => Ok(IpAddr::V6(Ipv6Addr::from(self.array::<16>()?))),
            _ => Err(Malformed),
        }
    }

    pub(crate) fn some_ip(&mut self) -> Result<Option<IpAddr>, Malformed> {
        if self.flag()? { self.ip().map(Some) } else { Ok(None) }
    }

    pub(crate) fn addr(&mut self) -> Result<SocketAddr, Malformed> {
        let ip = self.ip()?;
        Ok(SocketAddr::new(ip, self.u16()?))
    }

    /// A text behind its length in two bytes.
    pub(crate) fn text(&mut self) -> Result<String, Malformed> {
        let length = self.u16()?;
        let bytes = self.bytes(length.into())?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Malformed)
    }

    /// Bytes behind their length in two bytes.
    pub(crate) fn block(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u16()?;
        self.bytes(length.into())
    }
}

/// Values to the end of a buffer; the pair of each is in [`Reader`].
pub(crate) trait Put: BufMut {
    fn put_uuid(&mut self, uuid: Uuid) {
        self.put_slice(uuid.as_bytes());
    }

    fn put_some_uuid(&mut self, uuid: Option<Uuid>) {
        self.put_uuid(uuid.unwrap_or_default());
    }

    fn put_ip(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => {
                self.put_u8(4);
                self.put_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                self.put_u8(6);
                self.put_slice(&ip.octets());
            }
        }
    }

    fn put_some_ip(&mut self, ip: Option<IpAddr>) {
        self.put_u8(ip.is_some().into());
        if let Some(ip) = ip {
            self.put_ip(ip);
        }
    }

    fn put_addr(&mut self, addr: SocketAddr) {
        self.put_ip(addr.ip());
        self.put_u16(addr.port());
    }

    /// A text behind its length; what does not fit into two bytes of length is cut at a character.
    fn put_text(&mut self, text: &str) {
        let text = &text[..text.floor_char_boundary(u16::MAX.into())];
        self.put_block(text.as_bytes());
    }

    /// Bytes behind their length; the caller has bounded them.
    fn put_block(&mut self, bytes: &[u8]) {
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        self.put_u16(length);
        self.put_slice(&bytes[..length.into()]);
    }
}

impl<B: BufMut> Put for B {}

/// A hash that is the same on every machine, and no part of which is a simple function of another: FNV-1a, then SplitMix64's mixer.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ hash >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_read() {
        let mut bytes = Vec::new();
        bytes.put_addr("[2001:db8::1]:8301".parse().expect("an address"));
        bytes.put_some_ip(None);
        bytes.put_text("größe");
        bytes.put_some_uuid(None);
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.addr().expect("it was put").to_string(), "[2001:db8::1]:8301");
        assert_eq!(reader.some_ip(), Ok(None));
        assert_eq!(reader.text().as_deref(), Ok("größe"));
        assert_eq!(reader.some_uuid(), Ok(None));
        assert_eq!(reader.end(), Ok(()));
    }

    #[test]
    fn every_cut_is_noticed() {
        let mut bytes = Vec::new();
        bytes.put_addr("127.0.0.1:1".parse().expect("an address"));
        bytes.put_text("abc");
        for cut in 0..bytes.len() {
            let mut reader = Reader::new(&bytes[..cut]);
            assert!(reader.addr().and_then(|_| reader.text()).is_err(), "cut at {cut}");
        }
    }
}
