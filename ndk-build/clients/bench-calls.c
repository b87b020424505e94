/*
 * Makes the calls whose cost the bench compares, and times them: SSL_write of real BoringSSL into a memory BIO pair, and
 * system calls. One command per line of standard input, one line of `key=value` pairs as the answer; it ends with its input.
 *
 *   cpu N                  run on this CPU alone from now on
 *   file PATH              what SSL_write is given from now on, instead of zeros
 *   write SIZE GROUPS      SSL_write of SIZE bytes (0: the whole file), GROUPS times 8 calls
 *   paused SIZE CALLS US   the same, each call by itself after a pause of US microseconds
 *   cipher SIZE GROUPS     EVP_CipherUpdate of SIZE bytes (AES-128-CBC), GROUPS times 8 calls
 *   stream SIZE MS RATE    as many as can be in MS milliseconds; at most RATE a second, 0 for no limit
 *   connections COUNT RATE LIBRARY  a host name, one write of the file and the end, COUNT times, at most RATE a second,
 *                          through a library that only has the functions' names
 *   hooked                 `hooked=1` when somebody has a probe on SSL_write: its code is not what its file holds
 *   call NAME GROUPS       a system call, GROUPS times 64: getpid read write futex sendto send
 *
 * Times are the median of the groups, in nanoseconds for one call (`ns=`): what else the machine does falls on few groups.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <openssl/ssl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tls-psk.h"

enum { GROUP = 8, CALL_GROUP = 64, LARGEST = 1 << 16, PIPE = 1 << 20 };

static SSL *client;
static BIO *other_end;
static unsigned char bytes[LARGEST];
static size_t file_size = 1024;

static void die(const char *what) {
    fprintf(stderr, "bench-calls: %s: %s\n", what, errno ? strerror(errno) : "failed");
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int by_size(const void *one, const void *other) {
    double difference = *(const double *)one - *(const double *)other;
    return (difference > 0) - (difference < 0);
}

static void answer_median(double *spent, long count, int calls) {
    qsort(spent, (size_t)count, sizeof *spent, by_size);
    printf("ns=%.2f\n", spent[count / 2] / calls);
    free(spent);
}

static double *room_for(long count) {
    double *spent = count > 0 ? calloc((size_t)count, sizeof *spent) : NULL;
    if (!spent) die("count");
    return spent;
}

static void connect_in_memory(void) {
    SSL_CTX *client_context, *server_context;
    if (!psk_contexts(&client_context, &server_context, "ECDHE-PSK-CHACHA20-POLY1305")) die("set-up");
    SSL *server = SSL_new(server_context);
    client = SSL_new(client_context);
    BIO *mine;
    if (!client || !server || !BIO_new_bio_pair(&mine, PIPE, &other_end, PIPE)) die("BIO pair");
    BIO_up_ref(mine);
    SSL_set_bio(client, mine, mine);
    BIO_up_ref(other_end);
    SSL_set_bio(server, other_end, other_end);
    if (!SSL_set_tlsext_host_name(client, "bench.example")) die("host name");
    if (!psk_handshake(client, server)) die("handshake");
}

/* What was encrypted goes nowhere. */
static void discard(void) {
    static unsigned char sink[LARGEST];
    while (BIO_read(other_end, sink, sizeof sink) > 0) {
    }
}

static void write_once(size_t size) {
    if (SSL_write(client, bytes, (int)size) != (int)size) die("SSL_write");
}

static void time_writes(size_t size, long groups) {
    double *spent = room_for(groups);
    for (long group = 0; group < groups; group++) {
        double before = now();
        for (int i = 0; i < GROUP; i++) write_once(size);
        spent[group] = now() - before;
        discard();
    }
    answer_median(spent, groups, GROUP);
}

static void time_paused(size_t size, long calls, long pause_us) {
    double *spent = room_for(calls);
    for (long call = 0; call < calls; call++) {
        usleep((useconds_t)pause_us);
        double before = now();
        write_once(size);
        spent[call] = now() - before;
        discard();
    }
    answer_median(spent, calls, 1);
}

