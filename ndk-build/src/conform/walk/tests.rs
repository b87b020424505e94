//! Small programs, right and wrong, among them the two that a phone's kernel refused while this machine's took them.

use super::state::FRAME;
use super::*;

/// One instruction: code, destination, source, offset, constant.
const fn op(code: u8, destination: u8, source: u8, offset: i16, constant: i32) -> Instruction {
    Instruction { code, destination, source, offset, constant }
}

const fn call(helper: i32) -> Instruction {
    op(0x85, 0, 0, 0, helper)
}
const fn set(register: u8, constant: i32) -> Instruction {
    op(0xb7, register, 0, 0, constant)
}
const fn copy(to: u8, from: u8) -> Instruction {
    op(0xbf, to, from, 0, 0)
}
const fn add(register: u8, constant: i32) -> Instruction {
    op(0x07, register, 0, 0, constant)
}
const fn add_register(register: u8, other: u8) -> Instruction {
    op(0x0f, register, other, 0, 0)
}
const fn mask(register: u8, constant: i32) -> Instruction {
    op(0x57, register, 0, 0, constant)
}
const fn load(to: u8, from: u8, offset: i16) -> Instruction {
    op(0x79, to, from, offset, 0)
}
const fn store(to: u8, offset: i16, from: u8) -> Instruction {
    op(0x7b, to, from, offset, 0)
}
const fn load_byte(to: u8, from: u8, offset: i16) -> Instruction {
    op(0x71, to, from, offset, 0)
}
const fn if_zero(register: u8, over: i16) -> Instruction {
    op(0x15, register, 0, over, 0)
}
const fn if_not_zero(register: u8, over: i16) -> Instruction {
    op(0x55, register, 0, over, 0)
}
const EXIT: Instruction = op(0x95, 0, 0, 0, 0);

/// Looks element 0 up: r0 is what was found, r6 the context.
fn lookup() -> Vec<Instruction> {
    vec![
        copy(6, 1),
        op(0x62, FRAME, 0, -4, 0),
        copy(2, FRAME),
        add(2, -4),
        op(0x18, 1, 0, 0, 0),
        op(0, 0, 0, 0, 0),
        call(1),
    ]
}

/// What 4.14 says to a program that looks an element of 64 bytes up and goes on so.
fn verdict(body: &[Instruction]) -> Option<String> {
    let instructions = [&lookup()[..], body, &[set(0, 0), EXIT]].concat();
    let map = Map { name: "MAP".to_owned(), kind: 2, key_size: 4, value_size: 64, flags: 0 };
    let program = Program {
        name: "subject".to_owned(),
        section: "tracepoint".to_owned(),
        instructions,
        references: vec![(4, Reference::Map("MAP".to_owned()))],
    };
    let object = BpfObject { programs: vec![program], maps: vec![map], ..BpfObject::default() };
    assert_eq!(rules::check(&object), [], "a program that breaks another rule shows nothing");
    let mut breaches = check(&object);
    assert!(breaches.len() < 2);
    breaches.pop().map(|breach| {
        assert_eq!(breach.rule, Rule::Walk);
        breach.what
    })
}

fn passes(body: &[Instruction]) {
    assert_eq!(verdict(body), None);
}

fn is_refused(body: &[Instruction], because: &str) {
    let what = verdict(body).unwrap_or_default();
    assert!(what.contains(because), "{because}: {what}");
}

/// The way out of a program that found nothing.
const LEAVE: [Instruction; 3] = [if_not_zero(0, 2), set(0, 0), EXIT];

#[test]
fn a_bound_that_is_made_where_it_is_used() {
    let head = [&LEAVE[..], &[copy(7, 0), load(8, 6, 16)]].concat();
    passes(&[&head[..], &[mask(8, 63), add_register(7, 8), load_byte(1, 7, 0)]].concat());
    is_refused(
        &[&head[..], &[mask(8, 64), add_register(7, 8), load_byte(1, 7, 0)]].concat(),
        "of a value of 64",
    );
    is_refused(&[&head[..], &[add_register(7, 8), load_byte(1, 7, 0)]].concat(), "min value is negative");
}

