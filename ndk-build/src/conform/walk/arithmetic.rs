//! What a register holds after an instruction that calculates.

use super::super::number::{Number, Operation};
use super::super::object::Instruction;
use super::super::rules::code;
use super::Checked;
use super::state::{Base, State, Value};

/// `BPF_MOV`, `include/uapi/linux/bpf.h`.
pub(super) const MOVE: u8 = 0xb0;
/// `BPF_NEG`.
const NEGATE: u8 = 0x80;

pub(super) fn arithmetic(state: &mut State, instruction: Instruction) -> Checked<()> {
    let wide = instruction.code & code::CLASS != code::ALU;
    let operation = match instruction.code & code::OPERATION {
        0x00 => Operation::Add,
        0x10 => Operation::Subtract,
        0x20 => Operation::Multiply,
        0x40 => Operation::Or,
        0x50 => Operation::And,
        0x60 => Operation::ShiftLeft,
        0x70 => Operation::ShiftRight,
        _ => Operation::Other,
    };
    let kind = instruction.code & code::OPERATION;
    let single = kind == NEGATE || kind == code::END;
    let register = instruction.destination;
    let constant = Value::Number(Number::known(i64::from(instruction.constant).cast_unsigned()));
    let from_register = !single && instruction.code & code::FROM_REGISTER != 0;
    let other = if from_register { state.get(instruction.source)? } else { constant };
    let unknown = Value::Number(if wide { Number::UNKNOWN } else { Number::UNKNOWN.cut(4) });
    let value = if kind == MOVE {
        match other {
            _ if wide => other,
            // A 32-bit copy is a number of which nothing more is known.
            _ if from_register => unknown,
            Value::Number(number) => Value::Number(number.cut(4)),
            _ => unknown,
        }
    } else {
        let one = state.get(register)?;
        match (one, other) {
            _ if single => Value::Number(Number::UNKNOWN),
            (Value::Number(one), Value::Number(two)) => Value::Number(one.after(operation, two, wide)),
            (Value::Address { base, fixed, variable }, Value::Number(by)) if wide => {
                moved(base, fixed, variable, operation, by).unwrap_or(unknown)
            }
            (Value::Number(by), Value::Address { base, fixed, variable })
                if wide && operation == Operation::Add =>
            {
                moved(base, fixed, variable, operation, by).unwrap_or(unknown)
            }
            // Root's programs may make numbers of addresses.
            _ => unknown,
        }
    };
    state.set(register, value);
    Ok(())
}

/// An address and a number (`adjust_ptr_min_max_vals`); none when what comes of it is a number.
fn moved(base: Base, fixed: i64, variable: Number, operation: Operation, by: Number) -> Option<Value> {
    let known = by.value().map(u64::cast_signed);
    let sane = |offset: &i64| i32::try_from(*offset).is_ok();
    let (fixed, variable) = match operation {
        Operation::Add => match known.and_then(|by| fixed.checked_add(by)).filter(sane) {
            Some(fixed) => (fixed, variable),
            None => (fixed, variable.plus(&by).settled()),
        },
        // From the stack's address 4.14 takes nothing away.
        Operation::Subtract if base != Base::Stack => {
            match known.and_then(|by| fixed.checked_sub(by)).filter(sane) {
                Some(fixed) => (fixed, variable),
                None => (fixed, variable.minus(&by).settled()),
            }
        }
        _ => return None,
    };
    Some(Value::Address { base, fixed, variable })
}
