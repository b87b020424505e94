//! What each fuzz target does with its input. A function here panics when a promise of the parser is broken.

pub mod decode;
pub mod finder;
pub mod kept;
pub mod kernel;
pub mod sealed;
pub mod unwrap;
pub mod watch;
pub mod wire;
