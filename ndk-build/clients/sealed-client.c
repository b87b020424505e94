/*
 * Encrypts as apps do before they send, through the exported functions of Android's libcrypto, and sends what came of it through its
 * libssl. Both ends of a connection are in this process, so that no network is needed.
 *
 * Everything works on one buffer; a second one collects.
 *
 *   sealed-client STEP...
 *     uid:N            become this uid and gid (root only)
 *     text:TEXT        the buffer is TEXT
 *     file:PATH        the buffer is the file's content
 *     evp:CIPHER:STEP  encrypt the buffer as Java's Cipher does (EVP_CipherInit_ex twice, EVP_CipherUpdate by STEP bytes, 0 at once,
 *                      EVP_CipherFinal_ex); CIPHER is ecb cbc ctr; the vector of cbc and ctr goes before it
 *     native:CIPHER:STEP  the same through EVP_EncryptInit_ex and its sisters
 *     gcm              the buffer through EVP_AEAD_CTX_seal, nonce before it
 *     legacy           the buffer, padded, through AES_cbc_encrypt, vector before it
 *     place            as evp:ecb:0, into the very memory the text lies in
 *     decrypt          the buffer goes through EVP_CipherUpdate for decryption, for nothing
 *     rsa              a fresh session key through RSA_public_encrypt; that is the buffer
 *     base64 hex percent  the buffer, so encoded
 *     save:PATH        the buffer to a file
 *     collect          adds the buffer to the second one
 *     collected        the buffer is the second one, which is empty then
 *     http:TARGET:HOST:HEADERS  the buffer becomes the body of a POST; HEADERS are lines joined by |
 *     open:HOST        a new connection with that name
 *     send             SSL_write of the buffer on the connection opened last
 *     burn:COUNT       encrypts the buffer and a number COUNT times, and sends nothing of it
 *     time:COUNT:SIZE  prints the median of an EVP_CipherUpdate of SIZE bytes, `nanoseconds=`
 *     line             says `waiting` and reads a line from standard input
 *     pause:MS         waits
 *
 * Prints `pid=…` at the end. Exits 1 when something failed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <openssl/aead.h>
#include <openssl/aes.h>
#include <openssl/base64.h>
#include <openssl/bn.h>
#include <openssl/cipher.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ROOM (1 << 20)

struct bytes {
    unsigned char at[ROOM];
    size_t len;
};

static struct bytes buffer, second, work;
static unsigned char session_key[16];
static SSL *ssl;

static void die(const char *what) {
    char text[256];
    ERR_error_string_n(ERR_get_error(), text, sizeof text);
    fprintf(stderr, "sealed-client: %s: %s (%s)\n", what, text, strerror(errno));
    exit(1);
}

static void set(struct bytes *to, const void *from, size_t len) {
    if (len > ROOM) die("room");
    memmove(to->at, from, len);
    to->len = len;
}

static void add(struct bytes *to, const void *from, size_t len) {
    if (to->len + len > ROOM) die("room");
    memmove(to->at + to->len, from, len);
    to->len += len;
}

static const EVP_CIPHER *cipher_named(const char *name) {
    if (!strcmp(name, "ecb")) return EVP_aes_128_ecb();
    if (!strcmp(name, "cbc")) return EVP_aes_128_cbc();
    if (!strcmp(name, "ctr")) return EVP_aes_128_ctr();
    die(name);
    return NULL;
}

/* Encrypts the buffer; what came out follows the vector in the buffer. */
static void encrypt(const char *name, size_t step, int native) {
    const EVP_CIPHER *cipher = cipher_named(name);
    unsigned char vector[16];
    RAND_bytes(vector, sizeof vector);
    work.len = 0;
    if (strcmp(name, "ecb")) add(&work, vector, sizeof vector);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int ok;
    if (native) {
        ok = EVP_EncryptInit_ex(ctx, cipher, NULL, session_key, vector);
    } else {
        ok = EVP_CipherInit_ex(ctx, cipher, NULL, NULL, NULL, 1) &&
             EVP_CipherInit_ex(ctx, NULL, NULL, session_key, vector, 1);
    }
    if (!ok) die("init");
    for (size_t at = 0; at < buffer.len;) {
        size_t len = step && step < buffer.len - at ? step : buffer.len - at;
        int made = 0;
        unsigned char *to = work.at + work.len;
        if (work.len + len + 16 > ROOM) die("room");
        ok = native ? EVP_EncryptUpdate(ctx, to, &made, buffer.at + at, (int)len)
                    : EVP_CipherUpdate(ctx, to, &made, buffer.at + at, (int)len);
        if (!ok) die("update");
        work.len += (size_t)made;
        at += len;
    }
    int made = 0;
    ok = native ? EVP_EncryptFinal_ex(ctx, work.at + work.len, &made)
                : EVP_CipherFinal_ex(ctx, work.at + work.len, &made);
    if (!ok) die("final");
    work.len += (size_t)made;
    EVP_CIPHER_CTX_free(ctx);
    set(&buffer, work.at, work.len);
}

