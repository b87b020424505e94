//! What the kernel's functions want in their registers.

/// What a helper takes (`enum bpf_arg_type`, `include/linux/bpf.h`).
#[derive(Clone, Copy)]
pub(super) enum Argument {
    Any,
    Context,
    Map,
    Key,
    Value,
    /// Memory it reads, with its size in the next.
    Read,
    /// Memory it writes, likewise.
    Written,
    Size,
}

/// The helpers that programs of Telltale call, once the loader has replaced the newer: `kernel/bpf/helpers.c`,
/// `kernel/trace/bpf_trace.c`.
pub(super) fn arguments(helper: u32) -> Option<&'static [Argument]> {
    use Argument::{Any, Context, Key, Map, Read, Size, Value, Written};
    Some(match helper {
        1 | 3 => &[Map, Key],
        2 => &[Map, Key, Value, Any],
        4 | 45 => &[Written, Size, Any],
        5 | 7 | 8 | 14 | 15 | 35 | 42 => &[],
        12 => &[Context, Map, Any],
        16 => &[Written, Size],
        25 => &[Context, Map, Any, Read, Size],
        _ => return None,
    })
}
