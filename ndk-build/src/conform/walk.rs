//! Walks a program as 4.14's verifier does, with what that one knows on the way.
//!
//! Today's verifiers keep what they know of a number when a register is spilled to the stack; 4.14's (`check_stack_write`,
//! `kernel/bpf/verifier.c`) keeps only pointers. So a bound is lost there ("R5 min value is negative"), and so is that a pointer
//! turned out to be null: it is a number from then on, comes back from the stack as any number, is compared with null again,
//! and on a way that no run takes it is read through ("R9 invalid mem access 'inv'"). Both refuse the whole object on the phone,
//! and nothing on this machine says so. Packets and maps in maps, which no program here has, are not followed.

use std::collections::{BTreeMap, HashMap};

use super::linux_4_14 as linux;
use super::number::{Comparison, Number, Operation};
use super::object::{BpfObject, Instruction, Map, Program, Reference};
use super::rules::{self, Breach, Rule, code};

/// `BPF_COMPLEXITY_LIMIT_INSNS`, `kernel/bpf/verifier.c`. Ours prunes at least as well as 4.14's, so this is the last resort.
const LIMIT: u32 = 131_072;
/// `MAX_BPF_STACK`, `include/linux/filter.h`.
const STACK: i64 = 512;
/// Bytes of a slot, which holds one register.
const SLOT: i64 = 8;
/// `BPF_MAX_VAR_SIZ` and `BPF_MAX_VAR_OFF`, `include/linux/bpf_verifier.h`.
const MAX_VARIABLE: u64 = 1 << 29;
/// The frame pointer.
const FRAME: u8 = 10;

/// What a register holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
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
enum Base {
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
struct State {
    registers: [Value; 11],
    /// By offset below the frame, in slots.
    stack: BTreeMap<i64, Slot>,
}

/// What a helper takes (`enum bpf_arg_type`, `include/linux/bpf.h`).
#[derive(Clone, Copy)]
enum Argument {
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
fn arguments(helper: u32) -> Option<&'static [Argument]> {
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

/// What 4.14 would refuse, and where.
struct Refusal(String);

type Checked<T> = Result<T, Refusal>;

fn refuse<T>(what: impl Into<String>) -> Checked<T> {
    Err(Refusal(what.into()))
}

/// Where a way goes on.
enum Next {
    End,
    At(usize),
    /// At the first in the state that it is in now, and at the second in another.
    Either(usize, usize, Box<State>),
}

/// Walks every program of an object that keeps the other rules.
pub fn check(object: &BpfObject) -> Vec<Breach> {
    object.programs.iter().filter_map(|program| Walk::new(object, program).all()).collect()
}

struct Walk<'o> {
    program: &'o Program,
    maps: &'o [Map],
    /// Maps by the instruction that loads them.
    loads: HashMap<usize, usize>,
    /// Registers that are read after an instruction is reached, as bits.
    live: Vec<u16>,
    /// States in which places where ways meet have been reached.
    seen: HashMap<usize, Vec<State>>,
    ids: u32,
}

impl<'o> Walk<'o> {
    fn new(object: &'o BpfObject, program: &'o Program) -> Self {
        let map = |name: &str| object.maps.iter().position(|map| map.name == name);
        let loads = program.references.iter().filter_map(|(at, to)| match to {
            Reference::Map(name) => Some((*at, map(name)?)),
            _ => None,
        });
        let mut seen = HashMap::new();
        for (at, instruction) in program.instructions.iter().enumerate() {
            if instruction.code & code::CLASS == code::JMP
                && let [one, other @ Some(_)] = rules::successors(*instruction, at)
            {
                seen.extend([one, other].into_iter().flatten().map(|at| (at, Vec::new())));
            }
        }
        Self { program, maps: &object.maps, loads: loads.collect(), live: live(program), seen, ids: 0 }
    }

    /// The first thing it would be refused for.
    fn all(mut self) -> Option<Breach> {
        let mut steps = 0_u32;
        let mut due = vec![(0_usize, State::first())];
        while let Some((mut at, mut state)) = due.pop() {
            loop {
                if self.was_there(at, &state) {
                    break;
                }
                steps = steps.saturating_add(1);
                if steps > LIMIT {
                    let what = format!("more than {LIMIT} instructions to walk");
                    return Some(rules::breach(&self.program.name, None, Rule::Complexity, what));
                }
                match self.step(at, &mut state) {
                    Ok(Next::End) => break,
                    Ok(Next::At(next)) => at = next,
                    Ok(Next::Either(next, later, other)) => {
                        due.push((later, *other));
                        at = next;
                    }
                    Err(Refusal(what)) => {
                        return Some(rules::breach(&self.program.name, Some(at), Rule::Walk, what));
                    }
                }
            }
        }
        None
    }

