//! What `cargo ndk-build` is made of: one module per command, and the few helpers they share.
//!
//! | command | module |
//! | --- | --- |
//! | `setup` | [`setup`] |
//! | `build` | [`compile`] |
//! | `clients` | [`clients`] |
//! | `demo` | [`demo`], with [`samples`] |
//! | `test` | [`suite`] |
//! | `bench` | [`mod@bench`] |
//! | `place-data` | [`place_data`], with [`place_pack`] |
//! | `android` | [`android`], with [`sysroot`] and [`elf_check`] |
//! | `conform` | [`conform`] |
//! | `zip` | [`zip`] |
//! | `vm` | [`vm`] |
//!
//! A command is a `fn(&Context, &[String]) -> Result<()>`. It first calls [`setup::ensure`] with what it needs from the machine, starts
//! other programs through [`run::Run`] and tells the user what goes on through [`say`].

pub mod android;
pub mod bench;
pub mod clients;
pub mod compile;
pub mod conform;
pub mod context;
pub mod demo;
pub mod elf_check;
pub mod error;
pub mod place_data;
pub mod place_pack;
pub mod run;
pub mod samples;
pub mod say;
pub mod setup;
pub mod suite;
pub mod sysroot;
pub mod toolchain;
pub mod vm;
pub mod zip;

use crate::error::{Error, Result};

/// Refuses arguments a command does not take.
///
/// # Errors
/// [`Error::Usage`] naming the first of them.
pub fn no_arguments(command: &str, rest: &[String]) -> Result<()> {
    match rest.first() {
        None => Ok(()),
        Some(word) => Err(Error::Usage(format!("`{command}` does not take `{word}`"))),
    }
}
