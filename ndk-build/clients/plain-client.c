/*
 * Sends bytes as they are, by every system call that sends, from a program of 32 or of 64 bits: one source, compiled for both, so that
 * only the numbers of the calls differ. And makes the calls whose numbers mean a send in a program of the other size.
 *
 * A child of it is the other end and counts what arrives, so that what is printed does not rest on what the calls returned.
 *
 *   plain-client ADDR STEP...
 *     uid:N         become this uid and gid (root only); the other end stays what it was
 *     file:PATH     the buffer is the file's content
 *     hello:HOST    the buffer is a TLS ClientHello for that name
 *     records:N     the buffer is N records of TLS application data, of 1 KiB each
 *     tcp udp       opens a socket and connects it; udp-open does not connect
 *     write writev send sendto sendmsg sendmmsg sendfile   sends the buffer
 *     strange       offers the buffer to calls of this size whose numbers send, open or close in the other
 *     close         closes the socket
 *     reuse         writes the buffer to a file under the descriptor that was closed last, which is free again afterwards
 *     over          puts the socket under the number of a file that was written to (dup3), and closes the first
 *     pause:MS      waits
 *
 * Prints `uid=… bits=… bytes=…`, the bytes that arrived over TCP and UDP. Exits 1 when something failed or bytes are missing.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define ROOM (1 << 17)
/* A datagram's payload (RFC 768, RFC 791), and room for what one call takes apart. */
#define DATAGRAM 1200
#define PARTS 5
#define MESSAGES 3

static unsigned char buffer[ROOM];
static size_t len;
static unsigned long long sent;
static struct sockaddr_in tcp_address, udp_address;
static int fd = -1, is_udp, is_connected;
static const char *file;

static void die(const char *what) {
    fprintf(stderr, "plain-client: %s: %s\n", what, errno ? strerror(errno) : "failed");
    exit(1);
}

