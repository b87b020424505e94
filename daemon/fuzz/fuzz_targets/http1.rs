//! Fuzzes `wire::http1`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| telltale_fuzz::wire::http1(data));
