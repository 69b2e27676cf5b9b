//! See `muster::fuzz::filter`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| muster::fuzz::filter(bytes));
