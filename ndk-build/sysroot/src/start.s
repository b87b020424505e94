// Where Android enters the program, and the note that says which Android it was built for.
//
// bionic's own linker has already run every constructor when it jumps to `_start` with the kernel's argument
// block at the stack pointer. `__libc_init` wants that block, `main`, and a table of arrays of which a dynamic
// program's only `fini_array` is read, and skipped when null; a Rust program has no destructors there.
// The table is longer than any published version of it, so that a newer bionic reads zeros, not chance.

    .text
    .global _start
    .type   _start, %function
_start:
    hint    #36                         // bti j: a no-op before ARMv8.5
    mov     x29, #0                     // ends frame-pointer walks here
    mov     x30, #0
    mov     x0, sp
    mov     x1, #0                      // `onexit`: never used on arm64
    adrp    x2, main
    add     x2, x2, :lo12:main
    adrp    x3, .Lno_structors
    add     x3, x3, :lo12:.Lno_structors
    b       __libc_init
    .size   _start, . - _start

    .section .rodata.no_structors, "a", %progbits
    .balign 16
.Lno_structors:
    .zero   64

// Layout: AOSP bionic, libc/arch-common/bionic/crtbrand.S (name, size and type as an ELF note; payload: API level).
    .section .note.android.ident, "a", %note
    .balign 4
    .long   8
    .long   4
    .long   1
    .asciz  "Android"
    .long   28
