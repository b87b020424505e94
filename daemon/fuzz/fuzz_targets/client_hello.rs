//! Fuzzes `wire::hello`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| telltale_fuzz::wire::hello(data));