static void in_place(void) {
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int made = 0, last = 0;
    if (!EVP_CipherInit_ex(ctx, EVP_aes_128_ecb(), NULL, session_key, NULL, 1) ||
        !EVP_CipherUpdate(ctx, buffer.at, &made, buffer.at, (int)buffer.len) ||
        !EVP_CipherFinal_ex(ctx, buffer.at + made, &last))
        die("in place");
    buffer.len = (size_t)(made + last);
    EVP_CIPHER_CTX_free(ctx);
}

static void decrypt(void) {
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int made = 0;
    if (!EVP_CipherInit_ex(ctx, EVP_aes_128_ctr(), NULL, session_key, session_key, 0) ||
        !EVP_CipherUpdate(ctx, work.at, &made, buffer.at, (int)buffer.len))
        die("decrypt");
    EVP_CIPHER_CTX_free(ctx);
}

static void gcm(void) {
    unsigned char nonce[12];
    RAND_bytes(nonce, sizeof nonce);
    EVP_AEAD_CTX ctx;
    size_t made = 0;
    if (!EVP_AEAD_CTX_init(&ctx, EVP_aead_aes_128_gcm(), session_key, sizeof session_key, 16, NULL)) die("aead");
    set(&work, nonce, sizeof nonce);
    if (!EVP_AEAD_CTX_seal(&ctx, work.at + 12, &made, ROOM - 12, nonce, sizeof nonce, buffer.at, buffer.len, NULL, 0))
        die("seal");
    set(&buffer, work.at, 12 + made);
    EVP_AEAD_CTX_cleanup(&ctx);
}

static void legacy(void) {
    AES_KEY key;
    unsigned char vector[16];
    RAND_bytes(vector, sizeof vector);
    if (AES_set_encrypt_key(session_key, 128, &key)) die("key");
    unsigned char pad = (unsigned char)(16 - buffer.len % 16);
    for (int i = 0; i < pad; i++) add(&buffer, &pad, 1);
    set(&work, vector, sizeof vector);
    AES_cbc_encrypt(buffer.at, work.at + 16, buffer.len, &key, vector, AES_ENCRYPT);
    set(&buffer, work.at, 16 + buffer.len);
}

static void rsa(void) {
    RSA *key = RSA_new();
    BIGNUM *e = BN_new();
    RAND_bytes(session_key, sizeof session_key);
    if (!BN_set_word(e, RSA_F4) || !RSA_generate_key_ex(key, 1024, e, NULL)) die("rsa");
    int len = RSA_public_encrypt(sizeof session_key, session_key, work.at, key, RSA_PKCS1_PADDING);
    if (len < 0) die("RSA_public_encrypt");
    set(&buffer, work.at, (size_t)len);
    RSA_free(key);
    BN_free(e);
}

