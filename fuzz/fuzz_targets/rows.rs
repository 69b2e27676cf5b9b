//! See `muster_catalog::fuzz::rows`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| muster_catalog::fuzz::rows(bytes));