static void time_ciphers(size_t size, long groups) {
    static const unsigned char key[16] = {1}, vector[16] = {2};
    static unsigned char out[LARGEST + 16];
    int made;
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    if (!context || !EVP_CipherInit_ex(context, EVP_aes_128_cbc(), NULL, key, vector, 1)) die("cipher");
    double *spent = room_for(groups);
    for (long group = 0; group < groups; group++) {
        double before = now();
        for (int i = 0; i < GROUP; i++)
            if (!EVP_CipherUpdate(context, out, &made, bytes, (int)size)) die("EVP_CipherUpdate");
        spent[group] = now() - before;
    }
    answer_median(spent, groups, GROUP);
    EVP_CIPHER_CTX_free(context);
}

static void stream(size_t size, long ms, long rate) {
    double begin = now(), end = begin + (double)ms * 1e6;
    long calls = 0;
    for (;;) {
        double at = now();
        if (at >= end) break;
        /* A rate is kept by the millisecond: as many as are due by now. */
        long due = rate ? (long)((at - begin) * (double)rate / 1e9) - calls : GROUP;
        for (; due > 0; due--, calls++) {
            write_once(size);
            if (calls % GROUP == GROUP - 1) discard();
        }
        if (rate) usleep(200);
    }
    discard();
    printf("calls=%ld seconds=%.6f\n", calls, (now() - begin) / 1e9);
}

/* Whether the first bytes of SSL_write are those of its file. */
static int is_hooked(void) {
    unsigned long at = (unsigned long)SSL_write, start, end, offset;
    unsigned char original[8];
    char line[1024], path[512];
    FILE *maps = fopen("/proc/self/maps", "r");
    if (!maps) die("/proc/self/maps");
    while (fgets(line, sizeof line, maps)) {
        if (sscanf(line, "%lx-%lx %*s %lx %*s %*s %511s", &start, &end, &offset, path) != 4 || at < start || at >= end) continue;
        int file = open(path, O_RDONLY);
        ssize_t count = pread(file, original, sizeof original, (off_t)(at - start + offset));
        close(file);
        fclose(maps);
        if (count != sizeof original) die(path);
        return memcmp(original, (const void *)at, sizeof original) != 0;
    }
    die("SSL_write is nowhere");
    return 0;
}

/* Two ends of a TCP connection on the loopback. */
static void tcp_pair(int ends[2]) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof here;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&here, length) || listen(listener, 1) ||
        getsockname(listener, (struct sockaddr *)&here, &length))
        die("listen");
    ends[0] = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(ends[0], (struct sockaddr *)&here, length)) die("connect");
    ends[1] = accept(listener, NULL, NULL);
    close(listener);
}

static void time_calls(const char *name, long groups) {
    static const char *const names[] = {"getpid", "read", "write", "futex", "sendto", "send"};
    int which = 0;
    while (which < 6 && strcmp(names[which], name)) which++;
    if (which == 6) die(name);

    static unsigned char piece[64];
    uint32_t word = 0;
    int zero = open("/dev/zero", O_RDONLY), udp = socket(AF_INET, SOCK_DGRAM, 0), sink = socket(AF_INET, SOCK_DGRAM, 0);
    int tcp[2], file = open(".", O_TMPFILE | O_RDWR, 0600);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof to;
    tcp_pair(tcp);
    if (zero < 0 || udp < 0 || file < 0 || bind(sink, (struct sockaddr *)&to, length) ||
        getsockname(sink, (struct sockaddr *)&to, &length))
        die("set-up");

    double *spent = room_for(groups);
    for (long group = 0; group < groups; group++) {
        double before = now();
        for (int i = 0; i < CALL_GROUP; i++) {
            ssize_t done = 1;
            switch (which) {
            case 0: done = syscall(SYS_getpid); break;
            case 1: done = read(zero, piece, sizeof piece); break;
            case 2: done = write(file, piece, sizeof piece); break;
            case 3: done = syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0); break;
            case 4: done = sendto(udp, piece, sizeof piece, 0, (struct sockaddr *)&to, sizeof to); break;
            case 5: done = send(tcp[0], piece, sizeof piece, 0); break;
            }
            if (done < 0) die(name);
        }
        spent[group] = now() - before;
        static unsigned char taken[LARGEST];
        lseek(file, 0, SEEK_SET);
        while (recv(sink, taken, sizeof taken, MSG_DONTWAIT) > 0 || recv(tcp[1], taken, sizeof taken, MSG_DONTWAIT) > 0) {
        }
    }
    answer_median(spent, groups, CALL_GROUP);
    int fds[] = {zero, udp, sink, tcp[0], tcp[1], file};
    for (int i = 0; i < 6; i++) close(fds[i]);
}

