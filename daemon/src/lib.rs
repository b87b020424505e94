//! Telltale, the library: everything between a record from the kernel and a line the owner can read.
//!
//! Data goes one way, and each room imports only the types of the room before it:
//!
//! ```text
//! kernel → record → stream → wire → unwrap → leak → alert → report
//!                     app, place: look-ups beside the way, no way back
//! ```
//!
//! | room | what it does |
//! | --- | --- |
//! | [`kernel`] | what this kernel can do; load, attach, drain. The only place with Aya, netlink, perf and `unsafe` |
//! | [`finder`] | where `SSL_write` is in a stripped binary that carries its own BoringSSL |
//! | [`record`] | bytes from the kernel → an owned [`record::Event`], checked before it is trusted |
//! | [`stream`] | one connection's bytes in order, with gaps and limits |
//! | [`wire`] | protocols on byte slices: what message was sent |
//! | [`unwrap`] | peels a message's encodings into a tree of layers |
//! | [`leak`] | what a value says about the owner: the findings |
//! | [`app`], [`place`] | uid and pid → app; host and address → owner, network, country |
//! | [`coverage`] | how much of it is read, and why the rest is not |
//! | [`alert`] | which findings deserve a line, in which words, where to |
//! | [`sealed`] | what an app encrypts itself: joined to what left, else forgotten |
//! | [`pipeline`] | the way from a connection's bytes to alerts, in one piece |
//! | [`run`] | the event loop of `telltale run` |
//! | [`control`] | what commands may ask the running daemon |
//! | [`cli`], [`config`], [`store`] | the edge: arguments, options, what is kept on disk |
//! | [`report`] | a page to look at, made of those lines |
//!
//! From `record` to `pipeline` nothing opens a socket, reads a clock or writes a file on its own account, so that all of it
//! runs in a test, in the fuzzer and in `telltale decode` exactly as it does on the phone.

pub mod alert;
pub mod app;
pub mod cli;
pub mod config;
pub mod control;
pub mod coverage;
pub mod finder;
mod guard;
pub mod kernel;
pub mod leak;
pub mod pipeline;
pub mod place;
pub mod record;
pub mod report;
pub mod run;
pub mod sealed;
pub mod store;
pub mod stream;
pub mod trial;
pub mod unwrap;
pub mod wire;
