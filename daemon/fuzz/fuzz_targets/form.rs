//! Fuzzes `wire::form_pairs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| telltale_fuzz::wire::form_pairs(data));