static void open_connections(long count, long rate, const char *library) {
    /* Addresses come again, as an allocator gives them; nothing lies there. */
    enum { OBJECTS = 4096, SPACING = 1024 };
    static unsigned char objects[OBJECTS][SPACING];
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!handle) die(library);
    int (*set_host)(const void *, const char *) = (int (*)(const void *, const char *))dlsym(handle, "SSL_set_tlsext_host_name");
    int (*write_to)(const void *, const void *, int) = (int (*)(const void *, const void *, int))dlsym(handle, "SSL_write");
    void (*end)(const void *) = (void (*)(const void *))dlsym(handle, "SSL_free");
    if (!set_host || !write_to || !end) die("dlsym");
    double begin = now();
    for (long i = 0; i < count;) {
        for (long due = (long)((now() - begin) * (double)rate / 1e9) - i; due > 0 && i < count; due--, i++) {
            const void *ssl = objects[i % OBJECTS];
            if (!set_host(ssl, "bench.example") || write_to(ssl, bytes, (int)file_size) != (int)file_size) die("connection");
            end(ssl);
        }
        usleep(200);
    }
    printf("connections=%ld seconds=%.6f\n", count, (now() - begin) / 1e9);
}

static void load(const char *path) {
    FILE *in = fopen(path, "rb");
    if (!in) die(path);
    file_size = fread(bytes, 1, sizeof bytes, in);
    fclose(in);
}

int main(void) {
    char line[512], name[32];
    setvbuf(stdout, NULL, _IOLBF, 0);
    connect_in_memory();
    printf("pid=%d\n", getpid());
    while (fgets(line, sizeof line, stdin)) {
        long a = 0, b = 0, c = 0;
        int at = 0;
        line[strcspn(line, "\n")] = 0;
        if (sscanf(line, "cpu %ld", &a) == 1) {
            cpu_set_t set;
            CPU_ZERO(&set);
            CPU_SET(a, &set);
            if (sched_setaffinity(0, sizeof set, &set)) die("cpu");
            puts("ok=1");
        } else if (!strcmp(line, "hooked")) {
            printf("hooked=%d\n", is_hooked());
        } else if (!strncmp(line, "file ", 5)) {
            load(line + 5);
            printf("size=%zu\n", file_size);
        } else if (sscanf(line, "connections %ld %ld %n", &a, &b, &at) == 2 && at && b > 0) {
            open_connections(a, b, line + at);
        } else if (sscanf(line, "cipher %ld %ld", &a, &b) == 2 && a > 0 && a <= LARGEST) {
            time_ciphers((size_t)a, b);
        } else if (sscanf(line, "call %31s %ld", name, &a) == 2) {
            time_calls(name, a);
        } else if (sscanf(line, "%31s %ld %ld %ld", name, &a, &b, &c) >= 3 && a >= 0 && a <= LARGEST) {
            size_t size = a ? (size_t)a : file_size;
            if (!strcmp(name, "write")) time_writes(size, b);
            else if (!strcmp(name, "paused")) time_paused(size, b, c);
            else if (!strcmp(name, "stream")) stream(size, b, c);
            else die(line);
        } else {
            die(line);
        }
    }
    return 0;
}
