//! `cargo ndk-build`: builds, packs, tests and demonstrates Telltale.

fn main() {}
