//! A gossip connection before any socket: greeting, keys of this one connection, pieces of bounded length.
//!
//! The accepting side greets first: magic, oldest and newest version, nonce. The connecting side answers with magic, version, the
//! id of its primary key (zero: none) and a nonce. Both nonces and the gossip key give each direction a key of its own, so that
//! nothing of one connection can be played to another. Then messages travel in pieces: length (4 bytes), then sealed: whether
//! more follows (1 byte), and the bytes.

use ring::aead::{Aad, LessSafeKey};

use crate::error::{Refusal, Why};
use crate::key::{Key, KeyId, Keyring, NO_KEY};
use crate::record::{PROTOCOL_MAX, PROTOCOL_MIN};
use crate::seal::nonce;
use crate::wire::{Malformed, Reader};

const MAGIC: &[u8; 4] = b"MSTR";
/// Bytes of the greeting of the accepting side.
pub(crate) const GREETING_BYTES: usize = 4 + 2 + NONCE_BYTES;
/// Bytes of the answer to it.
pub(crate) const ANSWER_BYTES: usize = 4 + 1 + 4 + NONCE_BYTES;
pub(crate) const NONCE_BYTES: usize = 16;
/// Longest piece: what a peer without a key can make us hold.
pub(crate) const PIECE_BYTES_MAX: usize = 64 * 1024;
/// Longest message: the states and records of some 10,000 members.
pub(crate) const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
const TAG_BYTES: usize = 16;
/// Marks a piece that is a refusal in the clear: the two sides have no key in common to seal it with.
pub(crate) const REFUSAL_MARK: u32 = 1 << 31;

pub(crate) fn greet(nonce: [u8; NONCE_BYTES]) -> Vec<u8> {
    [MAGIC.as_slice(), &[PROTOCOL_MIN, PROTOCOL_MAX], &nonce].concat()
}

/// The connecting side: what to answer to a greeting, and how the connection goes on.
pub(crate) fn answer(greeting: &[u8], key: Option<&Key>, own: [u8; NONCE_BYTES]) -> Result<(Vec<u8>, Sealed), Refusal> {
    let mut from = Reader::new(greeting);
    let read = (|| {
        let magic = from.array::<4>()?;
        Ok::<_, Malformed>((magic, from.u8()?, from.u8()?, from.array::<NONCE_BYTES>()?))
    })();
    let Ok((magic, oldest, newest, theirs)) = read else { return Err(foreign()) };
    if magic != *MAGIC {
        return Err(foreign());
    }
    if oldest > PROTOCOL_MAX || newest < PROTOCOL_MIN {
        return Err(versions((oldest, newest)));
    }
    let id = key.map_or(NO_KEY, Key::id);
    let answer = [MAGIC.as_slice(), &[newest.min(PROTOCOL_MAX)], &id, &own].concat();
    Ok((answer, Sealed::new(key, &[theirs, own].concat(), Side::Connecting)))
}

/// The accepting side: how the connection goes on after the answer.
pub(crate) fn answered(answer: &[u8], ring: &Keyring, own: [u8; NONCE_BYTES]) -> Result<Sealed, Refusal> {
    let mut from = Reader::new(answer);
    let read = (|| Ok::<_, Malformed>((from.array::<4>()?, from.u8()?, from.array::<4>()?, from.array::<NONCE_BYTES>()?)))();
    let Ok((magic, version, id, theirs)) = read else { return Err(foreign()) };
    if magic != *MAGIC {
        return Err(foreign());
    }
    if !(PROTOCOL_MIN..=PROTOCOL_MAX).contains(&version) {
        return Err(versions((version, version)));
    }
    let salt = [own, theirs].concat();
    if id == NO_KEY && ring.primary().is_none() {
        return Ok(Sealed::new(None, &salt, Side::Accepting));
    }
    // Of several keys with one id the first piece tells; four bytes collide once in four billion rings of two.
    let key = ring.by_id(id).next().ok_or_else(|| keys(id, ring))?;
    Ok(Sealed::new(Some(key), &salt, Side::Accepting))
}

fn foreign() -> Refusal {
    Refusal::new(Why::Malformed, "it does not speak muster's gossip")
}

fn versions((oldest, newest): (u8, u8)) -> Refusal {
    let text = format!(
        "gossip protocol versions {oldest} to {newest} on one side, {PROTOCOL_MIN} to {PROTOCOL_MAX} on the other: no version is spoken by both. \
         Upgrade the older agent"
    );
    Refusal::new(Why::Version, text)
}

fn keys(id: KeyId, ring: &Keyring) -> Refusal {
    let text = match (id == NO_KEY, ring.primary().is_none()) {
        (true, _) => "the agent that is asked encrypts gossip, the one that asks has no key: set the same `encrypt` on both",
        (_, true) => "the agent that asks encrypts gossip, the one that is asked has no key: set the same `encrypt` on both",
        _ => "the gossip keys differ: set the same `encrypt` on both, or install the key in the keyring first",
    };
    Refusal::new(Why::Key, text)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Connecting,
    Accepting,
}

/// A connection whose greeting is done.
pub(crate) struct Sealed {
    keys: Option<[LessSafeKey; 2]>,
    sent: u64,
    received: u64,
}

