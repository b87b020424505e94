//! Tells the program which machine's registers it reads: `bpf_target_arch`, from AYA_BPF_TARGET_ARCH or the host.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    Ok(aya_build::emit_bpf_target_arch_cfg()?)
}