    /// Whether a state of which this is a case was followed from here before; from now on it was.
    fn was_there(&mut self, at: usize, state: &State) -> bool {
        let live = self.live.get(at).copied().unwrap_or(u16::MAX);
        let Some(seen) = self.seen.get_mut(&at) else { return false };
        if seen.iter().any(|earlier| earlier.holds(state, live)) {
            return true;
        }
        seen.push(state.clone());
        false
    }

    fn step(&mut self, at: usize, state: &mut State) -> Checked<Next> {
        let Some(instruction) = self.program.instructions.get(at).copied() else {
            return refuse("the program ends without leaving");
        };
        let next = at.saturating_add(1);
        match instruction.code & code::CLASS {
            code::LD if instruction.code == code::LOAD_64 => {
                let upper = self.program.instructions.get(next).map_or(0, |second| second.constant);
                let value = match self.loads.get(&at) {
                    Some(map) => Value::Map(*map),
                    None => {
                        let (low, high) = (instruction.constant.cast_unsigned(), upper.cast_unsigned());
                        Value::Number(Number::known(u64::from(low) | u64::from(high) << 32))
                    }
                };
                state.set(instruction.destination, value);
                return Ok(Next::At(at.saturating_add(2)));
            }
            code::LDX => {
                let value = self.load(state, instruction)?;
                state.set(instruction.destination, value);
            }
            code::ST => self.store(state, instruction, None)?,
            code::STX => {
                let value = state.get(instruction.source)?;
                self.store(state, instruction, Some(value))?;
            }
            code::JMP => return self.jump(at, instruction, state),
            _ => arithmetic(state, instruction)?,
        }
        Ok(Next::At(next))
    }

    fn load(&self, state: &State, instruction: Instruction) -> Checked<Value> {
        let register = instruction.source;
        let bytes = size(instruction);
        let (base, fixed, variable) = address(state, register)?;
        let fixed = fixed.saturating_add(i64::from(instruction.offset));
        match base {
            Base::Element(map) => self.within(register, map, fixed, &variable, i64::from(bytes))?,
            Base::Context => fixed_only(register, &variable)?,
            Base::Stack => {
                fixed_only(register, &variable)?;
                return state.read(fixed, bytes);
            }
        }
        Ok(Value::Number(Number::UNKNOWN.cut(bytes)))
    }

    fn store(&self, state: &mut State, instruction: Instruction, value: Option<Value>) -> Checked<()> {
        let register = instruction.destination;
        let bytes = size(instruction);
        let (base, fixed, variable) = address(state, register)?;
        let fixed = fixed.saturating_add(i64::from(instruction.offset));
        match base {
            Base::Element(map) => self.within(register, map, fixed, &variable, i64::from(bytes)),
            Base::Context => refuse(format!("writes to the context through r{register}")),
            Base::Stack => {
                fixed_only(register, &variable)?;
                let adds = instruction.code & code::MODE == code::ATOMIC;
                if adds {
                    state.read(fixed, bytes)?;
                }
                state.write(fixed, bytes, value.filter(|_| !adds))
            }
        }
    }

    /// Whether an access lies inside a map's value (`check_map_access`).
    fn within(&self, register: u8, map: usize, fixed: i64, variable: &Number, bytes: i64) -> Checked<()> {
        let map = self.maps.get(map);
        let (name, len) = map.map_or(("?", 0), |map| (map.name.as_str(), i64::from(map.value_size)));
        if fixed.saturating_add(variable.least()) < 0 {
            return refuse(format!("r{register} min value is negative, in a value of {name}{LOST}"));
        }
        if variable.max >= MAX_VARIABLE {
            return refuse(format!("r{register} unbounded, in a value of {name}{LOST}"));
        }
        let end = fixed.saturating_add_unsigned(variable.max).saturating_add(bytes);
        if bytes <= 0 || end > len {
            return refuse(format!("r{register}: {bytes} bytes up to {end} of a value of {len}, of {name}"));
        }
        Ok(())
    }