static void pause_ms(long ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

/* The other end: takes whatever comes and counts it, until whoever holds the other end of the pipe is gone. */
static void sink(int tcp, int udp, int life, volatile unsigned long long *arrived) {
    static unsigned char bytes[1 << 16];
    enum { MOST = 64 };
    struct pollfd all[MOST] = {{.fd = life}, {.fd = tcp, .events = POLLIN}, {.fd = udp, .events = POLLIN}};
    nfds_t count = 3;
    while (poll(all, count, -1) > 0 && !all[0].revents) {
        if (all[1].revents && count < MOST) all[count++] = (struct pollfd){.fd = accept(tcp, NULL, NULL), .events = POLLIN};
        for (nfds_t i = 2; i < count; i++) {
            if (!all[i].revents) continue;
            ssize_t got = recv(all[i].fd, bytes, sizeof bytes, 0);
            if (got > 0) {
                *arrived += (unsigned long long)got;
            } else if (i > 2) {
                close(all[i].fd);
                all[i--] = all[--count];
            }
        }
    }
    _exit(0);
}

static int listener(const char *address, int type, struct sockaddr_in *at) {
    socklen_t size = sizeof *at;
    at->sin_family = AF_INET;
    if (inet_pton(AF_INET, address, &at->sin_addr) != 1) die(address);
    int made = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    if (made < 0 || bind(made, (struct sockaddr *)at, size) || getsockname(made, (struct sockaddr *)at, &size)) die("bind");
    if (type == SOCK_STREAM && listen(made, 16)) die("listen");
    return made;
}

static volatile unsigned long long *start_sink(const char *address) {
    volatile unsigned long long *arrived = mmap(NULL, sizeof *arrived, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (arrived == MAP_FAILED) die("mmap");
    int tcp = listener(address, SOCK_STREAM, &tcp_address), udp = listener(address, SOCK_DGRAM, &udp_address);
    /* Its uid is another by then, so that a signal at its parent's end would not reach it. */
    int life[2];
    if (pipe2(life, O_CLOEXEC)) die("pipe");
    pid_t child = fork();
    if (child < 0) die("fork");
    if (child == 0) {
        close(life[1]);
        sink(tcp, udp, life[0], arrived);
    }
    close(tcp);
    close(udp);
    close(life[0]);
    return arrived;
}

static void become(long uid) {
    gid_t gid = (gid_t)uid;
    if (setgroups(0, NULL) || setgid(gid) || setuid((uid_t)uid)) die("uid");
}

static void read_file(const char *path) {
    FILE *from = fopen(path, "rb");
    if (!from) die(path);
    len = fread(buffer, 1, sizeof buffer, from);
    fclose(from);
    file = path;
}

static void put(const void *bytes, size_t count) {
    if (len + count > sizeof buffer) die("room");
    memcpy(buffer + len, bytes, count);
    len += count;
}

static void put_number(size_t number, int bytes) {
    while (bytes--) {
        unsigned char byte = (unsigned char)(number >> 8 * bytes);
        put(&byte, 1);
    }
}

/* RFC 8446 section 4.1.2 and 5.1, RFC 6066 section 3: one record with one cipher suite and one extension, the server's name. */
static void hello(const char *host) {
    size_t name = strlen(host), extension = name + 5, extensions = extension + 4;
    size_t body = 2 + 32 + 1 + 4 + 2 + 2 + extensions;
    len = 0;
    put("\x16\x03\x01", 3);
    put_number(body + 4, 2);
    put("\x01", 1);
    put_number(body, 3);
    put("\x03\x03", 2);
    for (int i = 0; i < 32; i++) put_number((size_t)(i * 37 + 11), 1);
    put("\x00", 1);
    put("\x00\x02\x13\x01", 4);
    put("\x01\x00", 2);
    put_number(extensions, 2);
    put("\x00\x00", 2);
    put_number(extension, 2);
    put_number(name + 3, 2);
    put("\x00", 1);
    put_number(name, 2);
    put(host, name);
}

static void records(long count) {
    len = 0;
    for (long i = 0; i < count; i++) {
        put("\x17\x03\x03\x04\x00", 5);
        for (int byte = 0; byte < 1024; byte++) put_number((size_t)(byte * 73 + i * 29 + 5), 1);
    }
}

static void open_socket(int udp, int connects) {
    struct sockaddr_in *to = udp ? &udp_address : &tcp_address;
    is_udp = udp;
    is_connected = connects;
    fd = socket(AF_INET, udp ? SOCK_DGRAM : SOCK_STREAM, 0);
    if (fd < 0 || (connects && connect(fd, (struct sockaddr *)to, sizeof *to))) die("connect");
}

/* The buffer in parts that together are all of it, as many as asked for; the last may be empty. */
static void take_apart(struct iovec *parts, size_t at, size_t size, size_t count) {
    size_t each = size / count + 1;
    for (size_t i = 0; i < count; i++) {
        size_t begin = i * each < size ? i * each : size, end = begin + each < size ? begin + each : size;
        parts[i] = (struct iovec){buffer + at + begin, end - begin};
    }
}

/* One call for `size` bytes of the buffer; what it says that it took. */
static long long one(const char *how, size_t at, size_t size) {
    struct sockaddr_in *to = is_connected ? NULL : &udp_address;
    socklen_t to_len = to ? sizeof *to : 0;
    struct iovec parts[PARTS * MESSAGES];
    struct msghdr message = {.msg_name = to, .msg_namelen = to_len, .msg_iov = parts, .msg_iovlen = PARTS};
    take_apart(parts, at, size, PARTS);
    if (!strcmp(how, "write")) return write(fd, buffer + at, size);
    if (!strcmp(how, "writev")) return writev(fd, parts, PARTS);
    if (!strcmp(how, "send")) return send(fd, buffer + at, size, 0);
    if (!strcmp(how, "sendto")) return sendto(fd, buffer + at, size, 0, (struct sockaddr *)to, to_len);
    if (!strcmp(how, "sendmsg")) return sendmsg(fd, &message, 0);
    if (!strcmp(how, "sendfile")) {
        off_t from = (off_t)at;
        int in = open(file, O_RDONLY | O_CLOEXEC);
        long long result = sendfile(fd, in, &from, size);
        close(in);
        return result;
    }
    /* sendmmsg: the bytes go out in as many messages. */
    struct mmsghdr messages[MESSAGES];
    struct iovec stretches[MESSAGES];
    long long total = 0;
    take_apart(stretches, at, size, MESSAGES);
    for (int i = 0; i < MESSAGES; i++) {
        size_t begin = (size_t)((unsigned char *)stretches[i].iov_base - buffer);
        take_apart(parts + i * PARTS, begin, stretches[i].iov_len, PARTS);
        messages[i].msg_hdr = message;
        messages[i].msg_hdr.msg_iov = parts + i * PARTS;
    }
    if (sendmmsg(fd, messages, MESSAGES, 0) != MESSAGES) return -1;
    for (int i = 0; i < MESSAGES; i++) total += messages[i].msg_len;
    return total;
}

static void send_by(const char *how) {
    size_t most = is_udp ? DATAGRAM : len;
    for (size_t at = 0; at < len;) {
        size_t size = len - at < most ? len - at : most;
        long long took = one(how, at, size);
        if (took <= 0) die(how);
        at += (size_t)took;
        sent += (unsigned long long)took;
    }
}

/*
 * Numbers that this size has for other calls and the other size for sending, opening, closing, forking: arch/arm/tools/syscall.tbl
 * against include/uapi/asm-generic/unistd.h. With these arguments most of them fail; those that do not change nothing.
 */
#ifdef __arm__
/* What arm64 calls dup dup3 fcntl openat close write writev sendfile splice accept connect sendto sendmsg clone accept4 sendmmsg. */
static const int strangers[] = {23, 24, 25, 56, 57, 64, 66, 71, 76, 202, 203, 206, 211, 220, 242, 269};
/* getppid: a number of bytes, where it were taken for a write. */
#define POSITIVE 64
#else
/*
 * What arm calls fork write close execve dup fcntl clone writev sendfile vfork sendfile64 connect accept send sendto sendmsg openat
 * splice dup3 accept4 sendmmsg execveat.
 */
static const int strangers[] = {2, 4, 6, 11, 41, 55, 120, 146, 187, 190, 239, 283, 285, 289, 290, 296, 322, 340, 358, 366, 374, 387};
/* None of these returns a number without more ado. */
#define POSITIVE SYS_getppid
#endif

static void strange(void) {
    for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++) syscall(strangers[i], fd, buffer, len, 0, 0, 0);
    if (syscall(POSITIVE, fd, buffer, len) <= 0) die("getppid");
#ifdef __arm__
    /* 0, which a new process gets from arm64's clone of this number. */
    if (syscall(SYS_madvise, 0, 0, 0)) die("madvise");
#else
    /* 0 for the policy, which a new process gets from arm's clone of this number. */
    if (syscall(SYS_sched_getscheduler, 0)) die("sched_getscheduler");
    /* As many bytes as asked for, which were a descriptor, where it were taken for an accept. */
    int from = open(file, O_RDONLY | O_CLOEXEC), to = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (syscall(SYS_copy_file_range, from, NULL, to, NULL, (size_t)fd, 0) != fd) die("copy_file_range");
    close(from);
    close(to);
#endif
}

static int temporary(void) {
    int made = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (made < 0 || write(made, buffer, len) != (ssize_t)len) die("/tmp");
    return made;
}

static void reuse(void) {
    int made = temporary();
    if (made != fd) die("another descriptor came back");
    close(made);
}

static void over(void) {
    int under = temporary();
    if (dup3(fd, under, O_CLOEXEC) != under) die("dup3");
    close(fd);
    fd = under;
}

static int named(const char *step, const char *name) {
    return !strcmp(step, name);
}

static const char *value(const char *step, const char *name) {
    size_t size = strlen(name);
    return !strncmp(step, name, size) && step[size] == ':' ? step + size + 1 : NULL;
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: plain-client ADDR STEP...\n");
        return 2;
    }
    volatile unsigned long long *arrived = start_sink(argv[1]);
    for (int i = 2; i < argc; i++) {
        const char *step = argv[i], *of;
        errno = 0;
        if ((of = value(step, "uid"))) become(atol(of));
        else if ((of = value(step, "file"))) read_file(of);
        else if ((of = value(step, "hello"))) hello(of);
        else if ((of = value(step, "records"))) records(atol(of));
        else if ((of = value(step, "pause"))) pause_ms(atol(of));
        else if (named(step, "tcp")) open_socket(0, 1);
        else if (named(step, "udp")) open_socket(1, 1);
        else if (named(step, "udp-open")) open_socket(1, 0);
        else if (named(step, "strange")) strange();
        else if (named(step, "close")) close(fd);
        else if (named(step, "reuse")) reuse();
        else if (named(step, "over")) over();
        else send_by(step);
    }
    for (int tries = 0; *arrived != sent && tries < 500; tries++) pause_ms(20);
    if (*arrived != sent) {
        fprintf(stderr, "plain-client: %llu of %llu bytes arrived\n", *arrived, sent);
        return 1;
    }
    printf("uid=%ld bits=%zu bytes=%llu\n", (long)getuid(), 8 * sizeof(void *), sent);
    return 0;
}
