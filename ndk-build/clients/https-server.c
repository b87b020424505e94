/*
 * An HTTPS server that answers browsers over HTTP/1.1 or HTTP/2, whichever it was told to speak: the other end for tests
 * with programs that carry their own TLS.
 *
 * Whatever is asked gets the same small page. Over HTTP/2 it reads no header: it answers each stream once the client has
 * ended it. Its first line is `port=N`. Certificate and key are made at start and never written anywhere. It ends with its
 * standard input, so that it cannot outlive whoever started it.
 *
 *   https-server http/1.1|h2 PAGE       PAGE is what it answers with, as HTML
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

static SSL_CTX *context;
static const char *protocol, *page;

static void die(const char *what) {
    fprintf(stderr, "https-server: %s: %s\n", what, errno ? strerror(errno) : "failed");
    ERR_print_errors_fp(stderr);
    exit(1);
}

/* A self-signed certificate for localhost and a fresh key, valid for a day. */
static void make_identity(void) {
    EVP_PKEY *key = EVP_RSA_gen(2048);
    X509 *certificate = X509_new();
    X509_NAME *name = X509_NAME_new();
    X509_EXTENSION *names = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1");
    if (!key || !certificate || !name || !names ||
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"localhost", -1, -1, 0) != 1 ||
        X509_set_version(certificate, 2) != 1 || ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1) != 1 ||
        !X509_gmtime_adj(X509_getm_notBefore(certificate), -3600) ||
        !X509_gmtime_adj(X509_getm_notAfter(certificate), 86400) || X509_set_subject_name(certificate, name) != 1 ||
        X509_set_issuer_name(certificate, name) != 1 || X509_set_pubkey(certificate, key) != 1 ||
        X509_add_ext(certificate, names, -1) != 1 || X509_sign(certificate, key, EVP_sha256()) == 0)
        die("certificate");
    if (SSL_CTX_use_certificate(context, certificate) != 1 || SSL_CTX_use_PrivateKey(context, key) != 1)
        die("identity");
    X509_EXTENSION_free(names);
    X509_NAME_free(name);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

