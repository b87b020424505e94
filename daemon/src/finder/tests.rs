//! The finder against a real BoringSSL, against code assembled here, and against damaged files.

use super::*;
use object::{Object, ObjectSymbol};

/// Debian's build of Android 13's BoringSSL: it exports what the finder must find without looking at exports.
const REAL: &str = "/usr/lib/x86_64-linux-gnu/android/libssl.so.0";

fn real() -> Option<Vec<u8>> {
    let bytes = std::fs::read(REAL).ok();
    if bytes.is_none() {
        println!("SKIPPED: no {REAL} (package android-libboringssl)");
    }
    bytes
}

#[test]
fn the_function_found_is_the_one_the_library_exports() {
    let Some(bytes) = real() else { return };
    let file = object::File::parse(&*bytes).unwrap();
    let truth = file.dynamic_symbols().find(|symbol| symbol.name() == Ok("SSL_write")).unwrap().address();
    match find(&bytes).unwrap() {
        Verdict::Found(found) => {
            assert_eq!(found.ssl_write.address, truth);
            assert!(found.witnesses.contains(&Witness::LineOrder), "{found:?}");
        }
        other => panic!("{other:?}"),
    }
    assert!(build_id(&bytes).is_some_and(|id| !id.is_empty()));
}

#[test]
fn every_stretch_is_told_of_and_giving_up_is_no_verdict() {
    use std::cell::Cell;
    use std::ops::ControlFlow;
    let Some(bytes) = real() else { return };
    let (stretches, largest) = (Cell::new(0), Cell::new(0));
    let count = |stretch: &[u8]| {
        stretches.set(stretches.get() + 1);
        largest.set(largest.get().max(stretch.len()));
        ControlFlow::Continue(())
    };
    assert_eq!(find_between(&bytes, &count), find(&bytes));
    assert!(stretches.get() > 10 && largest.get() <= 64 << 10);
    for after in [0, 1, stretches.get() / 2] {
        let left = Cell::new(after);
        let stop = |_: &[u8]| match left.get() {
            0 => ControlFlow::Break(()),
            some => {
                left.set(some - 1);
                ControlFlow::Continue(())
            }
        };
        assert_eq!(find_between(&bytes, &stop), Err(Error::Stopped));
    }
}

#[test]
fn a_program_that_only_names_the_file_is_not_taken_for_it() {
    // This very program holds the file's name and BoringSSL's reasons, as data of the finder.
    let own = std::fs::read("/proc/self/exe").unwrap();
    assert!(!matches!(find(&own), Ok(Verdict::Found(_))));
}

#[test]
fn damaged_files_are_refused_or_absent_and_never_a_crash() {
    let Some(bytes) = real() else { return };
    let step = bytes.len() / 97;
    for length in (0..bytes.len()).step_by(step).chain(0..300) {
        let _verdict = find(&bytes[..length]);
    }
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    for _ in 0..60 {
        let mut damaged = bytes.clone();
        for _ in 0..8 {
            let (near_head, at) = (random() % 2 == 0, random());
            let at = if near_head { at % 0x400 } else { at % damaged.len() };
            damaged[at] = random() as u8;
        }
        let _verdict = find(&damaged);
    }
}

/// aarch64 code put together word by word, with a data segment that holds the file name.
struct Assembly {
    words: Vec<u32>,
}

const CODE: u64 = 0x1_0000;
const DATA: u64 = 0x2_0000;
const NAME: &[u8] = b"../../src/ssl/ssl_lib.cc\0";
const RET: u32 = 0xd65f_03c0;

impl Assembly {
    fn here(&self) -> u64 {
        CODE + 4 * self.words.len() as u64
    }

    fn movz(&mut self, register: u32, value: u32) {
        self.words.push(0x5280_0000 | value << 5 | register);
    }

    /// ERR_put_error(16, 0, reason, NAME, line), as a call to `callee`.
    fn error(&mut self, reason: u32, line: u32, callee: u64) {
        let pages = (DATA >> 12).wrapping_sub(self.here() >> 12) as u32;
        self.words.push(0x9000_0003 | (pages & 3) << 29 | (pages >> 2) << 5);
        self.words.push(0x9100_0063);
        self.movz(0, 16);
        self.movz(1, 0);
        self.movz(2, reason);
        self.movz(4, line);
        self.call(callee);
    }

    fn call(&mut self, callee: u64) {
        let words = (callee as i64 - self.here() as i64) / 4;
        self.words.push(0x9400_0000 | (words as u32 & 0x3ff_ffff));
    }

    fn elf(&self) -> Vec<u8> {
        let code: Vec<u8> = self.words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let (code_at, data_at) = (0x1000_usize, 0x8000_usize);
        let mut file = vec![0; data_at + NAME.len()];
        file[..16].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        file[16..20].copy_from_slice(&[3, 0, 183, 0]);
        file[20] = 1;
        file[32] = 64;
        file[52..58].copy_from_slice(&[64, 0, 56, 0, 2, 0]);
        for (index, (flags, offset, address, size)) in
            [(5_u32, code_at, CODE, code.len()), (4, data_at, DATA, NAME.len())].into_iter().enumerate()
        {
            let header = &mut file[64 + 56 * index..][..56];
            header[..4].copy_from_slice(&1_u32.to_le_bytes());
            header[4..8].copy_from_slice(&flags.to_le_bytes());
            header[8..16].copy_from_slice(&(offset as u64).to_le_bytes());
            header[16..24].copy_from_slice(&address.to_le_bytes());
            header[32..40].copy_from_slice(&(size as u64).to_le_bytes());
            header[40..48].copy_from_slice(&(size as u64).to_le_bytes());
        }
        file[code_at..code_at + code.len()].copy_from_slice(&code);
        file[data_at..].copy_from_slice(NAME);
        file
    }
}

