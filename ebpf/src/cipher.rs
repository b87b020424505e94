//! Hooks on encryption inside apps: collect, never interpret.
//!
//! They hang in processes that the daemon chose, and take only what is being encrypted: the text at entry, since it may be
//! encrypted in place, and at return the first bytes of what came out, by which the daemon finds it again in what leaves.
//! Keys, vectors and whatever is decrypted are never read. What the TLS library encrypts is not an app's doing and left out.

use core::hint::cold_path;

use aya_ebpf::{
    helpers::generated::bpf_ktime_get_ns,
    programs::{ProbeContext, RetProbeContext},
};
use telltale_abi::{cipher, flag, kind};

use crate::{
    CIPHER_BUDGETS, CIPHER_CALLS, CIPHERS, TLS_CALLS,
    emit::{Piece, Writer},
    tls::{Taken, frame, opaque_zero, thread},
    user_memory,
};

/// [`Cipher::direction`]: set up before anybody looked.
const UNKNOWN: u64 = 0;
const ENCRYPTS: u64 = 1;
const DECRYPTS: u64 = 2;

/// Names a cipher's context.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct CipherKey {
    object: u64,
    tgid: u64,
}

/// A cipher's context, from one setting up to the next.
#[repr(C)]
pub(crate) struct Cipher {
    /// When it was set up.
    born: u64,
    /// The next record's number.
    sequence: u64,
    /// Bytes of text so far.
    sent: u64,
    /// Bytes it made so far.
    made: u64,
    /// [`UNKNOWN`], [`ENCRYPTS`], [`DECRYPTS`].
    direction: u64,
    /// Which cipher, as the records carry it.
    shape: u64,
}

/// A call under way. Inner calls of the library itself, at the same or a deeper frame, are passed over.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Call {
    /// The context; 0 when the return has taken the call.
    object: u64,
    frame: u64,
    began: u64,
    /// Where the output goes.
    output: u64,
    /// Where the call says how much it made; 0 when that is known beforehand.
    made_at: u64,
    /// How much it makes, where that is known beforehand: such calls return nothing.
    makes: u64,
    /// [`flag::FINAL`] or 0.
    flags: u64,
}

/// A thread inside the TLS library.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    /// 0 when it has left.
    frame: u64,
    began: u64,
}

/// What was taken of a process lately.
#[repr(C)]
pub(crate) struct Budget {
    window: u64,
    bytes: u64,
}

/// `EVP_CipherInit_ex(ctx, cipher, engine, key, iv, enc)` and its two sisters: a message begins. `encrypts` below 0 leaves
/// the direction as it was, as a null `cipher` leaves the cipher.
#[inline(always)]
pub(crate) fn initialised(context: &ProbeContext, encrypts: i32) -> Option<()> {
    let key = CipherKey { object: user_memory::untagged(context.arg(0)?), tgid: thread() >> 32 };
    let description = user_memory::untagged(context.arg(1)?);
    let shape = if description == 0 { 0 } else { shape(description) };
    let direction = match encrypts {
        ..0 => UNKNOWN,
        0 => DECRYPTS,
        _ => ENCRYPTS,
    };
    let Some(known) = CIPHERS.get_ptr_mut(key) else {
        return CIPHERS.insert(key, fresh(direction, shape), 0).ok();
    };
    // SAFETY: a map value that lives as long as the program runs.
    let known = unsafe { &mut *known };
    begin(known);
    if direction != UNKNOWN {
        known.direction = direction;
    }
    if description != 0 {
        known.shape = shape;
    }
    Some(())
}

/// `EVP_CipherUpdate(ctx, out, out_len, in, in_len)` and `EVP_EncryptUpdate`, which decrypts as well: BoringSSL's
/// `EVP_DecryptUpdate` calls it for ciphers without padding. Only what was set up to encrypt counts.
#[inline(always)]
pub(crate) fn updated(context: &ProbeContext) -> Option<()> {
    let (thread, frame) = outermost(context)?;
    let key = CipherKey { object: user_memory::untagged(context.arg(0)?), tgid: thread >> 32 };
    let output = user_memory::untagged(context.arg(1)?);
    let len: i32 = context.arg(4)?;
    // Without output it is data that is only vouched for, and goes out as it is.
    if len <= 0 || output == 0 {
        return None;
    }
    let cipher = known(key, false)?;
    text(context, key, cipher, user_memory::untagged(context.arg(3)?), len as u64);
    let made_at = user_memory::untagged(context.arg(2)?);
    remember(thread, Call { output, made_at, ..call(key, frame) })
}

