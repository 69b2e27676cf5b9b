//! What a fuzzer may throw at this crate: packets, and what is said over a connection. Built for tests and fuzzers alone.
#![allow(clippy::disallowed_methods)] // a frame is opened at some time

use std::time::Instant;

use uuid::Uuid;

use crate::item::Item;
use crate::key::{Key, Keyring};
use crate::message::{Request, Response};
use crate::packet::Packet;
use crate::record::Record;
use crate::seal::Seal;

/// The first byte says what the rest is.
pub fn frame(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    match kind % 8 {
        0 => {
            if let Ok(packet) = Packet::decode(rest) {
                assert!(Packet::decode(&packet.encode()).is_ok(), "what was read can be written and read again");
            }
        }
        1 => {
            if let Ok(request) = Request::decode(rest) {
                assert!(Request::decode(&request.encode()).is_ok(), "what was read can be written and read again");
            }
        }
        2 => drop(Response::decode(rest)),
        3 => drop(Record::decode(rest)),
        4 => drop(Item::decode(rest)),
        5 => drop(Seal::new(Keyring::default(), 1).open(Uuid::nil(), rest, Instant::now())),
        6 => {
            let ring = Keyring::new(Key::new(&[7; 32])).expect("one key");
            drop(Seal::new(ring, 1).open(Uuid::nil(), rest, Instant::now()));
        }
        _ => drop(crate::stream::answer(rest, None, [0; 16])),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_is_read_without_a_panic() {
        crate::corpus::replay("gossip", super::frame);
    }
}
