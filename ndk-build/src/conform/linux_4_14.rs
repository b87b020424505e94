//! What Linux 4.14 offers BPF programs: helpers and maps per program type, and its limits.
//!
//! Read from 4.14's sources: `kernel/trace/bpf_trace.c` and `net/core/filter.c` (which program type may call which helper),
//! `include/uapi/linux/bpf.h` (numbers), `kernel/bpf/verifier.c` and `kernel/bpf/*.c` (limits). Helpers that vendor
//! kernels add (Android's `bpf_ktime_get_boot_ns`) are left out: their numbers mean something else elsewhere.

/// `BPF_MAXINSNS`, `include/uapi/linux/bpf_common.h`: instructions in one program.
pub const MAX_INSTRUCTIONS: usize = 4096;

/// What one program may make this machine's verifier walk. 4.14 stops at 131,072
/// (`BPF_COMPLEXITY_LIMIT_INSNS`, `kernel/bpf/verifier.c`) and prunes less than today's, so a good deal is left to it.
pub const MAX_PROCESSED: u32 = 30_000;

/// Largest value of a per-CPU map: `PCPU_MIN_UNIT_SIZE`, `include/linux/percpu.h`.
pub const MAX_PER_CPU_VALUE: u32 = 32 * 1024;

/// `BPF_F_NO_PREALLOC | BPF_F_NO_COMMON_LRU | BPF_F_NUMA_NODE`, `include/uapi/linux/bpf.h`: every map flag there is.
pub const MAP_FLAGS: u32 = 0b111;

/// A kind of program that 4.14 knows, as far as Telltale may ever use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgramKind {
    /// `BPF_PROG_TYPE_KPROBE`: kprobes and uprobes, entry and return.
    Probe,
    /// `BPF_PROG_TYPE_TRACEPOINT`.
    Tracepoint,
    /// `BPF_PROG_TYPE_PERF_EVENT`.
    PerfEvent,
    /// `BPF_PROG_TYPE_SCHED_CLS`.
    Classifier,
    /// `BPF_PROG_TYPE_SOCKET_FILTER` and `BPF_PROG_TYPE_CGROUP_SKB`, which share their helpers.
    SocketFilter,
}

impl ProgramKind {
    /// The kind a loader reads from the name of the section a program lies in. `None`: 4.14 has no such kind,
    /// or no program of Telltale is of it.
    pub fn of_section(section: &str) -> Option<Self> {
        match section.split('/').next().unwrap_or_default() {
            "uprobe" | "uretprobe" | "kprobe" | "kretprobe" => Some(Self::Probe),
            "tracepoint" | "tp" => Some(Self::Tracepoint),
            "perf_event" => Some(Self::PerfEvent),
            "classifier" => Some(Self::Classifier),
            "socket" | "cgroup_skb" => Some(Self::SocketFilter),
            _ => None,
        }
    }

    /// Whether programs of this kind may call helper `id`.
    pub fn has_helper(self, id: u32) -> bool {
        let groups: &[&[u32]] = match self {
            Self::Probe | Self::Tracepoint | Self::PerfEvent => &[TRACING, PROBE],
            Self::Classifier => &[BASE, CLASSIFIER],
            Self::SocketFilter => &[BASE, SOCKET_FILTER],
        };
        groups.iter().any(|group| group.contains(&id))
    }
}

/// `tracing_func_proto`, `kernel/trace/bpf_trace.c`.
const TRACING: &[u32] = &[1, 2, 3, 4, 5, 6, 7, 8, 12, 14, 15, 16, 22, 35, 36, 37, 42, 45];
/// `kprobe_prog_func_proto` and `tp_prog_func_proto`, which perf events use too in 4.14: `perf_event_output` and `get_stackid`.
const PROBE: &[u32] = &[25, 27];
/// `bpf_base_func_proto`, `net/core/filter.c`.
const BASE: &[u32] = &[1, 2, 3, 5, 6, 7, 8, 12, 42];
/// `tc_cls_act_func_proto`, `net/core/filter.c`.
const CLASSIFIER: &[u32] = &[
    9, 10, 11, 13, 17, 18, 19, 20, 21, 23, 24, 25, 26, 28, 29, 30, 31, 32, 33, 34, 38, 39, 40, 41, 43, 46,
    47, 48, 50,
];
/// `sk_filter_func_proto`, `net/core/filter.c`: no `perf_event_output`.
const SOCKET_FILTER: &[u32] = &[26, 46, 47];

