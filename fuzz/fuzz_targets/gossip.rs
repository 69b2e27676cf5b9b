//! See `muster_gossip::fuzz::frame`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| muster_gossip::fuzz::frame(bytes));