/// `EVP_CipherFinal_ex(ctx, out, out_len)` and `EVP_EncryptFinal_ex`.
#[inline(always)]
pub(crate) fn ended(context: &ProbeContext) -> Option<()> {
    let (thread, frame) = outermost(context)?;
    let key = CipherKey { object: user_memory::untagged(context.arg(0)?), tgid: thread >> 32 };
    known(key, false)?;
    let (output, made_at) = (user_memory::untagged(context.arg(1)?), user_memory::untagged(context.arg(2)?));
    remember(thread, Call { output, made_at, flags: u64::from(flag::FINAL), ..call(key, frame) })
}

/// `EVP_AEAD_CTX_seal(ctx, out, out_len, max_out_len, nonce, nonce_len, in, in_len, ad, ad_len)`: a whole message.
#[inline(always)]
pub(crate) fn sealed(context: &ProbeContext) -> Option<()> {
    let (thread, frame) = outermost(context)?;
    let key = CipherKey { object: user_memory::untagged(context.arg(0)?), tgid: thread >> 32 };
    let (input, len) = seventh_and_eighth(context)?;
    if len == 0 {
        return None;
    }
    let cipher = known(key, true)?;
    // SAFETY: a map value that lives as long as the program runs.
    let cipher = unsafe { &mut *cipher };
    begin(cipher);
    // `struct evp_aead_ctx_st` begins with its `EVP_AEAD`, and that with the key's length (crypto/cipher_extra/internal.h).
    let key_len = user_memory::read_u64(key.object)
        .and_then(|aead| user_memory::read_words::<1>(user_memory::untagged(aead)))
        .map_or(0, |[words]| words & cipher::KEY_LEN_MASK);
    cipher.shape = u64::from(cipher::AEAD << cipher::NID_SHIFT | key_len << cipher::KEY_LEN_SHIFT);
    text(context, key, cipher, user_memory::untagged(input), len);
    let (output, made_at) = (user_memory::untagged(context.arg(1)?), user_memory::untagged(context.arg(2)?));
    remember(thread, Call { output, made_at, flags: u64::from(flag::FINAL), ..call(key, frame) })
}

/// `AES_cbc_encrypt(in, out, len, key, ivec, enc)`: one message or a part of one, which cannot be told; the key's address stands
/// for a context.
#[inline(always)]
pub(crate) fn chained(context: &ProbeContext) -> Option<()> {
    let encrypts: i32 = context.arg(5)?;
    let len: u64 = context.arg(2)?;
    if encrypts == 0 || len == 0 {
        return None;
    }
    let (thread, frame) = outermost(context)?;
    let key = CipherKey { object: user_memory::untagged(context.arg(3)?), tgid: thread >> 32 };
    let cipher = known(key, true)?;
    // SAFETY: a map value that lives as long as the program runs.
    begin(unsafe { &mut *cipher });
    text(context, key, cipher, user_memory::untagged(context.arg(0)?), len);
    let output = user_memory::untagged(context.arg(1)?);
    remember(thread, Call { output, makes: len, flags: u64::from(flag::FINAL), ..call(key, frame) })
}

