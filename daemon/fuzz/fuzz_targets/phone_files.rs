//! Fuzzes `leak::phone::gather`, its reader of databases above all.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| telltale_fuzz::kept::phone_files(data));
