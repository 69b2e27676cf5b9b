//! See `muster_dns::fuzz::packet`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| muster_dns::fuzz::packet(bytes));