#[test]
fn a_bound_is_lost_on_the_stack() {
    let spilled = [
        &LEAVE[..],
        &[copy(7, 0), load(8, 6, 16), mask(8, 63), store(FRAME, -16, 8), call(5), load(8, FRAME, -16)],
    ]
    .concat();
    let used = [add_register(7, 8), load_byte(1, 7, 0)];
    is_refused(&[&spilled[..], &used[..]].concat(), "min value is negative");
    passes(&[&spilled[..], &[mask(8, 63)], &used[..]].concat());
}

#[test]
fn the_length_of_a_read_is_lost_on_the_stack() {
    let spilled = [
        &LEAVE[..],
        &[
            copy(7, 0),
            load(8, 6, 16),
            mask(8, 31),
            add(8, 1),
            store(FRAME, -16, 8),
            call(5),
            load(2, FRAME, -16),
        ],
    ]
    .concat();
    let read = [copy(1, 7), set(3, 0), call(4)];
    is_refused(&[&spilled[..], &read[..]].concat(), "min value is negative");
    is_refused(&[&spilled[..], &[mask(2, 31)], &read[..]].concat(), "may be zero");
    passes(&[&spilled[..], &[mask(2, 31), add(2, 1)], &read[..]].concat());
}

#[test]
fn that_a_look_up_found_nothing_is_lost_on_the_stack() {
    // Kept over a call, as a compiler does that has no register left, and compared again.
    let kept = |reload: &[Instruction]| {
        let spill = [if_not_zero(0, 0), store(FRAME, -16, 0), call(5), load(7, FRAME, -16)];
        [&spill[..], reload, &[if_zero(7, 1), load(1, 7, 0)]].concat()
    };
    is_refused(&kept(&[]), "invalid mem access 'inv'");
    // Set anew where nothing was found, it is known again.
    passes(&kept(&[if_not_zero(0, 0), set(7, 0)]));
    // In a register it stays known.
    passes(&[if_not_zero(0, 0), copy(7, 0), call(5), if_zero(7, 1), load(1, 7, 0)]);
}

#[test]
fn a_look_up_on_the_stack_shares_what_its_copy_was_found_to_be() {
    let spill = [store(FRAME, -16, 0), if_not_zero(0, 2), set(0, 0), EXIT];
    passes(&[&spill[..], &[load(7, FRAME, -16), load(1, 7, 0)]].concat());
    is_refused(&[store(FRAME, -16, 0), load(7, FRAME, -16), load(1, 7, 0)], "not compared with null");
}

#[test]
fn the_stack_is_read_as_it_was_written() {
    is_refused(&[load(1, FRAME, -16)], "nobody wrote");
    is_refused(&[store(FRAME, -16, 6), op(0x61, 1, FRAME, -16, 0)], "spilled");
    is_refused(&[store(FRAME, -520, 6)], "not on the stack");
    is_refused(&[copy(2, FRAME), add(2, -12), store(2, 0, 6)], "not aligned");
    passes(&[store(FRAME, -16, 6), load(1, FRAME, -16), load(2, 1, 8)]);
    // Part of a spilled register is overwritten: neither is there any more.
    is_refused(&[store(FRAME, -16, 6), op(0x62, FRAME, 0, -16, 7), load(1, FRAME, -16)], "nobody wrote");
}

#[test]
fn helpers_take_what_they_are_for() {
    is_refused(&[set(1, 0), copy(2, FRAME), call(1)], "a number where map_lookup_elem");
    is_refused(&[copy(1, FRAME), add(1, -32), set(2, 64), set(3, 0), call(4)], "not on the stack");
    passes(&[copy(1, FRAME), add(1, -32), set(2, 32), set(3, 0), call(4), load(1, FRAME, -32)]);
    is_refused(&[call(5), load(1, 2, 0)], "nothing is in it");
}

#[test]
fn a_program_with_many_ways_is_walked_in_time() {
    // Forty choices one after the other: 2^40 ways, of which each place is reached in one state.
    let choice = [load(1, 6, 16), if_zero(1, 1), set(2, 0), set(2, 0)];
    passes(&choice.repeat(40));
}