impl Sealed {
    fn new(key: Option<&Key>, salt: &[u8], side: Side) -> Self {
        let keys = key.map(|key| {
            let forth = key.derive(salt, b"muster gossip stream, connecting to accepting");
            let back = key.derive(salt, b"muster gossip stream, accepting to connecting");
            if side == Side::Connecting { [forth, back] } else { [back, forth] }
        });
        Self { keys, sent: 0, received: 0 }
    }

    /// The bytes of a message: pieces with their lengths. None: it is too long.
    pub(crate) fn seal(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        if message.len() > MESSAGE_BYTES_MAX {
            return None;
        }
        let room = PIECE_BYTES_MAX - 1 - TAG_BYTES;
        let mut bytes = Vec::with_capacity(message.len() + 64);
        let mut parts = message.chunks(room).peekable();
        loop {
            let part = parts.next().unwrap_or_default();
            let mut piece = Vec::with_capacity(part.len() + 1 + TAG_BYTES);
            piece.push(parts.peek().is_some().into());
            piece.extend_from_slice(part);
            if let Some([key, _]) = &self.keys {
                key.seal_in_place_append_tag(nonce(self.sent), Aad::empty(), &mut piece).ok()?;
            }
            self.sent += 1;
            bytes.extend_from_slice(&u32::try_from(piece.len()).ok()?.to_be_bytes());
            bytes.append(&mut piece);
            if parts.peek().is_none() {
                return Some(bytes);
            }
        }
    }

    /// Adds a piece to a message; true when the message is whole.
    pub(crate) fn open(&mut self, mut piece: Vec<u8>, message: &mut Vec<u8>) -> Result<bool, Malformed> {
        let open = match &self.keys {
            Some([_, key]) => &*key.open_in_place(nonce(self.received), Aad::empty(), &mut piece).map_err(|_| Malformed)?,
            None => piece.as_slice(),
        };
        self.received += 1;
        let (more, part) = open.split_first().ok_or(Malformed)?;
        if *more > 1 || message.len() + part.len() > MESSAGE_BYTES_MAX || (*more == 1 && part.is_empty()) {
            return Err(Malformed);
        }
        message.extend_from_slice(part);
        Ok(*more == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> Key {
        use base64::Engine;
        Key::parse(&base64::engine::general_purpose::STANDARD.encode([n; 32])).expect("32 bytes")
    }

    fn pair(client: Option<&Key>, server: &Keyring) -> Result<(Sealed, Sealed), Refusal> {
        let (answer, a) = answer(&greet([1; 16]), client, [2; 16])?;
        Ok((a, answered(&answer, server, [1; 16])?))
    }

    fn through(from: &mut Sealed, to: &mut Sealed, message: &[u8]) -> Result<Vec<u8>, Malformed> {
        let bytes = from.seal(message).expect("it is short enough");
        let (mut reader, mut whole) = (Reader::new(&bytes), Vec::new());
        loop {
            let length = reader.u32()?;
            if to.open(reader.bytes(length as usize)?.to_vec(), &mut whole)? {
                reader.end()?;
                return Ok(whole);
            }
        }
    }

    #[test]
    fn messages_of_any_length_travel_both_ways() {
        for ring in [Keyring::default(), Keyring::new([key(1)]).expect("one key")] {
            let (mut a, mut b) = pair(ring.primary(), &ring).expect("the keys agree");
            for length in [0, 1, PIECE_BYTES_MAX - 17, PIECE_BYTES_MAX, 300_000] {
                let message = vec![7; length];
                assert_eq!(through(&mut a, &mut b, &message).as_deref(), Ok(message.as_slice()));
                assert_eq!(through(&mut b, &mut a, &message).as_deref(), Ok(message.as_slice()));
            }
        }
    }

    #[test]
    fn other_keys_are_said() {
        let ring = Keyring::new([key(1)]).expect("one key");
        for (client, server) in [(Some(&key(2)), &ring), (None, &ring), (Some(&key(1)), &Keyring::default())] {
            assert_eq!(pair(client, server).err().expect("they differ").why, Why::Key);
        }
    }

    #[test]
    fn a_piece_is_not_played_to_another_connection() {
        let ring = Keyring::new([key(1)]).expect("one key");
        let (mut a, _) = pair(ring.primary(), &ring).expect("the keys agree");
        let bytes = a.seal(b"join").expect("it is short");
        let (answer, _) = answer(&greet([1; 16]), ring.primary(), [2; 16]).expect("the versions agree");
        let mut other = answered(&answer, &ring, [3; 16]).expect("the keys agree");
        assert_eq!(other.open(bytes[4..].to_vec(), &mut Vec::new()), Err(Malformed));
    }

    #[test]
    fn another_version_is_said() {
        let mut greeting = greet([1; 16]);
        (greeting[4], greeting[5]) = (7, 9);
        assert_eq!(answer(&greeting, None, [2; 16]).err().expect("none in common").why, Why::Version);
        assert_eq!(answer(b"HTTP/1.1 400 Bad Request", None, [2; 16]).err().expect("not ours").why, Why::Malformed);
    }
}
