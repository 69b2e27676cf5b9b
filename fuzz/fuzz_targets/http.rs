//! See `muster::fuzz::http`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| muster::fuzz::http(bytes));
