//! The outer frame of a packet: which cluster, which key, whose run, which number; and that nobody changed or repeated it.
//!
//! Sealed: version (1), cluster (first 8 bytes of its id), key id (4), boot id (8), counter (6), ciphertext, tag (16): 43 bytes
//! around the packet. Plain, where no key is set: version (1), cluster id (16). Each run of a process draws a boot id and seals
//! with a key derived from the gossip key and that id, so that its counter is never used twice with one key.

use std::collections::BTreeMap;
use std::time::Instant;

use ring::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};
use uuid::Uuid;

use crate::key::{KeyId, Keyring, NO_KEY};
use crate::metrics::Dropped;
use crate::wire::{Put, Reader};

/// Longest packet sent or taken: it fits an Ethernet frame with room for tunnels, as memberlist's.
pub(crate) const PACKET_BYTES_MAX: usize = 1400;
/// What the frame adds at most.
pub(crate) const FRAME_BYTES_MAX: usize = 43;
/// Senders whose key and window are remembered; each costs some 600 bytes. A sender beyond them costs a derivation (2 µs), and
/// a packet of it from before could be repeated to us once.
pub(crate) const SENDERS_MAX: usize = 4096;

const PLAIN: u8 = 0x02;
const SEALED: u8 = 0x82;
const CLUSTER_BYTES: usize = 8;
const TAG_BYTES: usize = 16;
const PURPOSE: &[u8] = b"muster gossip packet";
/// Numbers in a frame have 48 bits: at a million packets a second, nine years.
const COUNTER_MAX: u64 = (1 << 48) - 1;

/// Seals what is sent and opens what comes.
pub(crate) struct Seal {
    ring: Keyring,
    boot: u64,
    counter: u64,
    own: Option<(KeyId, LessSafeKey)>,
    senders: BTreeMap<(KeyId, u64), Sender>,
}

struct Sender {
    key: LessSafeKey,
    window: Window,
    heard: Instant,
}

impl Seal {
    /// `boot` is a random number that no other process has had.
    pub(crate) fn new(ring: Keyring, boot: u64) -> Self {
        let mut seal = Self { ring: Keyring::default(), boot, counter: 0, own: None, senders: BTreeMap::new() };
        seal.set_ring(ring);
        seal
    }

    pub(crate) fn ring(&self) -> &Keyring {
        &self.ring
    }

    /// From now on these keys are accepted, and the primary of them seals.
    pub(crate) fn set_ring(&mut self, ring: Keyring) {
        self.own = ring.primary().map(|key| (key.id(), key.derive(&self.boot.to_be_bytes(), PURPOSE)));
        self.senders.retain(|(id, _), _| ring.by_id(*id).next().is_some());
        self.ring = ring;
    }

    /// A frame around `payload`; none when the numbers of this run are used up.
    pub(crate) fn seal(&mut self, cluster: Uuid, payload: &[u8]) -> Option<Vec<u8>> {
        let mut frame = Vec::with_capacity(payload.len() + FRAME_BYTES_MAX);
        let Some((id, key)) = &self.own else {
            frame.push(PLAIN);
            frame.put_uuid(cluster);
            frame.extend_from_slice(payload);
            return Some(frame);
        };
        self.counter = Some(self.counter + 1).filter(|next| *next <= COUNTER_MAX)?;
        frame.push(SEALED);
        frame.extend_from_slice(&cluster.as_bytes()[..CLUSTER_BYTES]);
        frame.extend_from_slice(id);
        frame.extend_from_slice(&self.boot.to_be_bytes());
        frame.extend_from_slice(&self.counter.to_be_bytes()[2..]);
        let head = frame.len();
        frame.extend_from_slice(payload);
        let (open, body) = frame.split_at_mut(head);
        let tag = key.seal_in_place_separate_tag(nonce(self.counter), Aad::from(aad(cluster, open)), body).ok()?;
        frame.extend_from_slice(tag.as_ref());
        Some(frame)
    }

    /// What is in a frame of `cluster`.
    pub(crate) fn open(&mut self, cluster: Uuid, packet: &[u8], now: Instant) -> Result<Vec<u8>, Dropped> {
        if packet.len() > PACKET_BYTES_MAX {
            return Err(Dropped::Oversize);
        }
        let mut reader = Reader::new(packet);
        match reader.u8().map_err(|_| Dropped::Truncated)? {
            PLAIN if self.own.is_some() => Err(Dropped::Plaintext),
            PLAIN => {
                let theirs = reader.uuid().map_err(|_| Dropped::Truncated)?;
                if theirs != cluster {
                    return Err(Dropped::WrongCluster);
                }
                Ok(reader.rest().to_vec())
            }
            SEALED => self.open_sealed(cluster, packet, reader, now),
            _ => Err(Dropped::Version),
        }
    }