/// `put_error`, a neighbour, the function that reports `reasons` (and calls through a pointer when `method`), a neighbour,
/// and a caller of it all. Returns the address of the function and the file.
fn assembled(reasons: &[(u32, u32)], method: bool) -> (u64, Vec<u8>) {
    let mut code = Assembly { words: vec![RET] };
    let before = code.here();
    code.error(213, 2399, CODE);
    code.words.push(RET);
    let middle = code.here();
    for &(reason, line) in reasons {
        code.error(reason, line, CODE);
    }
    if method {
        code.words.push(0xd63f_0100);
    }
    code.words.push(RET);
    let after = code.here();
    code.error(144, 1031, CODE);
    code.words.push(RET);
    let caller = code.here();
    for callee in [before, middle, after, caller] {
        code.call(callee);
    }
    code.words.push(RET);
    (middle, code.elf())
}

#[test]
fn aarch64_code_is_understood_without_an_unwind_table() {
    let (address, file) = assembled(&[(66, 985), (226, 990), (215, 1005), (111, 1011)], true);
    match find(&file).unwrap() {
        Verdict::Found(found) => {
            assert_eq!(found.ssl_write, Place { address, offset: address - CODE + 0x1000 });
            assert_eq!(found.set_host_name.map(|place| place.address), Some(CODE + 4));
            assert_eq!(found.witnesses.len(), 6, "{found:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_older_shape_counts_only_in_the_order_of_ssl_write() {
    let (address, file) = assembled(&[(66, 1048), (226, 1053), (215, 1067)], true);
    assert!(matches!(find(&file).unwrap(), Verdict::Found(found) if found.ssl_write.address == address));
    // SSL_peek, with its reader inlined, knows the same reasons; its own refusal comes after the reader's.
    let (_, file) = assembled(&[(226, 921), (215, 939), (66, 1020)], true);
    assert!(matches!(find(&file).unwrap(), Verdict::Refused(_)));
}

#[test]
fn the_shape_of_2018_is_found_as_a_compiler_of_then_wrote_it() {
    let (address, mut file) = assembled(&[(226, 1083), (194, 1088), (215, 1102)], true);
    // movz w0, #16 as orr w0, wzr, #16.
    for word in file[0x1000..0x8000].as_chunks_mut::<4>().0 {
        if *word == 0x5280_0200_u32.to_le_bytes() {
            *word = 0x321c_03e0_u32.to_le_bytes();
        }
    }
    match find(&file).unwrap() {
        Verdict::Found(found) => {
            assert_eq!(found.ssl_write.address, address);
            assert!(found.witnesses.contains(&Witness::ErrorLibrary), "{found:?}");
        }
        other => panic!("{other:?}"),
    }
    // The reasons in another order are another function's.
    let (_, file) = assembled(&[(194, 1083), (226, 1088), (215, 1102)], true);
    assert!(matches!(find(&file).unwrap(), Verdict::Refused(_)));
}

#[test]
fn what_stands_before_the_file_s_name_does_not_matter() {
    let (address, file) = assembled(&[(66, 985), (226, 990), (215, 1005), (111, 1011)], true);
    let name = memmem::find(&file, NAME).unwrap();
    // The segment with the name begins earlier, with what may be code or letters.
    for before in [*b"\xff\xc3\x90\xcc\xff\xff\xff\xff", *b"\0\0\0\0lib/", *b"\x01\x02\x03\x04\x05\x06\x07A"]
    {
        let mut file = file.clone();
        file[name - 8..name].copy_from_slice(&before);
        let header = &mut file[64 + 56..][..56];
        for (field, by) in [(8, -8_i64), (16, -8), (32, 8), (40, 8)] {
            let value = i64::from_le_bytes(header[field..field + 8].try_into().unwrap()) + by;
            header[field..field + 8].copy_from_slice(&value.to_le_bytes());
        }
        match find(&file).unwrap() {
            Verdict::Found(found) => assert_eq!(found.ssl_write.address, address),
            other => panic!("{before:x?}: {other:?}"),
        }
    }
}

#[test]
fn without_the_call_through_the_method_table_it_is_not_hooked() {
    let (_, file) = assembled(&[(66, 985), (226, 990), (215, 1005), (111, 1011)], false);
    assert!(matches!(find(&file).unwrap(), Verdict::Refused(_)));
}

#[test]
fn the_fuzzer_begins_with_files_in_which_it_is_found() {
    for file in [
        &include_bytes!("../../fuzz/corpus/finder/aarch64_assembled")[..],
        include_bytes!("../../fuzz/corpus/finder/x86_64_with_unwind_table"),
    ] {
        // On a border of eight bytes, as whatever is mapped is.
        let mapped = file.to_vec();
        let verdict = find(&mapped);
        assert!(matches!(verdict, Ok(Verdict::Found(_))), "{verdict:?}");
    }
}