    fn jump(&mut self, at: usize, instruction: Instruction, state: &mut State) -> Checked<Next> {
        let next = at.saturating_add(1);
        let target = rules::target(instruction, at).unwrap_or(usize::MAX);
        let how = match instruction.code & code::OPERATION {
            code::EXIT => {
                state.get(0)?;
                return Ok(Next::End);
            }
            code::CALL => {
                self.call(linux::after_loader(instruction.constant.cast_unsigned()), state)?;
                return Ok(Next::At(next));
            }
            code::JA => return Ok(Next::At(target)),
            other => comparison(other),
        };
        let register = instruction.destination;
        let one = state.get(register)?;
        let other = if instruction.code & code::FROM_REGISTER == 0 {
            None
        } else {
            Some(state.get(instruction.source)?)
        };
        let constant = i64::from(instruction.constant).cast_unsigned();
        let equality = matches!(how, Comparison::Equal | Comparison::Unequal);
        let (mut holds, mut fails) = (state.clone(), state.clone());
        match (one, other) {
            (Value::Number(number), None) => {
                if equality && number.value() == Some(constant) {
                    return Ok(Next::At(if how == Comparison::Equal { target } else { next }));
                }
                let (yes, no) = number.compared(how, constant);
                holds.set(register, Value::Number(yes));
                fails.set(register, Value::Number(no));
            }
            (Value::Maybe { id, .. }, None) if equality && constant == 0 => {
                holds.found(id, how == Comparison::Unequal);
                fails.found(id, how == Comparison::Equal);
            }
            (Value::Number(number), Some(Value::Number(with))) => {
                if let Some(value) = with.value() {
                    let (yes, no) = number.compared(how, value);
                    holds.set(register, Value::Number(yes));
                    fails.set(register, Value::Number(no));
                } else if let Some(value) = number.value() {
                    let (yes, no) = with.compared(how.exchanged(), value);
                    holds.set(instruction.source, Value::Number(yes));
                    fails.set(instruction.source, Value::Number(no));
                } else if equality {
                    let equal = if how == Comparison::Equal { &mut holds } else { &mut fails };
                    let met = Value::Number(number.met(&with));
                    equal.set(register, met);
                    equal.set(instruction.source, met);
                }
            }
            // Root's programs may compare addresses; nothing is learnt.
            _ => {}
        }
        *state = fails;
        Ok(Next::Either(next, target, Box::new(holds)))
    }

    fn call(&mut self, helper: u32, state: &mut State) -> Checked<()> {
        let name = linux::helper_name(helper);
        let mut of = None;
        let mut written = None;
        for (register, argument) in (1_u8..).zip(arguments(helper).unwrap_or_default()) {
            let value = state.get(register)?;
            let wrong = || refuse(format!("r{register} is {} where {name} takes another", value.what()));
            match (argument, value) {
                (Argument::Any, _)
                | (Argument::Context, Value::Address { base: Base::Context, .. })
                | (
                    Argument::Read | Argument::Written,
                    Value::Address { base: Base::Stack | Base::Element(_), .. },
                ) => {}
                (Argument::Map, Value::Map(map)) => of = self.maps.get(map).map(|known| (map, known)),
                (Argument::Key, _) => {
                    state.stands(register, of.map_or(0, |(_, map)| i64::from(map.key_size)), &name)?;
                }
                (Argument::Value, _) => {
                    state.stands(register, of.map_or(0, |(_, map)| i64::from(map.value_size)), &name)?;
                }
                (Argument::Size, Value::Number(number)) => {
                    let memory = register.saturating_sub(1);
                    let writes = matches!(arguments(helper), Some([Argument::Written, ..]));
                    if number.may_be_negative() {
                        return refuse(format!("r{register} min value is negative, for {name}{LOST}"));
                    }
                    if number.max >= MAX_VARIABLE {
                        return refuse(format!("r{register} unbounded, for {name}{LOST}"));
                    }
                    if number.min == 0 {
                        return refuse(format!("r{register} may be zero, for {name}{LOST}"));
                    }
                    let most = number.max.cast_signed();
                    if let Value::Address { base: Base::Element(map), fixed, variable } = state.get(memory)? {
                        self.within(memory, map, fixed, &variable, most)?;
                    } else if writes && number.value().is_some() {
                        written = Some((memory, most));
                    } else {
                        state.stands(memory, most, &name)?;
                    }
                }
                _ => return wrong(),
            }
        }
        if let Some((memory, bytes)) = written {
            let (_, fixed, variable) = address(state, memory)?;
            fixed_only(memory, &variable)?;
            for byte in 0..bytes {
                state.write(fixed.saturating_add(byte), 1, None)?;
            }
        }
        for register in 1..=5 {
            state.set(register, Value::Unset);
        }
        let result = match of {
            Some((map, _)) if helper == 1 => {
                self.ids = self.ids.saturating_add(1);
                Value::Maybe { map, id: self.ids }
            }
            _ => Value::Number(Number::UNKNOWN),
        };
        state.set(0, result);
        Ok(())
    }
}

/// What to look for, behind each refusal that a number gives rise to.
const LOST: &str = " (was it on the stack? 4.14 forgets what it knew of it: bound it where it is used)";

impl State {
    fn first() -> Self {
        let mut first = Self { registers: [Value::Unset; 11], stack: BTreeMap::new() };
        let variable = Number::known(0);
        first.set(1, Value::Address { base: Base::Context, fixed: 0, variable });
        first.set(FRAME, Value::Address { base: Base::Stack, fixed: 0, variable });
        first
    }

