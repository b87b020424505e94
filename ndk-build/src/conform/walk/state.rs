//! What the verifier knows at one place of a program: the registers and the stack.

use std::collections::BTreeMap;

use super::super::number::Number;
use super::{Checked, refuse};

/// `MAX_BPF_STACK`, `include/linux/filter.h`.
const STACK: i64 = 512;
/// Bytes of a slot, which holds one register.
const SLOT: i64 = 8;
/// The frame pointer.
pub(super) const FRAME: u8 = 10;

/// What a register holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    /// Nothing: reading it is refused.
    Unset,
    Number(Number),
    /// A map, by its place in the object.
    Map(usize),
    /// What a look-up found, which may be nothing; copies of one bear its number.
    Maybe {
        map: usize,
        id: u32,
    },
    /// An address inside something, with an offset that is fixed and one that is not.
    Address {
        base: Base,
        fixed: i64,
        variable: Number,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    Context,
    Stack,
    Element(usize),
}

/// Eight bytes of the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    /// These of its bytes were written, with nobody knows what.
    Bytes(u8),
    /// A register that held no number.
    Spilled(Value),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    registers: [Value; 11],
    /// By offset below the frame, in slots.
    stack: BTreeMap<i64, Slot>,
}

impl State {
    pub(super) fn first() -> Self {
        let mut first = Self { registers: [Value::Unset; 11], stack: BTreeMap::new() };
        let variable = Number::known(0);
        first.set(1, Value::Address { base: Base::Context, fixed: 0, variable });
        first.set(FRAME, Value::Address { base: Base::Stack, fixed: 0, variable });
        first
    }

    pub(super) fn get(&self, register: u8) -> Checked<Value> {
        match self.registers.get(usize::from(register)) {
            None | Some(Value::Unset) => refuse(format!("r{register} is read, and nothing is in it")),
            Some(value) => Ok(*value),
        }
    }

    pub(super) fn set(&mut self, register: u8, value: Value) {
        if let Some(place) = self.registers.get_mut(usize::from(register)) {
            *place = value;
        }
    }

    /// A look-up was compared with null: its copies are what they are now, on the stack as well (`mark_map_regs`). Null is a number.
    pub(super) fn found(&mut self, compared: u32, found: bool) {
        let spilled = self.stack.values_mut().filter_map(|slot| match slot {
            Slot::Spilled(value) => Some(value),
            Slot::Bytes(_) => None,
        });
        for value in self.registers.iter_mut().chain(spilled) {
            if let Value::Maybe { map, id } = *value
                && id == compared
            {
                let zero = Number::known(0);
                *value = if found {
                    Value::Address { base: Base::Element(map), fixed: 0, variable: zero }
                } else {
                    Value::Number(zero)
                };
            }
        }
    }

    /// Reads from the stack (`check_stack_read`).
    pub(super) fn read(&self, offset: i64, bytes: u32) -> Checked<Value> {
        let (slot, mask) = place(offset, bytes)?;
        match self.stack.get(&slot) {
            Some(Slot::Spilled(value)) if i64::from(bytes) == SLOT => Ok(*value),
            Some(Slot::Spilled(_)) => {
                refuse(format!("reads {bytes} bytes of a register spilled at {offset}"))
            }
            Some(Slot::Bytes(written)) if mask & !written == 0 => {
                Ok(Value::Number(Number::UNKNOWN.cut(bytes)))
            }
            _ => refuse(format!("reads {bytes} bytes of the stack at {offset} that nobody wrote")),
        }
    }

    /// Writes to the stack (`check_stack_write`): numbers are forgotten.
    pub(super) fn write(&mut self, offset: i64, bytes: u32, value: Option<Value>) -> Checked<()> {
        let (slot, mask) = place(offset, bytes)?;
        match value {
            None | Some(Value::Number(_) | Value::Unset) => {
                let there = match self.stack.get(&slot) {
                    Some(Slot::Bytes(written)) => *written,
                    _ => 0,
                };
                self.stack.insert(slot, Slot::Bytes(there | mask));
            }
            Some(pointer) if i64::from(bytes) == SLOT => {
                self.stack.insert(slot, Slot::Spilled(pointer));
            }
            Some(pointer) => return refuse(format!("spills a part of {} to {offset}", pointer.what())),
        }
        Ok(())
    }

