/*
 * Makes the TLS library calls that the live tests ask for, one after the other, both ends in this process.
 *
 * Each connection is a socket pair; the other end is read here as well, so no network is needed, and a pre-shared key
 * spares the certificate. What is sent on connection N is the endless pattern of `byte_at`, so that a test knows every
 * byte. All sockets of script connections are non-blocking: a large SSL_write comes back for a retry with the same bytes.
 *
 *   tls-writes STEP...
 *     open:N        a new connection N (0-9): SSL_new, SSL_set_fd, SSL_set_tlsext_host_name, handshake
 *     tcp:N:WAY     the same over TCP on the loopback, non-blocking too; how the client's bytes reach its socket: 0 SSL_set_fd,
 *                   1 a socket BIO, 2 memory BIOs that the same thread empties, 3 that another thread empties, 4 memory BIOs
 *                   emptied after two writes. Prints `tcp:N fd=…`
 *     write:N:SIZE  SSL_write until SIZE bytes of the pattern are taken; SIZE 0 is one call with no bytes
 *     ex:N:SIZE     the same through SSL_write_ex (OpenSSL only)
 *     partial:N     SSL_MODE_ENABLE_PARTIAL_WRITE from now on
 *     threads:N:COUNT:SIZE  a thread each for connections N and N+1 writes COUNT times SIZE bytes
 *     free:N        SSL_free
 *     time:N:COUNT:SIZE  as write, COUNT times; prints `nanoseconds=`, the median of a call
 *     stuck:N       a thread blocks inside SSL_write for good
 *     line          says `waiting` and reads a line from standard input
 *     exit          _exit at once, nothing freed
 *
 * Prints `pid=… retries=… calls=…` at the end. Exits 1 when something failed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tls-psk.h"

struct connection {
    SSL *client, *server;
    int fds[2];
    size_t sent;
    long retries, calls;
    int way, waiting;
};

static struct connection connections[10];
static SSL_CTX *client_context, *server_context;

static void die(const char *what) {
    char text[256];
    ERR_error_string_n(ERR_get_error(), text, sizeof text);
    fprintf(stderr, "tls-writes: %s: %s (%s)\n", what, text, strerror(errno));
    exit(1);
}

static unsigned char byte_at(int number, size_t at) { return (unsigned char)(at * 31 + (at >> 8) * 7 + number * 101); }

static void set_up(void) {
    if (!psk_contexts(&client_context, &server_context, "ECDHE-PSK-AES128-CBC-SHA")) die("set-up");
}

/* Reads whatever has arrived at the other end. */
static void take(struct connection *c) {
    static _Thread_local unsigned char sink[65536];
    while (SSL_read(c->server, sink, sizeof sink) > 0) {
    }
    ERR_clear_error();
}

static void tcp_pair(int fds[2]) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof to;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (void *)&to, len) || listen(listener, 1) || getsockname(listener, (void *)&to, &len))
        die("listen");
    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fds[0] < 0 || connect(fds[0], (void *)&to, len)) die("connect");
    fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fds[1] < 0 || fcntl(fds[0], F_SETFL, O_NONBLOCK)) die("accept");
    close(listener);
}

/* Sends what the client's memory BIO holds. */
static void *empty(void *argument) {
    struct connection *c = argument;
    unsigned char bytes[65536];
    int n;
    while ((n = BIO_read(SSL_get_wbio(c->client), bytes, sizeof bytes)) > 0)
        if (send(c->fds[0], bytes, (size_t)n, MSG_NOSIGNAL) != n) die("send");
    return NULL;
}

/* Moves what lies between the client's memory BIOs and its socket. */
static void pump(struct connection *c, int in_handshake) {
    unsigned char bytes[65536];
    ssize_t n;
    if (c->way < 2) return;
    if (c->way == 3) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, empty, c)) die("pthread_create");
        pthread_join(thread, NULL);
    } else if (c->way == 2 || in_handshake || ++c->waiting % 2 == 0) {
        empty(c);
    }
    while ((n = recv(c->fds[0], bytes, sizeof bytes, 0)) > 0) BIO_write(SSL_get_rbio(c->client), bytes, (int)n);
}

static int set_socket(struct connection *c) {
    if (c->way == 0) return SSL_set_fd(c->client, c->fds[0]);
    BIO *in = c->way == 1 ? BIO_new_socket(c->fds[0], BIO_NOCLOSE) : BIO_new(BIO_s_mem());
    BIO *out = c->way == 1 ? in : BIO_new(BIO_s_mem());
    if (!in || !out) return 0;
    SSL_set_bio(c->client, in, out);
    return 1;
}

static void open_connection(int number, int way) {
    struct connection *c = &connections[number];
    memset(c, 0, sizeof *c);
    if (way >= 0) tcp_pair(c->fds);
    else if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, c->fds)) die("socketpair");
    c->way = way > 0 ? way : 0;
    c->client = SSL_new(client_context);
    c->server = SSL_new(server_context);
    if (!c->client || !c->server || !set_socket(c) || !SSL_set_fd(c->server, c->fds[1])) die("SSL_new");
    if (way >= 0) printf("tcp:%d fd=%d\n", number, c->fds[0]);
    char host[32];
    snprintf(host, sizeof host, "host%d.example", number);
    if (!SSL_set_tlsext_host_name(c->client, host)) die("SSL_set_tlsext_host_name");
    if (way < 0) {
        if (!psk_handshake(c->client, c->server)) die("handshake");
        return;
    }
    SSL_set_connect_state(c->client);
    SSL_set_accept_state(c->server);
    for (int i = 0; i < 100; i++) {
        int one = SSL_do_handshake(c->client);
        pump(c, 1);
        int other = SSL_do_handshake(c->server);
        pump(c, 1);
        if (one == 1 && other == 1) return;
        usleep(1000);
    }
    die("handshake");
}