    fn get(&self, register: u8) -> Checked<Value> {
        match self.registers.get(usize::from(register)) {
            None | Some(Value::Unset) => refuse(format!("r{register} is read, and nothing is in it")),
            Some(value) => Ok(*value),
        }
    }

    fn set(&mut self, register: u8, value: Value) {
        if let Some(place) = self.registers.get_mut(usize::from(register)) {
            *place = value;
        }
    }

    /// A look-up was compared with null: its copies are what they are now, on the stack as well (`mark_map_regs`). Null is a number.
    fn found(&mut self, compared: u32, found: bool) {
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
    fn read(&self, offset: i64, bytes: u32) -> Checked<Value> {
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
    fn write(&mut self, offset: i64, bytes: u32, value: Option<Value>) -> Checked<()> {
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
    fn stands(&self, register: u8, bytes: i64, name: &str) -> Checked<()> {
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
    fn holds(&self, other: &Self, live: u16) -> bool {
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
    fn what(&self) -> &'static str {
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
fn address(state: &State, register: u8) -> Checked<(Base, i64, Number)> {
    match state.get(register)? {
        Value::Address { base, fixed, variable } => Ok((base, fixed, variable)),
        Value::Number(_) => refuse(format!(
            "r{register} invalid mem access 'inv': a number here (a look-up that was on the stack, found to be null on \
             this way? 4.14 takes what comes back for any number: look it up again where it is used)"
        )),
        other => refuse(format!("r{register} invalid mem access: it is {}", other.what())),
    }
}

fn fixed_only(register: u8, variable: &Number) -> Checked<()> {
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

/// Bytes that are loaded or stored (`BPF_SIZE`).
fn size(instruction: Instruction) -> u32 {
    match instruction.code & 0x18 {
        0x00 => 4,
        0x08 => 2,
        0x10 => 1,
        _ => 8,
    }
}

fn comparison(operation: u8) -> Comparison {
    match operation {
        0x10 => Comparison::Equal,
        0x20 => Comparison::Greater,
        0x30 => Comparison::GreaterOrEqual,
        0x50 => Comparison::Unequal,
        0x60 => Comparison::SignedGreater,
        0x70 => Comparison::SignedGreaterOrEqual,
        0xa0 => Comparison::Less,
        0xb0 => Comparison::LessOrEqual,
        0xc0 => Comparison::SignedLess,
        0xd0 => Comparison::SignedLessOrEqual,
        _ => Comparison::Bits,
    }
}

/// `BPF_MOV`, `include/uapi/linux/bpf.h`.
const MOVE: u8 = 0xb0;
/// `BPF_NEG`.
const NEGATE: u8 = 0x80;

fn arithmetic(state: &mut State, instruction: Instruction) -> Checked<()> {
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

/// For each instruction the registers that are read on some way from it before they are written.
fn live(program: &Program) -> Vec<u16> {
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

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
