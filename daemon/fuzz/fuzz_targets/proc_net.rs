//! Fuzzes `kernel::proc_net`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| telltale_fuzz::kernel::proc_net(data));
