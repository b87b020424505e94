//! Fuzzes `finder`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| telltale_fuzz::finder::elf(data));
