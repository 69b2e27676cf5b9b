//! See `muster::fuzz::hcl`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| muster::fuzz::hcl(bytes));
