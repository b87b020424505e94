//! What peeling one message may cost: depth, bytes, ratio, nodes and work, for whatever input.
#![forbid(unsafe_code)]

/// Bounds on peeling one message. The defaults keep the worst message under 16 MiB and some tens of milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Layers above each other.
    pub depth: usize,
    /// Bytes out of one decoding step.
    pub layer_bytes: usize,
    /// Bytes out of all decoding steps together.
    pub total_bytes: usize,
    /// Bytes out per byte in of one decompression; small inputs may always grow to [`Limits::SMALL`].
    pub ratio: usize,
    /// Layers in all.
    pub nodes: usize,
    /// Leaves, keys and containers of all structured values together.
    pub items: usize,
    /// Containers inside each other in one structured value.
    pub nesting: usize,
    /// Bytes looked at by all steps, failed guesses included.
    pub work: usize,
}

impl Limits {
    /// What a decompression may always yield, in bytes, however small its input.
    pub const SMALL: usize = 64 * 1024;
    /// Message for a layer that was cut at [`Limits::layer_bytes`] or [`Limits::total_bytes`].
    pub(super) const CUT_BYTES: &'static str = "more output than the limit allows";
    /// Message for a value that was cut at [`Limits::items`] or [`Limits::nesting`].
    pub(super) const CUT_ITEMS: &'static str = "more items or deeper nesting than the limits allow";
    /// Message for a layer that was left closed.
    pub(super) const CUT_NODES: &'static str = "more layers than the limits allow: some were left closed";
    /// Message for a layer that ended early.
    pub(super) const CUT_SHORT: &'static str = "ends early: what came before the end is shown";
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            depth: 16,
            layer_bytes: 2 << 20,
            total_bytes: 4 << 20,
            ratio: 256,
            nodes: 512,
            items: 64 * 1024,
            nesting: 64,
            work: 32 << 20,
        }
    }
}

/// What is left of the limits while one message is peeled.
#[derive(Debug)]
pub(super) struct Budget {
    bytes: usize,
    items: usize,
    work: usize,
    limits: Limits,
}

impl Budget {
    pub(super) fn new(limits: &Limits) -> Self {
        Budget { bytes: limits.total_bytes, items: limits.items, work: limits.work, limits: limits.clone() }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The most a decompression of `input` bytes may yield now.
    pub(super) fn room(&self, input: usize) -> usize {
        let by_ratio = input.saturating_mul(self.limits.ratio).max(Limits::SMALL);
        by_ratio.min(self.limits.layer_bytes).min(self.bytes)
    }

    /// Takes `len` bytes of output; false when they are not to be had.
    pub(super) fn take_bytes(&mut self, len: usize) -> bool {
        match self.bytes.checked_sub(len) {
            Some(left) => {
                self.bytes = left;
                true
            }
            None => false,
        }
    }

    /// Takes one item of a structured value; false when there is none left.
    pub(super) fn take_item(&mut self) -> bool {
        match self.items.checked_sub(1) {
            Some(left) => {
                self.items = left;
                true
            }
            None => false,
        }
    }

    /// Gives items back after a guess that came to nothing (its work stays spent).
    pub(super) fn items(&self) -> usize {
        self.items
    }

    /// See [`Budget::items`].
    pub(super) fn restore_items(&mut self, items: usize) {
        self.items = items;
    }

    /// Pays for looking at `len` bytes; false when the work allowed is used up.
    pub(super) fn work(&mut self, len: usize) -> bool {
        match self.work.checked_sub(len) {
            Some(left) => {
                self.work = left;
                true
            }
            None => {
                self.work = 0;
                false
            }
        }
    }
}
