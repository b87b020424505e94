//! Start code, ident note and unwinder for an `aarch64-linux-android` program linked without the NDK.
//!
//! The assembly is in `start.s`: an entry point that receives a bare stack pointer cannot be written as a
//! function of any compiled language. It goes through `global_asm!` so that the one compiler at hand
//! assembles it and no further tool is needed.
//! The unwinder is the crate `unwinding`, which exports the `_Unwind_*` functions that Rust's `std` calls and
//! that bionic offers only from API 30.
#![no_std]
#![feature(core_intrinsics)]
#![allow(internal_features)]

use unwinding as _;

core::arch::global_asm!(include_str!("start.s"));

/// The unwinder itself never panics; a bug in it ends the program rather than unwinding through the unwinder.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::intrinsics::abort()
}
