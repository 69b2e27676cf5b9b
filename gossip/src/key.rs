//! Gossip keys: Consul's base64 form, and the ring of those that are accepted.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::{aead, digest, hkdf};

use crate::error::KeyError;

/// Most keys in a ring: a rotation needs two or three; each costs a try where senders' key ids collide.
pub const KEYS_MAX: usize = 16;

/// One gossip key: 16 or 32 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    bytes: Vec<u8>,
    id: KeyId,
}

/// Says in a packet which key seals it, and nothing about the key. Zero stands for none.
pub(crate) type KeyId = [u8; 4];
pub(crate) const NO_KEY: KeyId = [0; 4];

impl Key {
    /// Reads Consul's `encrypt`: base64 of 16 or 32 bytes.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        Self::new(&STANDARD.decode(text.trim()).map_err(|_| KeyError::Base64)?)
    }

    pub(crate) fn new(bytes: &[u8]) -> Result<Self, KeyError> {
        if !matches!(bytes.len(), 16 | 32) {
            return Err(KeyError::Length(bytes.len()));
        }
        let hash = digest::digest(&digest::SHA256, &[b"muster gossip key id", bytes].concat());
        let mut id = NO_KEY;
        id.copy_from_slice(&hash.as_ref()[..4]);
        if id == NO_KEY {
            id[3] = 1;
        }
        Ok(Self { bytes: bytes.to_vec(), id })
    }

    /// The key as [`Key::parse`] reads it. It is a secret.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(&self.bytes)
    }

    pub(crate) fn id(&self) -> KeyId {
        self.id
    }

    /// A key derived from this one for one purpose: what it seals is read by nobody who has only another of them.
    pub(crate) fn derive(&self, salt: &[u8], purpose: &[u8]) -> aead::LessSafeKey {
        let algorithm = if self.bytes.len() == 16 { &aead::AES_128_GCM } else { &aead::AES_256_GCM };
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(&self.bytes);
        let purpose = [purpose];
        let derived = secret.expand(&purpose, algorithm).expect("a key is shorter than 255 blocks of the hash");
        aead::LessSafeKey::new(derived.into())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "Key({:02x?})", self.id)
    }
}

/// The keys that are accepted. The first one, the primary, seals what is sent. An empty ring: nothing is sealed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keyring {
    keys: Vec<Key>,
}

impl Keyring {
    /// A ring whose primary is the first of `keys`; doubles are dropped.
    pub fn new(keys: impl IntoIterator<Item = Key>) -> Result<Self, KeyError> {
        let mut ring = Self::default();
        for key in keys {
            ring = ring.with(key)?;
        }
        Ok(ring)
    }

    /// All keys, the primary first.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The key that seals what is sent.
    pub fn primary(&self) -> Option<&Key> {
        self.keys.first()
    }

    /// This ring and one more key, which is accepted from now on.
    pub fn with(&self, key: Key) -> Result<Self, KeyError> {
        let mut ring = self.clone();
        if !ring.keys.contains(&key) {
            if ring.keys.len() >= KEYS_MAX {
                return Err(KeyError::Full);
            }
            ring.keys.push(key);
        }
        Ok(ring)
    }

    /// This ring with another primary, which must be in it.
    pub fn with_primary(&self, key: &Key) -> Result<Self, KeyError> {
        let mut ring = self.clone();
        let at = ring.keys.iter().position(|known| known == key).ok_or(KeyError::Unknown)?;
        ring.keys[..=at].rotate_right(1);
        Ok(ring)
    }

    /// This ring without a key, which must not be the primary.
    pub fn without(&self, key: &Key) -> Result<Self, KeyError> {
        if self.primary() == Some(key) {
            return Err(KeyError::Primary);
        }
        let mut ring = self.clone();
        ring.keys.retain(|known| known != key);
        Ok(ring)
    }

    pub(crate) fn by_id(&self, id: KeyId) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(move |key| key.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> Key {
        Key::parse(&STANDARD.encode([n; 32])).expect("32 bytes")
    }

    #[test]
    fn keys_have_16_or_32_bytes() {
        assert!(Key::parse(&STANDARD.encode([7; 16])).is_ok());
        assert_eq!(Key::parse("pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s=").expect("32 bytes").to_base64().len(), 44);
        let refused = Key::parse(&STANDARD.encode([7; 24])).expect_err("24 bytes");
        assert!(refused.to_string().contains("24 bytes"), "{refused}");
        assert_eq!(Key::parse("no base64!"), Err(KeyError::Base64));
    }

    #[test]
    fn a_ring_rotates() {
        let ring = Keyring::new([key(1)]).expect("one key").with(key(2)).expect("room");
        assert_eq!(ring.without(&key(1)), Err(KeyError::Primary));
        assert_eq!(ring.with_primary(&key(3)), Err(KeyError::Unknown));
        let ring = ring.with_primary(&key(2)).expect("it is there");
        assert_eq!(ring.primary(), Some(&key(2)));
        assert_eq!(ring.without(&key(1)).expect("not primary").keys(), &[key(2)]);
    }

    #[test]
    fn a_key_never_shows_itself() {
        assert!(!format!("{:?}", key(3)).contains(&key(3).to_base64()[..8]));
    }
}
