//! aarch64: the handset.

use std::collections::BTreeSet;

use yaxpeax_arch::{Decoder as _, U8Reader};
use yaxpeax_arm::armv8::a64::{InstDecoder, Opcode, Operand};

use super::code::Step;
use super::image::Segment;

/// `adrp` and a later `add` on the same register, or `adr` (Arm ARM, C6.2).
pub(super) fn references(segment: &Segment<'_>, names: &BTreeSet<u64>, out: &mut Vec<u64>) {
    let mut pages = [None::<u64>; 32];
    for (address, word) in words(segment) {
        let register = |shift: u32| (word >> shift & 31) as usize;
        if word & 0x9f00_0000 == 0x9000_0000 {
            let page = (address & !0xfff).wrapping_add_signed(immediate21(word) << 12);
            if let Some(slot) = pages.get_mut(register(0)) {
                *slot = Some(page);
            }
        } else if word & 0xff80_0000 == 0x9100_0000 {
            let shift = if word & 0x40_0000 == 0 { 0 } else { 12 };
            let add = u64::from(word >> 10 & 0xfff) << shift;
            let target = pages.get(register(5)).copied().flatten().map(|page| page.wrapping_add(add));
            if target.is_some_and(|target| names.contains(&target)) {
                out.push(address);
            }
            if register(0) != register(5)
                && let Some(slot) = pages.get_mut(register(0))
            {
                *slot = None;
            }
        } else if word & 0x9f00_0000 == 0x1000_0000 {
            if names.contains(&address.wrapping_add_signed(immediate21(word))) {
                out.push(address);
            }
        } else if word == 0xd65f_03c0 {
            // ret: what the registers held says nothing about the next function.
            pages = [None; 32];
        }
    }
}

/// The signed 21-bit immediate of `adr` and `adrp`.
fn immediate21(word: u32) -> i64 {
    let raw = (word >> 5 & 0x7_ffff) << 2 | word >> 29 & 3;
    i64::from((raw << 11).cast_signed() >> 11)
}

/// The signed 26-bit word offset of `b` and `bl`.
fn immediate26(word: u32) -> i64 {
    i64::from((word << 6).cast_signed() >> 6) << 2
}

fn words<'a>(segment: &'a Segment<'_>) -> impl Iterator<Item = (u64, u32)> + 'a {
    let skip = (segment.address.wrapping_neg() & 3) as usize;
    let aligned = segment.bytes.get(skip..).unwrap_or_default();
    let base = segment.address.wrapping_add(skip as u64);
    aligned
        .as_chunks::<4>()
        .0
        .iter()
        .enumerate()
        .map(move |(i, word)| (base.wrapping_add((i as u64).wrapping_mul(4)), u32::from_le_bytes(*word)))
}

/// Every direct call.
pub(super) fn calls(segment: &Segment<'_>, take: &mut impl FnMut(u64, u64)) {
    for (address, word) in words(segment) {
        if word & 0xfc00_0000 == 0x9400_0000 {
            take(address, address.wrapping_add_signed(immediate26(word)));
        }
    }
}

/// Every direct jump, conditional or not (`b`, `b.cond`, `cbz`, `cbnz`, `tbz`, `tbnz`).
pub(super) fn jumps(segment: &Segment<'_>, take: &mut impl FnMut(u64, u64)) {
    for (address, word) in words(segment) {
        let offset = if word & 0xfc00_0000 == 0x1400_0000 {
            immediate26(word)
        } else if word & 0xff00_0010 == 0x5400_0000 || word & 0x7e00_0000 == 0x3400_0000 {
            // 19 bits of words.
            i64::from((word << 8).cast_signed() >> 13) << 2
        } else if word & 0x7e00_0000 == 0x3600_0000 {
            // 14 bits of words.
            i64::from((word << 13).cast_signed() >> 18) << 2
        } else {
            continue;
        };
        take(address, address.wrapping_add_signed(offset));
    }
}

/// The number of the zero register, where an instruction has no use for the stack pointer.
const ZERO: u16 = 31;

fn immediate(operand: &Operand) -> Option<u64> {
    match operand {
        Operand::Immediate(value) => Some(u64::from(*value)),
        Operand::Imm64(value) => Some(*value),
        Operand::Imm16(value) => Some(u64::from(*value)),
        Operand::ImmShift(value, shift) => u64::from(*value).checked_shl(u32::from(*shift)),
        _ => None,
    }
}

/// Disassembles a function.
pub(super) fn steps(bytes: &[u8], start: u64, take: &mut impl FnMut(Step)) {
    let decoder = InstDecoder::default();
    let mut pages: [Option<u64>; 32] = [None; 32];
    for (index, word) in bytes.as_chunks::<4>().0.iter().enumerate() {
        let address = start.wrapping_add((index as u64).wrapping_mul(4));
        let Ok(instruction) = decoder.decode(&mut U8Reader::new(word)) else { continue };
        let step = match (instruction.opcode, &instruction.operands) {
            (Opcode::MOVZ, [Operand::Register(_, register), Operand::ImmShift(value, shift), ..]) => {
                // Immediates beyond 64 bits do not exist; a shift that large is no instruction.
                let value = u64::from(*value).checked_shl(u32::from(*shift)).unwrap_or(0);
                Step::Set(usize::from(*register), value)
            }
            // orr w0, wzr, #16: how older compilers write mov where the value is a bit mask.
            (
                Opcode::ORR,
                [
                    Operand::Register(_, register) | Operand::RegisterOrSP(_, register),
                    Operand::Register(_, ZERO),
                    value,
                    ..,
                ],
            ) => match immediate(value) {
                Some(value) => Step::Set(usize::from(*register), value),
                None => Step::Other,
            },
            (Opcode::ADRP, [Operand::Register(_, register), Operand::PCOffset(offset), ..]) => {
                if let Some(page) = pages.get_mut(usize::from(*register)) {
                    *page = Some((address & !0xfff).wrapping_add_signed(*offset));
                }
                Step::Other
            }
            (Opcode::ADR, [_, Operand::PCOffset(offset), ..]) => {
                Step::Address(address.wrapping_add_signed(*offset))
            }
            (Opcode::ADD, [_, Operand::Register(_, base) | Operand::RegisterOrSP(_, base), value, ..]) => {
                match (pages.get(usize::from(*base)).copied().flatten(), immediate(value)) {
                    (Some(page), Some(add)) => Step::Address(page.wrapping_add(add)),
                    _ => Step::Other,
                }
            }
            (Opcode::BLR, _) | (Opcode::BR, _) => Step::CallThroughPointer,
            (Opcode::BL, _) | (Opcode::B, _) | (Opcode::RET, _) => Step::Leave,
            _ => Step::Other,
        };
        take(step);
    }
}