static int choose(SSL *ssl, const unsigned char **out, unsigned char *out_length, const unsigned char *in,
                  unsigned int length, void *unused) {
    (void)ssl;
    (void)unused;
    for (unsigned int at = 0; at < length && at + 1 + in[at] <= length; at += 1 + in[at]) {
        if (in[at] == strlen(protocol) && !memcmp(in + at + 1, protocol, in[at])) {
            *out = in + at + 1;
            *out_length = in[at];
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_NOACK;
}

/* Reads exactly so many bytes; 0 when there are no more. */
static int all(SSL *ssl, unsigned char *to, size_t length) {
    while (length > 0) {
        int count = SSL_read(ssl, to, length > 65536 ? 65536 : (int)length);
        if (count <= 0) return 0;
        to += count;
        length -= (size_t)count;
    }
    return 1;
}

static int put(SSL *ssl, const void *bytes, size_t length) {
    return SSL_write(ssl, bytes, (int)length) == (int)length;
}

/* A request's head, then as many bytes as it says, then the page; over and over. */
static void serve_http1(SSL *ssl) {
    char head[65536];
    for (;;) {
        size_t length = 0;
        while (length < 4 || memcmp(head + length - 4, "\r\n\r\n", 4)) {
            if (length + 1 >= sizeof head || !all(ssl, (unsigned char *)head + length, 1)) return;
            length++;
        }
        head[length] = 0;
        const char *announced = strcasestr(head, "\r\ncontent-length:");
        unsigned char byte;
        for (unsigned long left = announced ? strtoul(announced + 17, NULL, 10) : 0; left > 0; left--)
            if (!all(ssl, &byte, 1)) return;
        char answer[8192];
        int count = snprintf(answer, sizeof answer,
                             "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nCache-Control: no-store\r\nContent-Length: %zu\r\n\r\n%s",
                             strlen(page), page);
        if (count <= 0 || (size_t)count >= sizeof answer || !put(ssl, answer, (size_t)count)) return;
    }
}

/* RFC 9113, section 4.1. */
static int put_frame(SSL *ssl, unsigned char kind, unsigned char flags, unsigned int stream, const void *bytes,
                     size_t length) {
    unsigned char frame[9 + 8192] = {(unsigned char)(length >> 16), (unsigned char)(length >> 8), (unsigned char)length, kind,
                                     flags, (unsigned char)(stream >> 24), (unsigned char)(stream >> 16),
                                     (unsigned char)(stream >> 8), (unsigned char)stream};
    if (length > sizeof frame - 9) return 0;
    if (length > 0) memcpy(frame + 9, bytes, length);
    return put(ssl, frame, 9 + length);
}

static void serve_http2(SSL *ssl) {
    enum { DATA = 0, HEADERS = 1, SETTINGS = 4, PING = 6, END_STREAM = 1, ACK = 1, END_HEADERS = 4 };
    /* ":status: 200" of the static table; "content-type: text/html", its name indexed, its value as it is (RFC 7541). */
    static const unsigned char fields[] = "\x88\x0f\x10\x09text/html";
    unsigned char preface[24], header[9];
    static __thread unsigned char payload[1 << 20];
    if (!all(ssl, preface, sizeof preface) || memcmp(preface, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24)) return;
    if (!put_frame(ssl, SETTINGS, 0, 0, NULL, 0)) return;
    while (all(ssl, header, sizeof header)) {
        size_t length = (size_t)header[0] << 16 | (size_t)header[1] << 8 | header[2];
        unsigned int stream = (header[5] & 0x7fU) << 24 | (unsigned int)header[6] << 16 | (unsigned int)header[7] << 8 | header[8];
        if (length > sizeof payload || !all(ssl, payload, length)) return;
        int fine = 1;
        if (header[3] == SETTINGS && !(header[4] & ACK)) fine = put_frame(ssl, SETTINGS, ACK, 0, NULL, 0);
        if (header[3] == PING && !(header[4] & ACK)) fine = put_frame(ssl, PING, ACK, 0, payload, length);
        if ((header[3] == HEADERS || header[3] == DATA) && header[4] & END_STREAM)
            fine = put_frame(ssl, HEADERS, END_HEADERS, stream, fields, sizeof fields - 1) &&
                   put_frame(ssl, DATA, END_STREAM, stream, page, strlen(page));
        if (!fine) return;
    }
}

static void *serve(void *argument) {
    int fd = (int)(long)argument;
    SSL *ssl = SSL_new(context);
    if (!ssl || SSL_set_fd(ssl, fd) != 1) die("connection");
    if (SSL_accept(ssl) == 1) {
        if (strcmp(protocol, "h2"))
            serve_http1(ssl);
        else
            serve_http2(ssl);
        SSL_shutdown(ssl);
    }
    SSL_free(ssl);
    close(fd);
    return NULL;
}

static void *end_with_standard_input(void *unused) {
    char byte;
    (void)unused;
    while (read(0, &byte, 1) > 0) {
    }
    exit(0);
}

int main(int argc, char **argv) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (argc != 3 || strlen(argv[2]) > 4096) {
        fprintf(stderr, "usage: https-server http/1.1|h2 PAGE\n");
        return 2;
    }
    protocol = argv[1];
    page = argv[2];
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGPIPE, SIG_IGN);
    context = SSL_CTX_new(TLS_server_method());
    if (!context) die("SSL_CTX_new");
    SSL_CTX_set_alpn_select_cb(context, choose, NULL);
    make_identity();

    socklen_t length = sizeof here;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 64) ||
        getsockname(listener, (struct sockaddr *)&here, &length))
        die("listen");
    printf("port=%d\n", ntohs(here.sin_port));

    pthread_t thread;
    if (pthread_create(&thread, NULL, end_with_standard_input, NULL)) die("thread");
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EINTR || errno == ECONNABORTED) continue;
            die("accept");
        }
        if (pthread_create(&thread, NULL, serve, (void *)(long)fd)) die("thread");
        pthread_detach(thread);
    }
}
