/*
 * Sends a file through a real TLS library, as an app does: from the app's own uid, with the host name in the SNI.
 *
 * One source for every library with OpenSSL's interface; which one is decided when it is compiled and linked
 * (`cargo ndk-build` makes tls-client-boringssl and tls-client-openssl). The peer's certificate is not checked:
 * the peer is a throwaway collector on the loopback.
 *
 *   tls-client --connect ADDR:PORT --host NAME --file FILE|- [options]
 *     --uid N        become this uid and gid first (root only)
 *     --write SIZE   hand SIZE bytes to each SSL_write (default: everything in one call)
 *     --repeat N     send the file N times over the one connection (default 1)
 *     --answered     wait for the answer to the file, whenever it was sent once: HTTP, an answer without a body
 *     --more BYTES   after the file this many bytes more, as the body that it announced, in pieces of --write
 *     --wait MS      wait before connecting, with the library already mapped
 *     --hold         after the last write keep the connection until standard input ends; not with --file -
 *     --partial      SSL_MODE_ENABLE_PARTIAL_WRITE: a call takes one record at most, as on Android
 *     --write-ex     SSL_write_ex instead of SSL_write (OpenSSL only)
 *
 * On success prints one line, `pid=… bytes=… calls=… seconds=…` (the time from the first write to the last answer), and exits 0. Exits 2 for wrong usage, 1 when something failed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct options {
    const char *connect, *host, *file;
    long uid, write_size, repeat, wait_ms, more;
    int partial, write_ex, answered, hold;
};

static void die(const char *what) {
    unsigned long tls_error = ERR_get_error();
    if (tls_error != 0) {
        char text[256];
        ERR_error_string_n(tls_error, text, sizeof text);
        fprintf(stderr, "tls-client: %s: %s\n", what, text);
    } else {
        fprintf(stderr, "tls-client: %s: %s\n", what, errno ? strerror(errno) : "failed");
    }
    exit(1);
}

static void usage(const char *why) {
    fprintf(stderr, "tls-client: %s\n", why);
    exit(2);
}

static long number(const char *text, long least) {
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || end == text || *end || value < least) usage("a number is out of range");
    return value;
}

static struct options parse(int argc, char **argv) {
    struct options o = {.uid = -1, .repeat = 1};
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        if (!strcmp(name, "--partial")) { o.partial = 1; continue; }
        if (!strcmp(name, "--write-ex")) { o.write_ex = 1; continue; }
        if (!strcmp(name, "--answered")) { o.answered = 1; continue; }
        if (!strcmp(name, "--hold")) { o.hold = 1; continue; }
        if (i + 1 >= argc) usage("an option lacks its value");
        const char *value = argv[++i];
        if (!strcmp(name, "--connect")) o.connect = value;
        else if (!strcmp(name, "--host")) o.host = value;
        else if (!strcmp(name, "--file")) o.file = value;
        else if (!strcmp(name, "--uid")) o.uid = number(value, 0);
        else if (!strcmp(name, "--write")) o.write_size = number(value, 1);
        else if (!strcmp(name, "--repeat")) o.repeat = number(value, 1);
        else if (!strcmp(name, "--more")) o.more = number(value, 0);
        else if (!strcmp(name, "--wait")) o.wait_ms = number(value, 0);
        else usage("unknown option");
    }
    if (!o.connect || !o.host || !o.file) usage("--connect, --host and --file are needed");
    return o;
}

static unsigned char *slurp(const char *path, size_t *length) {
    FILE *in = strcmp(path, "-") ? fopen(path, "rb") : stdin;
    if (!in) die(path);
    size_t room = 1 << 16, used = 0;
    unsigned char *bytes = malloc(room);
    while (bytes) {
        used += fread(bytes + used, 1, room - used, in);
        if (used < room) break;
        bytes = realloc(bytes, room *= 2);
    }
    if (!bytes || ferror(in)) die(path);
    *length = used;
    return bytes;
}

static void become(uid_t uid) {
    if (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid)) die("cannot take the app's uid");
}

static int dial(const char *where) {
    char text[64];
    const char *colon = strrchr(where, ':');
    if (!colon || (size_t)(colon - where) >= sizeof text) usage("--connect takes ADDR:PORT");
    memcpy(text, where, (size_t)(colon - where));
    text[colon - where] = 0;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)number(colon + 1, 1))};
    if (inet_pton(AF_INET, text, &to.sin_addr) != 1) usage("--connect takes an IPv4 address");
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to)) die(where);
    return fd;
}

/* One call of the library's write; returns how many bytes it took. */
static size_t write_once(SSL *ssl, const struct options *o, const unsigned char *bytes, size_t length) {
    if (o->write_ex) {
#ifdef OPENSSL_IS_BORINGSSL
        usage("BoringSSL has no SSL_write_ex");
#else
        size_t taken = 0;
        if (SSL_write_ex(ssl, bytes, length, &taken) != 1) die("SSL_write_ex");
        return taken;
#endif
    }
    int taken = SSL_write(ssl, bytes, (int)length);
    if (taken <= 0) die("SSL_write");
    return (size_t)taken;
}

