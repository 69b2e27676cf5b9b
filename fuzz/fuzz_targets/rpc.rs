//! See `muster::fuzz::rpc`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| muster::fuzz::rpc(bytes));