    fn open_sealed(&mut self, cluster: Uuid, packet: &[u8], mut reader: Reader<'_>, now: Instant) -> Result<Vec<u8>, Dropped> {
        let mut head =
            || Some((reader.array::<8>().ok()?, reader.array::<4>().ok()?, reader.u64().ok()?, reader.array::<6>().ok()?));
        let (theirs, id, boot, number) = head().ok_or(Dropped::Truncated)?;
        if reader.rest().len() < TAG_BYTES {
            return Err(Dropped::Truncated);
        }
        if theirs != cluster.as_bytes()[..CLUSTER_BYTES] {
            return Err(Dropped::WrongCluster);
        }
        if id == NO_KEY || self.ring.by_id(id).next().is_none() {
            return Err(Dropped::WrongKey);
        }
        if boot == self.boot {
            return Err(Dropped::Replay); // our own, come back
        }
        let mut counter = [0; 8];
        counter[2..].copy_from_slice(&number);
        let counter = u64::from_be_bytes(counter);
        let open = &packet[..packet.len() - reader.rest().len()];
        if let Some(sender) = self.senders.get_mut(&(id, boot)) {
            if !sender.window.fresh(counter) {
                return Err(Dropped::Replay);
            }
            let payload = unseal(&sender.key, cluster, open, counter, reader.rest())?;
            sender.window.take(counter);
            sender.heard = now;
            return Ok(payload);
        }
        let opened = self.ring.by_id(id).find_map(|key| {
            let key = key.derive(&boot.to_be_bytes(), PURPOSE);
            let payload = unseal(&key, cluster, open, counter, reader.rest()).ok()?;
            Some((key, payload))
        });
        let (key, payload) = opened.ok_or(Dropped::Forged)?;
        let mut window = Window::default();
        window.take(counter);
        self.make_room();
        self.senders.insert((id, boot), Sender { key, window, heard: now });
        Ok(payload)
    }

    /// Forgets a quarter of the senders, those not heard for longest, when there are as many as may be.
    fn make_room(&mut self) {
        if self.senders.len() < SENDERS_MAX {
            return;
        }
        let mut heard: Vec<Instant> = self.senders.values().map(|sender| sender.heard).collect();
        heard.sort_unstable();
        let limit = heard[heard.len() / 4];
        let mut room = SENDERS_MAX / 4;
        self.senders.retain(|_, sender| {
            let goes = sender.heard <= limit && room > 0;
            room -= usize::from(goes);
            !goes
        });
    }
}

fn unseal(key: &LessSafeKey, cluster: Uuid, open: &[u8], counter: u64, sealed: &[u8]) -> Result<Vec<u8>, Dropped> {
    let mut bytes = sealed.to_vec();
    let length = key.open_in_place(nonce(counter), Aad::from(aad(cluster, open)), &mut bytes).map_err(|_| Dropped::Forged)?.len();
    bytes.truncate(length);
    Ok(bytes)
}

/// What is authenticated besides the ciphertext: the whole cluster id, and the head of the frame.
fn aad(cluster: Uuid, head: &[u8]) -> Vec<u8> {
    [cluster.as_bytes(), head].concat()
}

