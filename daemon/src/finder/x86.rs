//! x86-64: for the machines Telltale is developed and tried on; not part of the handset's binary.

use std::collections::BTreeSet;

use iced_x86::{Code, Decoder, DecoderOptions, Mnemonic, OpKind, Register};
use memchr::memchr_iter;

use super::code::Step;
use super::image::{Image, Segment};

/// `lea r64, [rip+disp32]`: REX.W 8D /r with mod 00, r/m 101 (Intel SDM volume 2, LEA).
pub(super) fn references(segment: &Segment<'_>, names: &BTreeSet<u64>, out: &mut Vec<u64>) {
    for at in memchr_iter(0x8d, segment.bytes) {
        let Some(start) = at.checked_sub(1) else { continue };
        let Some(&[rex, _, modrm, a, b, c, d]) = segment.bytes.get(start..).and_then(|b| b.first_chunk())
        else {
            continue;
        };
        if rex & 0xfb == 0x48 && modrm & 0xc7 == 0x05 {
            let from = segment.address.wrapping_add(start as u64);
            let target =
                from.wrapping_add(7).wrapping_add_signed(i64::from(i32::from_le_bytes([a, b, c, d])));
            if names.contains(&target) {
                out.push(from);
            }
        }
    }
}

/// Every direct call, and what only looks like one.
pub(super) fn calls(segment: &Segment<'_>, take: &mut impl FnMut(u64, u64)) {
    relative(segment, 0xe8, take);
}

/// Every direct jump, conditional or not, and what only looks like one.
pub(super) fn jumps(segment: &Segment<'_>, take: &mut impl FnMut(u64, u64)) {
    relative(segment, 0xe9, take);
    for condition in 0x80..=0x8f {
        conditional(segment, condition, take);
    }
}

/// Whether what looks like a call's target can be one: the bytes of a call also occur inside other instructions.
/// Compilers align functions to 16 bytes, and what stands before one is padding (`int3`, `nop`) or an end (`ret`, `ud2`).
pub(super) fn may_begin_function(image: &Image<'_>, address: u64) -> bool {
    address.is_multiple_of(16)
        || address
            .checked_sub(1)
            .and_then(|before| image.code_at(before, address))
            .and_then(<[u8]>::first)
            .is_some_and(|byte| matches!(byte, 0xcc | 0x90 | 0xc3 | 0x0b))
}

/// One-byte opcode and rel32.
fn relative(segment: &Segment<'_>, opcode: u8, take: &mut impl FnMut(u64, u64)) {
    for at in memchr_iter(opcode, segment.bytes) {
        if let Some(rel) = segment.bytes.get(at.saturating_add(1)..).and_then(|b| b.first_chunk()) {
            let from = segment.address.wrapping_add(at as u64);
            take(from, from.wrapping_add(5).wrapping_add_signed(i64::from(i32::from_le_bytes(*rel))));
        }
    }
}

/// `0F 8x rel32`.
fn conditional(segment: &Segment<'_>, condition: u8, take: &mut impl FnMut(u64, u64)) {
    for at in memchr_iter(condition, segment.bytes) {
        let Some(start) = at.checked_sub(1) else { continue };
        if segment.bytes.get(start) != Some(&0x0f) {
            continue;
        }
        if let Some(rel) = segment.bytes.get(at.saturating_add(1)..).and_then(|b| b.first_chunk()) {
            let from = segment.address.wrapping_add(start as u64);
            take(from, from.wrapping_add(6).wrapping_add_signed(i64::from(i32::from_le_bytes(*rel))));
        }
    }
}

/// Disassembles a function.
pub(super) fn steps(bytes: &[u8], start: u64, take: &mut impl FnMut(Step)) {
    let mut decoder = Decoder::with_ip(64, bytes, start, DecoderOptions::NONE);
    let mut pushed = None;
    while decoder.can_decode() {
        let instruction = decoder.decode();
        let argument = argument_of(instruction.op0_register());
        let step = match (instruction.mnemonic(), argument) {
            (Mnemonic::Mov, Some(number))
                if instruction.op0_kind() == OpKind::Register
                    && matches!(instruction.op1_kind(), OpKind::Immediate32 | OpKind::Immediate32to64) =>
            {
                Step::Set(number, u64::from(instruction.immediate32()))
            }
            (Mnemonic::Xor, Some(number)) if instruction.op0_register() == instruction.op1_register() => {
                Step::Set(number, 0)
            }
            // push 16; pop rdi: what a compiler writes when asked for small code.
            (Mnemonic::Pop, Some(number)) => {
                pushed.take().map_or(Step::Other, |value| Step::Set(number, value))
            }
            (Mnemonic::Lea, _) if instruction.is_ip_rel_memory_operand() => {
                Step::Address(instruction.ip_rel_memory_address())
            }
            // Through the linker's table of addresses (-fno-plt): the callee is as fixed as any.
            (Mnemonic::Call | Mnemonic::Jmp, _) if instruction.is_ip_rel_memory_operand() => Step::Leave,
            (Mnemonic::Call | Mnemonic::Jmp, _) if instruction.op0_kind() != OpKind::NearBranch64 => {
                Step::CallThroughPointer
            }
            (Mnemonic::Call | Mnemonic::Jmp | Mnemonic::Ret, _) => Step::Leave,
            _ => Step::Other,
        };
        if matches!(instruction.code(), Code::Pushq_imm8 | Code::Pushq_imm32) {
            pushed = Some(instruction.immediate(0));
        }
        take(step);
    }
}

/// The System V ABI's argument registers (AMD64 supplement, 3.2.3).
fn argument_of(register: Register) -> Option<usize> {
    match register {
        Register::EDI | Register::RDI => Some(0),
        Register::ESI | Register::RSI => Some(1),
        Register::EDX | Register::RDX => Some(2),
        Register::ECX | Register::RCX => Some(3),
        Register::R8D | Register::R8 => Some(4),
        _ => None,
    }
}
