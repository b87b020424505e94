//! permessage-deflate (RFC 7692): one DEFLATE stream over the messages of a connection, with context takeover.
//!
//! Whether the server agreed to context takeover is not seen. It need not be: a client that resets its window
//! simply never refers to what is before the message.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_HAS_MORE_INPUT as HAS_MORE, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF as FLAT,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

/// How far back DEFLATE refers (RFC 1951 section 2).
const WINDOW: usize = 32 << 10;
/// What is inflated of one message at most; beyond, it is a bomb and the context is given up.
const WORK_MAX: usize = 32 << 20;
/// What a sender leaves out at the end of each message (RFC 7692 section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// The state that goes from message to message.
pub(super) struct Inflater {
    state: Box<DecompressorOxide>,
    /// The known window, then room for as much again.
    buffer: Vec<u8>,
    filled: usize,
    work: usize,
    broken: bool,
}

impl std::fmt::Debug for Inflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inflater").field("filled", &self.filled).field("broken", &self.broken).finish()
    }
}

/// The data is no DEFLATE, refers to what was not seen, or is a bomb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken;

impl Inflater {
    pub(super) fn new() -> Self {
        let state = Box::<DecompressorOxide>::default();
        Inflater { state, buffer: vec![0; 2 * WINDOW], filled: 0, work: 0, broken: false }
    }

    pub(super) fn held(&self) -> usize {
        self.buffer.len()
    }

    /// A message begins. After a broken one the window is empty: only messages that do not refer back can be read.
    pub(super) fn begin(&mut self) {
        self.work = 0;
        if std::mem::take(&mut self.broken) {
            self.state.init();
            self.filled = 0;
        }
    }

    /// The context is lost, because bytes were.
    pub(super) fn forget(&mut self) {
        self.broken = true;
    }

    /// Inflates the next bytes of a message.
    pub(super) fn push(&mut self, mut input: &[u8], mut sink: impl FnMut(&[u8])) -> Result<(), Broken> {
        loop {
            if self.broken {
                return Err(Broken);
            }
            if self.filled >= self.buffer.len() {
                // Keep the window, make room for as much again.
                self.buffer.copy_within(WINDOW.., 0);
                self.filled = WINDOW;
            }
            let flags = FLAT | HAS_MORE;
            // In this mode a distance that reaches before the buffer's beginning is an error, never a made-up byte.
            let (status, used, made) =
                decompress(&mut self.state, input, &mut self.buffer, self.filled, flags);
            let end = self.filled.saturating_add(made);
            sink(self.buffer.get(self.filled..end).unwrap_or_default());
            self.filled = end;
            self.work = self.work.saturating_add(made);
            input = input.get(used..).unwrap_or_default();
            match status {
                _ if self.work > WORK_MAX => self.broken = true,
                TINFLStatus::HasMoreOutput => {}
                TINFLStatus::NeedsMoreInput => return Ok(()),
                // A sender may set BFINAL (section 7.2.3.4): a new DEFLATE stream goes on with the same window.
                TINFLStatus::Done => {
                    self.state.init();
                    if input.is_empty() {
                        return Ok(());
                    }
                }
                _ => self.broken = true,
            }
        }
    }

    /// The message is over.
    pub(super) fn finish(&mut self, sink: impl FnMut(&[u8])) -> Result<(), Broken> {
        self.push(&TAIL, sink)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::hex;
    use super::*;

    fn message(inflater: &mut Inflater, payload: &[u8]) -> Result<Vec<u8>, Broken> {
        let mut out = Vec::new();
        inflater.begin();
        inflater.push(payload, |b| out.extend_from_slice(b))?;
        inflater.finish(|b| out.extend_from_slice(b))?;
        Ok(out)
    }

    /// RFC 7692 sections 7.2.3.1 to 7.2.3.5: one block, context takeover, no compression, BFINAL, two blocks.
    #[test]
    fn the_messages_of_rfc_7692() {
        let mut inflater = Inflater::new();
        assert_eq!(message(&mut inflater, &hex("f248cdc9c90700")).unwrap(), b"Hello");
        assert_eq!(
            message(&mut inflater, &hex("f200110000")).unwrap(),
            b"Hello",
            "refers to the message before"
        );
        for payload in ["000500faff48656c6c6f00", "f348cdc9c9070000", "f24805000000ffffcac9c90700"] {
            assert_eq!(message(&mut Inflater::new(), &hex(payload)).unwrap(), b"Hello", "{payload}");
        }
    }

    #[test]
    fn what_refers_to_unseen_bytes_is_broken_and_never_made_up() {
        assert_eq!(message(&mut Inflater::new(), &hex("f200110000")), Err(Broken));
        let mut inflater = Inflater::new();
        message(&mut inflater, &hex("f248cdc9c90700")).unwrap();
        inflater.forget();
        assert_eq!(message(&mut inflater, &hex("f200110000")), Err(Broken));
        assert_eq!(message(&mut inflater, &hex("f248cdc9c90700")).unwrap(), b"Hello");
    }

    #[test]
    fn long_messages_cross_the_window_and_bombs_end() {
        let text: Vec<u8> = (0..200_000u32).flat_map(|i| (i % 7919).to_le_bytes()).collect();
        let packed = miniz_oxide::deflate::compress_to_vec(&text, 6);
        let (mut inflater, mut out) = (Inflater::new(), Vec::new());
        inflater.begin();
        for piece in packed.chunks(97) {
            inflater.push(piece, |b| out.extend_from_slice(b)).unwrap();
        }
        assert!(out == text);
        let bomb = miniz_oxide::deflate::compress_to_vec(&vec![0; 64 << 20], 9);
        let mut made = 0;
        inflater.begin();
        assert_eq!(inflater.push(&bomb, |b| made += b.len()), Err(Broken));
        assert!(made <= WORK_MAX + 2 * WINDOW);
    }
}
