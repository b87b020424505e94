//! Whether hooks really fire here: functions of our own are hooked like a library's, called, and their record is read.
//!
//! No version, option or feature probe says as much: the record proves the programs, the rings, entry and return probes
//! and the read of user memory in one.

use std::{
    fs::{self, File},
    hint::black_box,
    io,
    os::fd::AsFd,
    thread,
    time::{Duration, Instant},
};

use super::{
    AttachPath, KernelError, MemoryPath, Options, Session,
    attach::Hook,
    fetch::{Fetch, Given},
    libraries::Part,
};
use crate::record::{Body, Direction, Event};

/// What the self-test "sends": long enough to be no chance, ordinary text.
const TEXT: &[u8] = b"telltale reads what leaves this phone, for its owner alone";
/// A record is in its ring before the hooked call returns; this is for a machine under load.
const PATIENCE: Duration = Duration::from_millis(500);

/// What came of hooking ourselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    /// The way to uprobes that was taken.
    pub attach: AttachPath,
    /// A call was seen with its arguments.
    pub entry: bool,
    /// A call's return was seen, and with it what it took.
    pub returned: bool,
    /// What was sent could be read and was right.
    pub readable: bool,
    /// How it was read, or was to be read.
    pub memory: MemoryPath,
}

impl Proof {
    /// Telltale can run: what is sent can be seen.
    pub fn is_enough(&self) -> bool {
        self.entry && self.returned
    }

    /// What keeps it from running, in one sentence; none when nothing does.
    pub fn complaint(&self) -> Option<&'static str> {
        if !self.entry {
            Some("the kernel takes hooks on functions of apps, but they do not fire")
        } else if !self.returned {
            Some(
                "hooks fire when a function begins but not when it returns, so that what was sent stays unknown",
            )
        } else {
            None
        }
    }
}

/// Hooks functions of this very program, calls them, and looks what arrives. Nothing stays behind.
///
/// # Errors
/// Whatever kept it from being tried: see [`Session::start`].
pub fn prove(attach: Option<AttachPath>) -> Result<Proof, KernelError> {
    prove_with(attach, None)
}

/// The same with one way to read what is sent.
///
/// # Errors
/// As [`prove`].
pub fn prove_with(attach: Option<AttachPath>, memory: Option<MemoryPath>) -> Result<Proof, KernelError> {
    let mut session = Session::bare(&Options { attach, memory, ..Options::default() })?;
    let proof = if memory.is_some() { session.prove_itself() } else { session.find_memory() };
    let stopped = session.stop();
    let proof = proof?;
    stopped?;
    Ok(proof)
}

impl Session {
    /// Finds out how this kernel lets what apps send be read, the best way first.
    pub(super) fn find_memory(&mut self) -> Result<Proof, KernelError> {
        let proof = self.prove_itself()?;
        if proof.readable || !proof.is_enough() {
            return Ok(proof);
        }
        let cpus: Vec<u32> = self.cpus.iter().map(|rings| rings.cpu).collect();
        let fetched = Fetch::open(&cpus).and_then(|fetch| {
            self.fetch = Some(fetch);
            self.memory = MemoryPath::Ftrace;
            self.prove_itself()
        });
        match fetched {
            Ok(proof) if proof.readable => return Ok(proof),
            Ok(_) => log::debug!("arguments that ftrace fetches do not come"),
            Err(error) => log::debug!("arguments cannot be fetched through ftrace: {error}"),
        }
        self.fetch = None;
        self.memory = MemoryPath::Nothing;
        Ok(Proof { memory: self.memory, ..proof })
    }

