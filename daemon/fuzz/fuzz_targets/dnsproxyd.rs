//! Fuzzes `wire::dnsproxyd_commands`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| telltale_fuzz::wire::dnsproxyd_commands(data));
