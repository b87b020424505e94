/*
 * Sends from a 32-bit process on x86, through its own system calls and the older socketcall, without a C library: a compiler
 * with the headers of both sizes would push out those for arm64.
 *
 *   i386-sends TCPPORT UDPPORT
 *
 * Says `ready`, waits for a line, then sends to 127.0.0.1: over TCP by write, writev, send, sendto and sendmsg in both ways, and
 * over UDP unconnected and by sendmmsg. Exits with the number of the step that failed, 0 when none did.
 */
typedef unsigned int word;

static word call(word number, word a, word b, word c, word d, word e, word f) {
    struct {
        word number, f;
    } outer = {number, f};
    word result;
    __asm__ volatile("push %%ebp\n\tmov 4(%%eax), %%ebp\n\tmov (%%eax), %%eax\n\tint $0x80\n\tpop %%ebp"
                     : "=a"(result)
                     : "a"(&outer), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
                     : "memory");
    return result;
}

/* arch/x86/entry/syscalls/syscall_32.tbl, include/uapi/linux/net.h */
enum { EXIT = 1, READ = 3, WRITE = 4, CLOSE = 6, SOCKETCALL = 102, WRITEV = 146, SENDMMSG = 345, SOCKET = 359, CONNECT = 362, SENDTO = 369, SENDMSG = 370 };
enum { CALL_SOCKET = 1, CALL_CONNECT = 3, CALL_SEND = 9, CALL_SENDTO = 11, CALL_SENDMSG = 16 };

struct address {
    unsigned short family, port;
    word ip;
    char zero[8];
};
struct part {
    const char *base;
    word len;
};
struct message {
    struct address *name;
    word name_len;
    struct part *parts;
    word count, control, control_len, flags;
    /* Of a struct mmsghdr. */
    word sent;
};

static word socketcall(word which, word a, word b, word c, word d, word e, word f) {
    word arguments[6] = {a, b, c, d, e, f};
    return call(SOCKETCALL, which, (word)arguments, 0, 0, 0, 0);
}

static struct address at(const char *port) {
    word number = 0;
    while (*port) number = number * 10 + (word)(*port++ - '0');
    struct address address = {2, (unsigned short)(number << 8 | number >> 8), 0x0100007f, {0}};
    return address;
}

static void step(int number, word result, word wanted) {
    if (result != wanted) call(EXIT, (word)number, 0, 0, 0, 0, 0);
}

static const char *const words[] = {"zero;", "one;", "two;", "three;", "four;"};
static const word lengths[] = {5, 4, 4, 6, 5};

__attribute__((used)) static void run(word *stack) {
    if (stack[0] != 3) call(EXIT, 99, 0, 0, 0, 0, 0);
    struct address tcp = at((const char *)stack[2]), udp = at((const char *)stack[3]);
    struct part parts[5];
    for (int i = 0; i < 5; i++) parts[i].base = words[i], parts[i].len = lengths[i];
    char line[8];
    call(WRITE, 1, (word) "ready\n", 6, 0, 0, 0);
    call(READ, 0, (word)line, sizeof line, 0, 0, 0);

    word fd = call(SOCKET, 2, 1, 0, 0, 0, 0);
    step(1, call(CONNECT, fd, (word)&tcp, sizeof tcp, 0, 0, 0), 0);
    step(2, call(WRITE, fd, (word) "write;", 6, 0, 0, 0), 6);
    step(3, call(WRITEV, fd, (word)parts, 5, 0, 0, 0), 24);
    step(4, socketcall(CALL_SEND, fd, (word) "send;", 5, 0, 0, 0), 5);
    step(5, call(SENDTO, fd, (word) "sendto;", 7, 0, 0, 0), 7);
    struct message message = {0, 0, parts, 3, 0, 0, 0, 0};
    step(6, call(SENDMSG, fd, (word)&message, 0, 0, 0, 0), 13);
    step(7, socketcall(CALL_SENDMSG, fd, (word)&message, 0, 0, 0, 0), 13);
    step(8, call(CLOSE, fd, 0, 0, 0, 0, 0), 0);

    fd = socketcall(CALL_SOCKET, 2, 1, 0, 0, 0, 0);
    step(9, socketcall(CALL_CONNECT, fd, (word)&tcp, sizeof tcp, 0, 0, 0), 0);
    step(10, call(WRITE, fd, (word) "second;", 7, 0, 0, 0), 7);
    step(11, call(CLOSE, fd, 0, 0, 0, 0, 0), 0);

    fd = call(SOCKET, 2, 2, 0, 0, 0, 0);
    step(12, call(SENDTO, fd, (word) "datagram;", 9, 0, (word)&udp, sizeof udp), 9);
    step(13, socketcall(CALL_SENDTO, fd, (word) "again;", 6, 0, (word)&udp, sizeof udp), 6);
    struct message messages[3];
    for (int i = 0; i < 3; i++) messages[i] = (struct message){&udp, sizeof udp, parts, (word)i + 1, 0, 0, 0, 0};
    step(14, call(SENDMMSG, fd, (word)messages, 3, 0, 0, 0), 3);
    step(15, call(CLOSE, fd, 0, 0, 0, 0, 0), 0);
    call(EXIT, 0, 0, 0, 0, 0, 0);
}

__asm__(".globl _start\n_start:\n\tmov %esp, %eax\n\tpush %eax\n\tcall run\n");
