//! Fuzzes `place::ip`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| telltale_fuzz::kept::addresses(data));
