//! Fuzzes `wire::quic_initial`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| telltale_fuzz::wire::quic_initial(data));