pub(crate) fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[NONCE_LEN - 8..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// Which of a sender's last 128 numbers were seen.
#[derive(Debug, Default)]
struct Window {
    highest: u64,
    seen: u128,
}

impl Window {
    fn fresh(&self, number: u64) -> bool {
        match self.highest.checked_sub(number) {
            None => true,
            Some(back) if back < 128 => self.seen >> back & 1 == 0,
            Some(_) => false,
        }
    }

    fn take(&mut self, number: u64) {
        if number > self.highest {
            let ahead = u32::try_from(number - self.highest).unwrap_or(u32::MAX);
            self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1;
            self.highest = number;
        } else if self.highest - number < 128 {
            self.seen |= 1 << (self.highest - number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Key;
    use rand::rngs::SmallRng;
    use rand::{Rng, RngExt, SeedableRng};

    const CLUSTER: Uuid = Uuid::from_u128(0x11111111_1111_4111_8111_111111111111);

    fn ring(n: u8) -> Keyring {
        use base64::Engine;
        Keyring::new([Key::parse(&base64::engine::general_purpose::STANDARD.encode([n; 16])).expect("16 bytes")])
            .expect("one key")
    }

    fn now() -> Instant {
        #[allow(clippy::disallowed_methods)] // an arbitrary point to count from
        Instant::now()
    }

    #[test]
    fn a_frame_is_opened_once() {
        let (mut a, mut b) = (Seal::new(ring(1), 1), Seal::new(ring(1), 2));
        let frame = a.seal(CLUSTER, b"hello").expect("numbers are left");
        assert_eq!(frame.len(), 5 + FRAME_BYTES_MAX);
        assert_eq!(b.open(CLUSTER, &frame, now()).as_deref(), Ok(&b"hello"[..]));
        assert_eq!(b.open(CLUSTER, &frame, now()), Err(Dropped::Replay));
        assert_eq!(a.open(CLUSTER, &frame, now()), Err(Dropped::Replay));
    }

    #[test]
    fn each_fault_has_its_cause() {
        let mut sealed = Seal::new(ring(1), 1);
        let mut plain = Seal::new(Keyring::default(), 3);
        let frame = sealed.seal(CLUSTER, b"hello").expect("numbers are left");
        let open = |seal: &mut Seal, cluster, frame: &[u8]| seal.open(cluster, frame, now());
        assert_eq!(open(&mut Seal::new(ring(2), 2), CLUSTER, &frame), Err(Dropped::WrongKey));
        assert_eq!(open(&mut plain, CLUSTER, &frame), Err(Dropped::WrongKey));
        assert_eq!(open(&mut Seal::new(ring(1), 2), Uuid::from_u128(5), &frame), Err(Dropped::WrongCluster));
        assert_eq!(open(&mut Seal::new(ring(1), 2), CLUSTER, &frame[..20]), Err(Dropped::Truncated));
        assert_eq!(open(&mut Seal::new(ring(1), 2), CLUSTER, &[0; 1401]), Err(Dropped::Oversize));
        assert_eq!(open(&mut Seal::new(ring(1), 2), CLUSTER, &[9; 100]), Err(Dropped::Version));
        let bare = plain.seal(CLUSTER, b"hello").expect("numbers are left");
        assert_eq!(open(&mut sealed, CLUSTER, &bare), Err(Dropped::Plaintext));
        assert_eq!(open(&mut plain, CLUSTER, &bare).as_deref(), Ok(&b"hello"[..]));
        let mut changed = frame.clone();
        let last = changed.len() - 1;
        changed[last] ^= 1;
        assert_eq!(open(&mut Seal::new(ring(1), 2), CLUSTER, &changed), Err(Dropped::Forged));
    }

    #[test]
    fn a_key_is_exchanged_without_losing_a_packet() {
        let both = ring(1).with(ring(2).keys()[0].clone()).expect("room");
        let (mut a, mut b) = (Seal::new(ring(1), 1), Seal::new(both.clone(), 2));
        let first = a.seal(CLUSTER, b"1").expect("numbers are left");
        a.set_ring(both.with_primary(&ring(2).keys()[0]).expect("it is there"));
        let second = a.seal(CLUSTER, b"2").expect("numbers are left");
        assert!(b.open(CLUSTER, &first, now()).is_ok());
        assert!(b.open(CLUSTER, &second, now()).is_ok());
        b.set_ring(ring(2));
        assert_eq!(b.open(CLUSTER, &first, now()), Err(Dropped::WrongKey));
    }

    #[test]
    fn reordered_packets_are_taken_and_old_ones_are_not() {
        let mut window = Window::default();
        for number in [5, 3, 4, 200, 199, 73] {
            assert!(window.fresh(number), "{number}");
            window.take(number);
            assert!(!window.fresh(number), "{number}");
        }
        assert!(!window.fresh(72), "too old to tell");
    }

    #[test]
    fn random_bytes_open_nothing_and_leave_nothing() {
        let mut seal = Seal::new(ring(1), 1);
        let mut rng = SmallRng::seed_from_u64(1);
        for n in 0..20_000 {
            let mut bytes = vec![0; rng.random_range(0..1500)];
            rng.fill_bytes(&mut bytes);
            if n % 2 == 0 && bytes.len() > 13 {
                bytes[0] = SEALED;
                bytes[1..9].copy_from_slice(&CLUSTER.as_bytes()[..8]);
                bytes[9..13].copy_from_slice(&ring(1).keys()[0].id());
            }
            assert!(seal.open(CLUSTER, &bytes, now()).is_err());
        }
        assert!(seal.senders.is_empty());
    }

    #[test]
    fn senders_are_bounded() {
        let mut seal = Seal::new(ring(1), 0);
        let start = now();
        for boot in 1..(SENDERS_MAX as u64 + 2000) {
            let frame = Seal::new(ring(1), boot).seal(CLUSTER, b"x").expect("numbers are left");
            assert!(seal.open(CLUSTER, &frame, start + std::time::Duration::from_millis(boot)).is_ok());
            assert!(seal.senders.len() <= SENDERS_MAX);
        }
    }
}
