//! Fuzzes `wire::multipart_parts`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| telltale_fuzz::wire::multipart_parts(data));