    fn prove_itself(&mut self) -> Result<Proof, KernelError> {
        let own = "/proc/self/exe";
        let file = File::open(own).map_err(KernelError::file("open", own))?;
        let write = offset_of(write as extern "C" fn(usize, *const u8, i32) -> i32 as usize)?;
        let set_fd = offset_of(set_fd as extern "C" fn(usize, i32) -> i32 as usize)?;
        let mut hooks = Vec::new();
        let mut result = Ok(());
        for (offset, at_return, program) in
            [(write, true, "ssl_write_return"), (write, false, "ssl_write"), (set_fd, false, "ssl_set_fd")]
        {
            let hook = self
                .programs
                .uprobe(program)
                .and_then(|program| self.attacher.attach(file.as_fd(), offset, at_return, program));
            match hook {
                Ok(hook) => hooks.push(hook),
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        let identity = Part::whole(&file).and_then(|part| part.identity(&file));
        let identity = identity.map_err(KernelError::file("stat", own))?;
        if let (Ok(()), Some(fetch)) = (&result, &mut self.fetch) {
            result = fetch.add(identity, file.as_fd(), write, Given::Text);
        }
        let proof = result.map(|()| self.call_and_look());
        let fetched = self.fetch.as_mut().map_or(Ok(()), |fetch| fetch.remove(identity));
        let off = self.take_off(hooks).and(fetched);
        let mut proof = proof?;
        off?;
        if !proof.readable {
            proof.memory = MemoryPath::Nothing;
        }
        Ok(proof)
    }

    fn take_off(&self, hooks: Vec<Hook>) -> Result<(), KernelError> {
        let mut result = Ok(());
        for hook in hooks.into_iter().rev() {
            let detached = self.attacher.detach(hook);
            if result.is_ok() {
                result = detached;
            }
        }
        result
    }

    fn call_and_look(&mut self) -> Proof {
        // The address of something of ours is nobody else's `SSL*` in this process.
        let ssl = &raw const *self as usize;
        let fd = (ssl as i32) & 0xffff;
        black_box(set_fd(black_box(ssl), black_box(fd)));
        black_box(write(black_box(ssl), black_box(TEXT.as_ptr()), black_box(TEXT.len() as i32)));

        let mut proof = Proof {
            attach: self.attach_path(),
            entry: false,
            returned: false,
            readable: false,
            memory: self.memory,
        };
        let own = std::process::id();
        let began = Instant::now();
        // How much was read says the same record that says what was taken.
        while !proof.is_enough() && began.elapsed() < PATIENCE {
            self.drain(&mut |_, event| {
                if event.connection.tgid == own {
                    look(&mut proof, &event, fd);
                }
            });
            if !proof.is_enough() {
                thread::sleep(Duration::from_millis(2));
            }
        }
        proof
    }
}

fn look(proof: &mut Proof, event: &Event, sent_fd: i32) {
    match &event.body {
        Body::TlsFd { direction: Direction::Both, fd } if *fd == sent_fd => proof.entry = true,
        Body::TlsWrite(piece) if piece.total == TEXT.len() as u64 => {
            (proof.entry, proof.returned) = (true, true);
            proof.readable |= piece.bytes == TEXT;
        }
        _ => {}
    }
}

/// Stands for `SSL_write(ssl, buffer, length)` that takes everything.
#[inline(never)]
extern "C" fn write(ssl: usize, buffer: *const u8, length: i32) -> i32 {
    black_box((ssl, buffer));
    black_box(length)
}

/// Stands for `SSL_set_fd(ssl, fd)`.
#[inline(never)]
extern "C" fn set_fd(ssl: usize, fd: i32) -> i32 {
    black_box((ssl, fd));
    black_box(1)
}

/// Where the instruction at `address` of this process lies in the file it was mapped from.
fn offset_of(address: usize) -> Result<u64, KernelError> {
    let path = "/proc/self/maps";
    let maps = fs::read_to_string(path).map_err(KernelError::file("read", path))?;
    maps.lines().find_map(|line| offset_in(line, address as u64)).ok_or_else(|| {
        KernelError::file("read", path)(io::Error::new(
            io::ErrorKind::InvalidData,
            "our own code is not in it",
        ))
    })
}

/// By one line of `/proc/PID/maps`; none when `address` is not in it.
fn offset_in(line: &str, address: u64) -> Option<u64> {
    let mut fields = line.split(' ');
    let (start, end) = fields.next()?.split_once('-')?;
    let start = u64::from_str_radix(start, 16).ok()?;
    let end = u64::from_str_radix(end, 16).ok()?;
    let offset = u64::from_str_radix(fields.nth(1)?, 16).ok()?;
    if address < end { address.checked_sub(start)?.checked_add(offset) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_through_ftrace_is_found_where_programs_cannot_read() {
        let options = Options { memory: Some(MemoryPath::Nothing), ..Options::default() };
        let mut session = match Session::bare(&options) {
            Ok(session) => session,
            Err(
                error @ (KernelError::NotRoot
                | KernelError::NoProgram
                | KernelError::Object(_)
                | KernelError::NoTracefs),
            ) => return println!("skipped: {error}"),
            Err(error) => panic!("{error}"),
        };
        let proof = session.find_memory().unwrap();
        assert!(proof.readable && proof.memory == MemoryPath::Ftrace, "{proof:?}");
        assert_eq!(session.memory_path(), MemoryPath::Ftrace);
        session.stop().unwrap();
    }

    #[test]
    fn an_address_becomes_an_offset_in_the_file() {
        let line = "aaaa0000-aaab0000 r-xp 00042000 fe:01 4242                       /system/bin/telltale";
        assert_eq!(offset_in(line, 0xaaaa_0010), Some(0x4_2010));
        assert_eq!(offset_in(line, 0xaaa9_ffff), None);
        assert_eq!(offset_in(line, 0xaaab_0000), None);
        assert_eq!(offset_in("", 1), None);
        let write = offset_of(write as extern "C" fn(usize, *const u8, i32) -> i32 as usize).unwrap();
        let set_fd = offset_of(set_fd as extern "C" fn(usize, i32) -> i32 as usize).unwrap();
        assert_ne!(write, set_fd);
    }
}
