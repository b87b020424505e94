//! Fuzzes `wire::dns_query`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| telltale_fuzz::wire::dns_query(data));
