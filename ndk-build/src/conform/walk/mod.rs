//! Walks a program as 4.14's verifier does, with what that one knows on the way.
//!
//! Today's verifiers keep what they know of a number when a register is spilled to the stack; 4.14's (`check_stack_write`,
//! `kernel/bpf/verifier.c`) keeps only pointers. So a bound is lost there ("R5 min value is negative"), and so is that a pointer
//! turned out to be null: it is a number from then on, comes back from the stack as any number, is compared with null again,
//! and on a way that no run takes it is read through ("R9 invalid mem access 'inv'"). Both refuse the whole object on the phone,
//! and nothing on this machine says so. Packets and maps in maps, which no program here has, are not followed.

mod arithmetic;
mod helpers;
mod live;
mod state;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use super::linux_4_14 as linux;
use super::number::{Comparison, Number};
use super::object::{BpfObject, Instruction, Map, Program, Reference};
use super::rules::{self, Breach, Rule, code};
use arithmetic::arithmetic;
use helpers::{Argument, arguments};
use live::live;
use state::{Base, State, Value, address, fixed_only};

/// `BPF_COMPLEXITY_LIMIT_INSNS`, `kernel/bpf/verifier.c`. Ours prunes at least as well as 4.14's, so this is the last resort.
const LIMIT: u32 = 131_072;
/// `BPF_MAX_VAR_SIZ` and `BPF_MAX_VAR_OFF`, `include/linux/bpf_verifier.h`.
const MAX_VARIABLE: u64 = 1 << 29;
/// What to look for, behind each refusal that a number gives rise to.
const LOST: &str = " (was it on the stack? 4.14 forgets what it knew of it: bound it where it is used)";

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