static int call(struct connection *c, int extended, const unsigned char *bytes, size_t size, size_t *taken) {
    c->calls++;
    if (extended) {
#ifdef OPENSSL_IS_BORINGSSL
        die("SSL_write_ex is OpenSSL's");
#else
        return SSL_write_ex(c->client, bytes, size, taken);
#endif
    }
    int n = SSL_write(c->client, bytes, (int)size);
    *taken = n > 0 ? (size_t)n : 0;
    return n;
}

static void write_all(int number, size_t size, int extended) {
    struct connection *c = &connections[number];
    unsigned char *bytes = malloc(size + 1);
    if (!bytes) die("malloc");
    for (size_t i = 0; i < size; i++) bytes[i] = byte_at(number, c->sent + i);
    size_t done = 0;
    do {
        size_t taken = 0;
        int result = call(c, extended, bytes + done, size - done, &taken);
        if (result > 0) {
            done += taken;
            c->sent += taken;
            pump(c, 0);
        } else if (size) {
            int why = SSL_get_error(c->client, result);
            if (why != SSL_ERROR_WANT_WRITE) die("SSL_write");
            c->retries++;
            take(c);
        }
    } while (done < size);
    take(c);
    free(bytes);
}

struct task {
    int number;
    long count;
    size_t size;
};

static void *write_often(void *argument) {
    struct task *task = argument;
    for (long i = 0; i < task->count; i++) write_all(task->number, task->size, 0);
    return NULL;
}

static void *write_for_good(void *argument) {
    struct connection *c = argument;
    static unsigned char bytes[1 << 22];
    if (fcntl(c->fds[0], F_SETFL, 0)) die("fcntl");
    SSL_write(c->client, bytes, sizeof bytes);
    return NULL;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static int by_size(const void *one, const void *other) {
    double difference = *(const double *)one - *(const double *)other;
    return (difference > 0) - (difference < 0);
}

int main(int argc, char **argv) {
    set_up();
    for (int i = 1; i < argc; i++) {
        char name[16] = "";
        long a = 0, b = 0, c = 0;
        sscanf(argv[i], "%15[a-z]:%ld:%ld:%ld", name, &a, &b, &c);
        if (a < 0 || a > 9) die("connection number");
        if (!strcmp(name, "open")) open_connection((int)a, -1);
        else if (!strcmp(name, "tcp")) open_connection((int)a, (int)b);
        else if (!strcmp(name, "write")) write_all((int)a, (size_t)b, 0);
        else if (!strcmp(name, "ex")) write_all((int)a, (size_t)b, 1);
        else if (!strcmp(name, "partial")) SSL_set_mode(connections[a].client, SSL_MODE_ENABLE_PARTIAL_WRITE);
        else if (!strcmp(name, "free")) {
            SSL_free(connections[a].client);
            SSL_free(connections[a].server);
            close(connections[a].fds[0]);
            close(connections[a].fds[1]);
        } else if (!strcmp(name, "threads")) {
            struct task tasks[2] = {{(int)a, b, (size_t)c}, {(int)a + 1, b, (size_t)c}};
            pthread_t threads[2];
            for (int t = 0; t < 2; t++)
                if (pthread_create(&threads[t], NULL, write_often, &tasks[t])) die("pthread_create");
            for (int t = 0; t < 2; t++) pthread_join(threads[t], NULL);
        } else if (!strcmp(name, "time")) {
            unsigned char *bytes = calloc(1, (size_t)c + 1);
            double *spent = calloc((size_t)b + 1, sizeof *spent);
            if (!bytes || !spent) die("calloc");
            for (long n = 0; n < b; n++) {
                double before = now();
                if (SSL_write(connections[a].client, bytes, (int)c) != c) die("time");
                spent[n] = now() - before;
                if (n % 8 == 7) take(&connections[a]);
            }
            qsort(spent, (size_t)b, sizeof *spent, by_size);
            printf("nanoseconds=%.0f\n", spent[b / 2]);
            free(bytes);
            free(spent);
        } else if (!strcmp(name, "stuck")) {
            pthread_t thread;
            if (pthread_create(&thread, NULL, write_for_good, &connections[a])) die("pthread_create");
            usleep(200000);
        } else if (!strcmp(name, "line")) {
            char line[8];
            puts("waiting");
            fflush(stdout);
            if (!fgets(line, sizeof line, stdin)) die("line");
        } else if (!strcmp(name, "exit")) {
            _exit(0);
        } else {
            die(argv[i]);
        }
    }
    long retries = 0, calls = 0;
    for (int i = 0; i < 10; i++) retries += connections[i].retries, calls += connections[i].calls;
    printf("pid=%d retries=%ld calls=%ld\n", getpid(), retries, calls);
    return 0;
}