/// A call has returned: the first bytes of what it made.
#[inline(always)]
pub(crate) fn returned(context: &RetProbeContext) -> Option<()> {
    let thread = thread();
    let known = CIPHER_CALLS.get_ptr_mut(thread)?;
    // SAFETY: a map value that lives as long as the program runs.
    let call = unsafe { *known };
    if call.object == 0 || call.frame != frame(context.regs, false) {
        cold_path();
        return None;
    }
    // SAFETY: as above. A call is taken once.
    unsafe { (*known).object = 0 };
    let mut made = call.makes;
    if made == 0 {
        // All of them return 1 when it went well.
        if context.ret::<i32>() != 1 {
            return None;
        }
        let [len] = user_memory::read_words::<1>(call.made_at)?;
        made = u64::from(len);
    }
    let flags = call.flags as u32;
    if made == 0 && flags == 0 {
        return None;
    }
    let key = CipherKey { object: call.object, tgid: thread >> 32 };
    let cipher = CIPHERS.get_ptr_mut(key)?;
    // SAFETY: as above.
    let cipher = unsafe { &mut *cipher };
    let sequence = cipher.sequence;
    let mut writer = Writer::start(kind::CIPHER_OUTPUT, call.object, cipher.born, cipher.made, made)?;
    let head = if made > cipher::HEAD as u64 { cipher::HEAD as u64 } else { made };
    let flags = flags | cipher.shape as u32 | flag::LAST;
    // SAFETY: `bytes` has room for more than HEAD.
    if made != 0 && !unsafe { user_memory::read(writer.bytes(), call.output, head) } {
        writer.submit(context, &Piece { len: 0, offset: 0, sequence, flags: flags | flag::UNREADABLE });
    } else {
        writer.submit(context, &Piece { len: head, offset: 0, sequence, flags });
    }
    cipher.sequence = sequence + 1;
    cipher.made += made;
    writer.finish(context);
    Some(())
}

/// A thread goes into the TLS library.
#[inline(always)]
pub(crate) fn tls_entered(context: &ProbeContext) -> Option<()> {
    let (thread, frame, now) = (thread(), frame(context.regs, true), now());
    let Some(known) = TLS_CALLS.get_ptr_mut(thread) else {
        return TLS_CALLS.insert(thread, Mark { frame, began: now }, 0).ok();
    };
    // SAFETY: a map value that lives as long as the program runs.
    let known = unsafe { &mut *known };
    // TLS inside TLS: the outer one counts.
    if !(frame < known.frame && is_young(known.began, now)) {
        *known = Mark { frame, began: now };
    }
    Some(())
}

/// It comes out.
#[inline(always)]
pub(crate) fn tls_left(context: &RetProbeContext) -> Option<()> {
    let known = TLS_CALLS.get_ptr_mut(thread())?;
    // SAFETY: a map value that lives as long as the program runs.
    let known = unsafe { &mut *known };
    if known.frame == frame(context.regs, false) {
        known.frame = 0;
    }
    Some(())
}

/// The thread and where its frame lies, none inside the TLS library or inside another call of a cipher.
#[inline(always)]
fn outermost(context: &ProbeContext) -> Option<(u64, u64)> {
    let (thread, frame, now) = (thread(), frame(context.regs, true), now());
    if let Some(mark) = TLS_CALLS.get_ptr(thread) {
        // SAFETY: a map value that lives as long as the program runs.
        let mark = unsafe { *mark };
        if frame < mark.frame && is_young(mark.began, now) {
            return None;
        }
    }
    if let Some(call) = CIPHER_CALLS.get_ptr(thread) {
        // SAFETY: as above.
        let (object, outer, began) = unsafe { ((*call).object, (*call).frame, (*call).began) };
        // At the same frame: one function jumped into the other.
        if object != 0 && frame <= outer && is_young(began, now) {
            return None;
        }
    }
    Some((thread, frame))
}