    /// Whether a register leads to so many written bytes of the stack (`check_stack_boundary`).
    pub(super) fn stands(&self, register: u8, bytes: i64, name: &str) -> Checked<()> {
        let Value::Address { base: Base::Stack, fixed, variable } = self.get(register)? else {
            return refuse(format!("r{register} leads to no stack, for {name}"));
        };
        fixed_only(register, &variable)?;
        for byte in 0..bytes {
            let at = fixed.saturating_add(byte);
            let (slot, mask) = place(at, 1)?;
            if !matches!(self.stack.get(&slot), Some(Slot::Bytes(written)) if written & mask != 0) {
                return refuse(format!("{name} would read the stack at {at}, where no bytes are"));
            }
        }
        Ok(())
    }

    /// Whether what holds in this state, as far as it matters, holds in `other` (`states_equal`). That bytes of the stack may
    /// not have been written on another way is left to this machine's verifier.
    pub(super) fn holds(&self, other: &Self, live: u16) -> bool {
        let mut ids = Vec::new();
        let registers = self.registers.iter().zip(&other.registers).zip(0..);
        registers
            .filter(|(_, register)| live >> register & 1 != 0)
            .all(|((one, two), _)| one.holds(two, &mut ids))
            && self.stack.iter().all(|(slot, here)| match (here, other.stack.get(slot)) {
                // Whatever comes from there was taken for any number.
                (Slot::Bytes(_), _) => true,
                (Slot::Spilled(here), Some(Slot::Spilled(there))) => here.holds(there, &mut ids),
                (Slot::Spilled(_), _) => false,
            })
    }
}

impl Value {
    pub(super) fn what(&self) -> &'static str {
        match self {
            Self::Unset => "nothing",
            Self::Number(_) => "a number",
            Self::Map(_) => "a map",
            Self::Maybe { .. } => "a look-up that was not compared with null",
            Self::Address { .. } => "an address",
        }
    }

    /// Whether `other` is a case of this (`regsafe`); look-ups that were compared belong together in both.
    fn holds(&self, other: &Self, ids: &mut Vec<(u32, u32)>) -> bool {
        match (self, other) {
            (Self::Unset, _) => true,
            (Self::Number(one), Self::Number(two)) => one.holds(two),
            (Self::Number(one), _) => *one == Number::UNKNOWN && *other != Self::Unset,
            (Self::Maybe { map: one, id: earlier }, Self::Maybe { map: two, id: now }) => {
                let known = ids.iter().find(|(known, _)| known == earlier).map(|(_, same)| same == now);
                if known.is_none() {
                    ids.push((*earlier, *now));
                }
                one == two && known.unwrap_or(true)
            }
            (
                Self::Address { base: one, fixed: at, variable: by },
                Self::Address { base: two, fixed, variable },
            ) => one == two && at == fixed && by.holds(variable),
            _ => self == other,
        }
    }
}

/// Where a register leads to.
pub(super) fn address(state: &State, register: u8) -> Checked<(Base, i64, Number)> {
    match state.get(register)? {
        Value::Address { base, fixed, variable } => Ok((base, fixed, variable)),
        Value::Number(_) => refuse(format!(
            "r{register} invalid mem access 'inv': a number here (a look-up that was on the stack, found to be null on \
             this way? 4.14 takes what comes back for any number: look it up again where it is used)"
        )),
        other => refuse(format!("r{register} invalid mem access: it is {}", other.what())),
    }
}

pub(super) fn fixed_only(register: u8, variable: &Number) -> Checked<()> {
    match variable.value() {
        Some(0) => Ok(()),
        _ => refuse(format!("r{register} has an offset that is not fixed")),
    }
}

/// The slot of some bytes of the stack, and which of its bytes they are.
fn place(offset: i64, bytes: u32) -> Checked<(i64, u8)> {
    let bytes_here = i64::from(bytes);
    if offset < -STACK || offset.saturating_add(bytes_here) > 0 {
        return refuse(format!("{bytes} bytes at {offset} are not on the stack"));
    }
    if offset.rem_euclid(bytes_here.max(1)) != 0 {
        return refuse(format!("{bytes} bytes at {offset} of the stack are not aligned"));
    }
    let mask = u8::MAX.checked_shr(8_u32.saturating_sub(bytes)).unwrap_or(0);
    let first = u32::try_from(offset.rem_euclid(SLOT)).unwrap_or(0);
    Ok((offset.div_euclid(SLOT), mask.checked_shl(first).unwrap_or(0)))
}
