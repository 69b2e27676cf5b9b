//! See `muster::fuzz::toml`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| muster::fuzz::toml(bytes));