/// Whether a call that began then may still be under way: one that never returned (thread death, `longjmp`) must not cover
/// for ever what comes after it. Eight seconds are long for a call that only computes.
#[inline(always)]
fn is_young(began: u64, now: u64) -> bool {
    now.wrapping_sub(began) >> 33 == 0
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: a helper call without arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// The context when it encrypts; with `encrypts`, for calls that do nothing else, also one that nobody saw being set up.
#[inline(always)]
fn known(key: CipherKey, encrypts: bool) -> Option<*mut Cipher> {
    let Some(known) = CIPHERS.get_ptr_mut(key) else {
        if encrypts && CIPHERS.insert(key, fresh(ENCRYPTS, 0), 0).is_ok() {
            return CIPHERS.get_ptr_mut(key);
        }
        return None;
    };
    // SAFETY: a map value that lives as long as the program runs.
    let cipher = unsafe { &mut *known };
    if encrypts {
        cipher.direction = ENCRYPTS;
    }
    if cipher.direction == ENCRYPTS { Some(known) } else { None }
}

#[inline(always)]
fn fresh(direction: u64, shape: u64) -> Cipher {
    let zero = opaque_zero();
    Cipher { born: now(), sequence: zero, sent: zero, made: zero, direction, shape }
}

/// A message begins.
#[inline(always)]
fn begin(cipher: &mut Cipher) {
    cipher.born = now();
    cipher.sequence = opaque_zero();
    cipher.sent = opaque_zero();
    cipher.made = opaque_zero();
}

#[inline(always)]
fn call(key: CipherKey, frame: u64) -> Call {
    Call { object: key.object, frame, began: now(), output: 0, made_at: 0, makes: opaque_zero(), flags: 0 }
}

#[inline(always)]
fn remember(thread: u64, call: Call) -> Option<()> {
    match CIPHER_CALLS.get_ptr_mut(thread) {
        // SAFETY: a map value that lives as long as the program runs; a thread is in one outermost call at a time.
        Some(known) => unsafe { *known = call },
        None => CIPHER_CALLS.insert(thread, call, 0).ok()?,
    }
    Some(())
}

/// Hands on the text of a call, within the process's budget.
#[inline(always)]
fn text(context: &ProbeContext, key: CipherKey, cipher: *mut Cipher, input: u64, len: u64) {
    // SAFETY: a map value that lives as long as the program runs.
    let cipher = unsafe { &mut *cipher };
    let sequence = cipher.sequence;
    let flags = cipher.shape as u32;
    let mut taken = Taken { buffer: input, total: len, offset: 0, sequence, flags };
    if affordable(key.tgid, len) {
        if let Some(mut writer) = Writer::start(kind::CIPHER_TEXT, key.object, cipher.born, cipher.sent, len)
        {
            // One after the other, not in a loop: 4.14 refuses every backward jump.
            let _ = taken.full_piece(&mut writer, context)
                && taken.full_piece(&mut writer, context)
                && taken.full_piece(&mut writer, context);
            taken.last_piece(&mut writer, context);
            writer.finish(context);
        }
    } else {
        // A number without a record: the daemon sees that a piece is missing.
        taken.sequence += 1;
    }
    cipher.sequence = taken.sequence;
    cipher.sent += len;
}

const _: () = assert!(cipher::MAX_PIECES == 4, "text asks for three full pieces and a last one");

/// Whether this process may have so much more taken of it now.
#[inline(always)]
fn affordable(tgid: u64, len: u64) -> bool {
    let window = now() >> cipher::WINDOW_SHIFT;
    let Some(known) = CIPHER_BUDGETS.get_ptr_mut(tgid) else {
        return CIPHER_BUDGETS.insert(tgid, Budget { window, bytes: len }, 0).is_ok();
    };
    // SAFETY: a map value that lives as long as the program runs.
    let known = unsafe { &mut *known };
    if known.window != window {
        known.window = window;
        known.bytes = opaque_zero();
    }
    if known.bytes >= cipher::BUDGET {
        return false;
    }
    known.bytes += len;
    true
}

/// Number, block, key and vector length lie first in `struct evp_cipher_st` (crypto/fipsmodule/cipher/internal.h) and in OpenSSL's;
/// 0 when what lies there is no such thing. The daemon believes a number only with the lengths that belong to it.
#[inline(always)]
fn shape(description: u64) -> u64 {
    let Some([nid, block, key_len]) = user_memory::read_words::<3>(description) else { return 0 };
    if nid >= cipher::NID_MASK || block > cipher::BLOCK_MASK || key_len > cipher::KEY_LEN_MASK {
        return 0;
    }
    u64::from(nid << cipher::NID_SHIFT | key_len << cipher::KEY_LEN_SHIFT | block << cipher::BLOCK_SHIFT)
}

/// x86-64 passes them on the stack, behind the return address (System V ABI, section 3.2.3).
#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
fn seventh_and_eighth(context: &ProbeContext) -> Option<(u64, u64)> {
    // SAFETY: `regs` is the program's context, which the verifier knows.
    let stack = unsafe { (*context.regs).rsp };
    Some((user_memory::read_u64(stack + 8)?, user_memory::read_u64(stack + 16)?))
}

#[cfg(bpf_target_arch = "aarch64")]
#[inline(always)]
fn seventh_and_eighth(context: &ProbeContext) -> Option<(u64, u64)> {
    Some((context.arg(6)?, context.arg(7)?))
}
