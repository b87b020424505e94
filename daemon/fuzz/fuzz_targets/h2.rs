//! Fuzzes `wire::h2`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| telltale_fuzz::wire::h2(data));