/* Reads the answer to a request: its head, for it has no body. */
static void read_answer(SSL *ssl) {
    char head[4096];
    size_t held = 0;
    do {
        int count = held < sizeof head - 1 ? SSL_read(ssl, head + held, (int)(sizeof head - 1 - held)) : 0;
        if (count <= 0) die("the answer");
        held += (size_t)count;
        head[held] = 0;
    } while (!strstr(head, "\r\n\r\n"));
    if (strncmp(head, "HTTP/1.1 200", 12)) die("the answer is not 200");
}

static double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void pause_for(long ms) {
    struct timespec left = {ms / 1000, (ms % 1000) * 1000000};
    while (ms && nanosleep(&left, &left) && errno == EINTR) {
    }
}

int main(int argc, char **argv) {
    struct options o = parse(argc, argv);
    size_t length;
    unsigned char *bytes = slurp(o.file, &length);
    if (o.uid >= 0) become((uid_t)o.uid);
    pause_for(o.wait_ms);

    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (!context) die("SSL_CTX_new");
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
    if (o.partial) SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE);
    SSL *ssl = SSL_new(context);
    int fd = dial(o.connect);
    if (!ssl || SSL_set_tlsext_host_name(ssl, o.host) != 1 || SSL_set_fd(ssl, fd) != 1) die("cannot set the connection up");
    if (SSL_connect(ssl) != 1) die("handshake");

    size_t step = o.write_size ? (size_t)o.write_size : length;
    unsigned long long total = 0, calls = 0;
    double began = seconds_now();
    for (long round = 0; round < o.repeat; round++) {
        for (size_t at = 0; at < length;) {
            size_t left = length - at;
            size_t taken = write_once(ssl, &o, bytes + at, left < step ? left : step);
            at += taken;
            total += taken;
            calls++;
        }
        static unsigned char more[1 << 14];
        for (long left = o.more; left > 0; calls++) {
            size_t piece = o.write_size && (size_t)o.write_size < sizeof more ? (size_t)o.write_size : sizeof more;
            size_t taken = write_once(ssl, &o, more, (size_t)left < piece ? (size_t)left : piece);
            left -= (long)taken;
            total += taken;
        }
        if (o.answered) read_answer(ssl);
    }
    double spent = seconds_now() - began;
    while (o.hold && getchar() != EOF) {
    }

    /* Closing a socket with unread bytes resets the connection, and a reset discards what the peer has not read
     * yet: say that we are done, then read until the peer is too. */
    SSL_shutdown(ssl);
    shutdown(fd, SHUT_WR);
    char rest[4096];
    while (read(fd, rest, sizeof rest) > 0) {
    }
    SSL_free(ssl);
    SSL_CTX_free(context);
    close(fd);
    free(bytes);
    printf("pid=%ld bytes=%llu calls=%llu seconds=%.6f\n", (long)getpid(), total, calls, spent);
    return 0;
}