/// `__BPF_FUNC_MAPPER`, `include/uapi/linux/bpf.h`; those of 4.14 that Telltale may meet, and the newer ones a
/// careless change is likely to bring in.
const HELPER_NAMES: &[(u32, &str)] = &[
    (1, "map_lookup_elem"),
    (2, "map_update_elem"),
    (3, "map_delete_elem"),
    (4, "probe_read"),
    (5, "ktime_get_ns"),
    (6, "trace_printk"),
    (7, "get_prandom_u32"),
    (8, "get_smp_processor_id"),
    (12, "tail_call"),
    (14, "get_current_pid_tgid"),
    (15, "get_current_uid_gid"),
    (16, "get_current_comm"),
    (22, "perf_event_read"),
    (25, "perf_event_output"),
    (26, "skb_load_bytes"),
    (27, "get_stackid"),
    (35, "get_current_task"),
    (36, "probe_write_user"),
    (42, "get_numa_node_id"),
    (45, "probe_read_str"),
    (46, "get_socket_cookie"),
    (47, "get_socket_uid"),
    (55, "perf_event_read_value"),
    (80, "get_current_cgroup_id"),
    (93, "spin_lock"),
    (112, "probe_read_user"),
    (113, "probe_read_kernel"),
    (114, "probe_read_user_str"),
    (115, "probe_read_kernel_str"),
    (125, "ktime_get_boot_ns"),
    (130, "ringbuf_output"),
    (131, "ringbuf_reserve"),
    (158, "get_current_task_btf"),
    (181, "loop"),
];

/// A helper's name without its `bpf_`, or its number when this table lacks it.
pub fn helper_name(id: u32) -> String {
    HELPER_NAMES
        .iter()
        .find(|(number, _)| *number == id)
        .map_or_else(|| format!("helper {id}"), |(_, name)| (*name).to_owned())
}

/// The helper a program calls once it is loaded on 4.14: the loader (aya) replaces the newer ways of reading memory, which
/// that kernel lacks, by the one it has. (aya-obj 0.3, `obj.rs`, `sanitize`)
pub fn after_loader(id: u32) -> u32 {
    match id {
        112 | 113 => 4,
        114 | 115 => 45,
        other => other,
    }
}

/// `enum bpf_map_type`, `include/uapi/linux/bpf.h`: 4.14 ends at `SOCKMAP`.
const MAP_TYPES: &[&str] = &[
    "unspecified",
    "hash",
    "array",
    "prog_array",
    "perf_event_array",
    "percpu_hash",
    "percpu_array",
    "stack_trace",
    "cgroup_array",
    "lru_hash",
    "lru_percpu_hash",
    "lpm_trie",
    "array_of_maps",
    "hash_of_maps",
    "devmap",
    "sockmap",
];

/// The name of map type `kind`, if 4.14 has it.
pub fn map_type(kind: u32) -> Option<&'static str> {
    let index = usize::try_from(kind).ok().filter(|index| *index > 0)?;
    MAP_TYPES.get(index).copied()
}

/// Whether maps of this type keep one value per CPU.
pub fn is_per_cpu(kind: u32) -> bool {
    matches!(map_type(kind), Some("percpu_hash" | "percpu_array" | "lru_percpu_hash"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perf_event_output_is_for_probes_and_not_for_socket_filters() {
        assert!(ProgramKind::Probe.has_helper(25) && ProgramKind::Tracepoint.has_helper(25));
        assert!(!ProgramKind::SocketFilter.has_helper(25));
        assert!(!ProgramKind::Probe.has_helper(47), "get_socket_uid is for packets");
    }

    #[test]
    fn helpers_after_4_14_are_nobodys() {
        let kinds = [
            ProgramKind::Probe,
            ProgramKind::Tracepoint,
            ProgramKind::PerfEvent,
            ProgramKind::Classifier,
            ProgramKind::SocketFilter,
        ];
        for kind in kinds {
            for id in 54..220 {
                assert!(!kind.has_helper(id), "{kind:?} {id}");
            }
        }
    }

    #[test]
    fn map_types_end_where_4_14_ends() {
        assert_eq!(map_type(15), Some("sockmap"));
        assert_eq!((map_type(0), map_type(16), map_type(27)), (None, None, None));
    }
}