static void encode(const char *how) {
    work.len = 0;
    if (!strcmp(how, "base64")) {
        if (buffer.len > ROOM / 2) die("room");
        work.len = EVP_EncodeBlock(work.at, buffer.at, buffer.len);
    } else {
        int hex = !strcmp(how, "hex");
        for (size_t i = 0; i < buffer.len; i++) {
            char text[4];
            int plain = !hex && strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.", buffer.at[i]) &&
                        buffer.at[i];
            int len = plain ? snprintf(text, sizeof text, "%c", buffer.at[i])
                            : snprintf(text, sizeof text, hex ? "%02x" : "%%%02X", buffer.at[i]);
            add(&work, text, (size_t)len);
        }
    }
    set(&buffer, work.at, work.len);
}

static void http(char *argument) {
    char *target = strtok(argument, ":"), *host = strtok(NULL, ":"), *headers = strtok(NULL, "");
    static char head[8192];
    int len = snprintf(head, sizeof head, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %zu\r\n", target, host, buffer.len);
    for (char *line = headers ? strtok(headers, "|") : NULL; line; line = strtok(NULL, "|"))
        len += snprintf(head + len, sizeof head - (size_t)len, "%s\r\n", line);
    len += snprintf(head + len, sizeof head - (size_t)len, "\r\n");
    set(&work, buffer.at, buffer.len);
    set(&buffer, head, (size_t)len);
    add(&buffer, work.at, work.len);
}

/* The other end: a pre-shared key spares the certificate. */
static unsigned client_key(SSL *s, const char *hint, char *identity, unsigned room, unsigned char *out, unsigned key_room) {
    (void)s, (void)hint;
    if (room < 5 || key_room < 16) return 0;
    memcpy(identity, "test", 5);
    memset(out, 7, 16);
    return 16;
}

static unsigned server_key(SSL *s, const char *identity, unsigned char *out, unsigned room) {
    (void)s, (void)identity;
    if (room < 16) return 0;
    memset(out, 7, 16);
    return 16;
}

static void *swallow(void *argument) {
    SSL *server = argument;
    char sink[4096];
    if (SSL_accept(server) == 1)
        while (SSL_read(server, sink, sizeof sink) > 0) {
        }
    return NULL;
}

static void open_connection(const char *host) {
    static SSL_CTX *client, *server;
    if (!client) {
        client = SSL_CTX_new(TLS_method());
        server = SSL_CTX_new(TLS_method());
        SSL_CTX *both[] = {client, server};
        for (int i = 0; i < 2; i++) {
            /* CBC inside TLS passes through the same functions of libcrypto as an app's own encryption. */
            if (!SSL_CTX_set_max_proto_version(both[i], TLS1_2_VERSION) ||
                !SSL_CTX_set_cipher_list(both[i], "ECDHE-PSK-AES128-CBC-SHA"))
                die("TLS");
        }
        SSL_CTX_set_psk_client_callback(client, client_key);
        SSL_CTX_set_psk_server_callback(server, server_key);
    }
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds)) die("socketpair");
    SSL *other = SSL_new(server);
    ssl = SSL_new(client);
    pthread_t thread;
    if (!ssl || !other || !SSL_set_fd(ssl, fds[0]) || !SSL_set_fd(other, fds[1]) || !SSL_set_tlsext_host_name(ssl, host) ||
        pthread_create(&thread, NULL, swallow, other))
        die("connection");
    pthread_detach(thread);
    if (SSL_connect(ssl) != 1) die("handshake");
}

static void burn(long count) {
    static char secret[128];
    snprintf(secret, sizeof secret, "%.*s", (int)buffer.len, (char *)buffer.at);
    for (long i = 0; i < count; i++) {
        char text[256];
        int len = snprintf(text, sizeof text, "%s-%ld-and-more-of-it", secret, i);
        set(&buffer, text, (size_t)len);
        encrypt(i % 2 ? "cbc" : "ecb", 0, 0);
        /* About as fast as a busy app, so that the ring is not simply full. */
        if (i % 50 == 49) usleep(5000);
    }
    memset(buffer.at, 0, ROOM);
    memset(work.at, 0, ROOM);
    buffer.len = 0;
}

