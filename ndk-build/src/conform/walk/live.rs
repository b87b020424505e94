//! Which registers matter at a place of a program: states that differ in others are the same.

use super::super::linux_4_14 as linux;
use super::super::object::{Instruction, Program};
use super::super::rules::{self, code};
use super::arithmetic::MOVE;
use super::helpers::{Argument, arguments};

/// For each instruction the registers that are read on some way from it before they are written.
pub(super) fn live(program: &Program) -> Vec<u16> {
    let mut live = vec![0_u16; program.instructions.len()];
    let mut changed = true;
    while changed {
        changed = false;
        for (at, instruction) in program.instructions.iter().enumerate().rev() {
            let (reads, writes) = used(*instruction);
            let after = rules::successors(*instruction, at)
                .into_iter()
                .flatten()
                .filter_map(|next| live.get(next))
                .fold(0, |all, next| all | next);
            let now = reads | after & !writes;
            if let Some(place) = live.get_mut(at)
                && *place != now
            {
                *place = now;
                changed = true;
            }
        }
    }
    live
}

/// Registers that an instruction reads and writes, as bits.
fn used(instruction: Instruction) -> (u16, u16) {
    let bit = |register: u8| 1_u16.checked_shl(u32::from(register)).unwrap_or(0);
    let (to, from) = (bit(instruction.destination), bit(instruction.source));
    let by_register = instruction.code & code::FROM_REGISTER != 0;
    let operation = instruction.code & code::OPERATION;
    match instruction.code & code::CLASS {
        code::LD => (0, to),
        code::LDX => (from, to),
        code::ST => (to, 0),
        code::STX => (to | from, 0),
        code::JMP => match operation {
            code::EXIT => (bit(0), 0),
            code::JA => (0, 0),
            code::CALL => {
                let count = arguments(linux::after_loader(instruction.constant.cast_unsigned()))
                    .map_or(5, <[Argument]>::len);
                ((1..=5_u8).take(count).fold(0, |all, register| all | bit(register)), 0x3f)
            }
            _ if by_register => (to | from, 0),
            _ => (to, 0),
        },
        _ => {
            let source = if by_register && operation != code::END { from } else { 0 };
            let own = if operation == MOVE { 0 } else { to };
            (source | own, to)
        }
    }
}
