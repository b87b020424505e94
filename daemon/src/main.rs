//! `telltale`: arguments and wiring, nothing else.

fn main() {}