static int by_size(const void *one, const void *other) {
    double difference = *(const double *)one - *(const double *)other;
    return (difference > 0) - (difference < 0);
}

static void take_time(long count, size_t size) {
    double *spent = calloc((size_t)count + 1, sizeof *spent);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    if (!spent || size > ROOM - 16 || !EVP_CipherInit_ex(ctx, EVP_aes_128_cbc(), NULL, session_key, session_key, 1))
        die("time");
    for (long i = 0; i < count; i++) {
        struct timespec before, after;
        int made;
        clock_gettime(CLOCK_MONOTONIC, &before);
        if (!EVP_CipherUpdate(ctx, work.at, &made, buffer.at, (int)size)) die("update");
        clock_gettime(CLOCK_MONOTONIC, &after);
        spent[i] = (double)(after.tv_sec - before.tv_sec) * 1e9 + (double)(after.tv_nsec - before.tv_nsec);
    }
    qsort(spent, (size_t)count, sizeof *spent, by_size);
    printf("nanoseconds=%.0f\n", spent[count / 2]);
    fflush(stdout);
    EVP_CIPHER_CTX_free(ctx);
    free(spent);
}

int main(int argc, char **argv) {
    memset(session_key, 0x2a, sizeof session_key);
    for (int i = 1; i < argc; i++) {
        char *name = argv[i], *value = strchr(name, ':');
        if (value) *value++ = 0;
        else value = name + strlen(name);
        if (!strcmp(name, "uid")) {
            uid_t uid = (uid_t)strtol(value, NULL, 10);
            if (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid)) die("uid");
        } else if (!strcmp(name, "text")) set(&buffer, value, strlen(value));
        else if (!strcmp(name, "file")) {
            FILE *in = fopen(value, "rb");
            if (!in) die(value);
            buffer.len = fread(buffer.at, 1, ROOM, in);
            fclose(in);
        } else if (!strcmp(name, "save")) {
            FILE *out = fopen(value, "wb");
            if (!out || fwrite(buffer.at, 1, buffer.len, out) != buffer.len || fclose(out)) die(value);
        } else if (!strcmp(name, "evp") || !strcmp(name, "native")) {
            char *step = strchr(value, ':');
            if (!step) die("step");
            *step++ = 0;
            encrypt(value, (size_t)strtol(step, NULL, 10), !strcmp(name, "native"));
        } else if (!strcmp(name, "gcm")) gcm();
        else if (!strcmp(name, "legacy")) legacy();
        else if (!strcmp(name, "place")) in_place();
        else if (!strcmp(name, "decrypt")) decrypt();
        else if (!strcmp(name, "rsa")) rsa();
        else if (!strcmp(name, "base64") || !strcmp(name, "hex") || !strcmp(name, "percent")) encode(name);
        else if (!strcmp(name, "collect")) add(&second, buffer.at, buffer.len);
        else if (!strcmp(name, "collected")) {
            set(&buffer, second.at, second.len);
            second.len = 0;
        } else if (!strcmp(name, "http")) http(value);
        else if (!strcmp(name, "open")) open_connection(value);
        else if (!strcmp(name, "send")) {
            if (SSL_write(ssl, buffer.at, (int)buffer.len) != (int)buffer.len) die("SSL_write");
        } else if (!strcmp(name, "burn")) burn(strtol(value, NULL, 10));
        else if (!strcmp(name, "time")) {
            long count = strtol(value, &value, 10);
            take_time(count, (size_t)strtol(value + 1, NULL, 10));
        } else if (!strcmp(name, "line")) {
            char line[8];
            puts("waiting");
            fflush(stdout);
            if (!fgets(line, sizeof line, stdin)) die("line");
        } else if (!strcmp(name, "pause")) {
            usleep((useconds_t)strtol(value, NULL, 10) * 1000);
        } else {
            die(name);
        }
    }
    printf("pid=%d\n", getpid());
    return 0;
}
