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
#include "tls-server.h"

#include <openssl/x509v3.h>
#include <strings.h>

static const char *protocol, *page;

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

int main(int argc, char **argv) {
    if (argc != 3 || strlen(argv[2]) > 4096) {
        fprintf(stderr, "usage: https-server http/1.1|h2 PAGE\n");
        return 2;
    }
    protocol = argv[1];
    page = argv[2];
    X509_EXTENSION *names = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1");
    if (!names) die("names");
    make_context(names);
    X509_EXTENSION_free(names);
    SSL_CTX_set_alpn_select_cb(context, choose, NULL);
    serve_each((struct in_addr){.s_addr = htonl(INADDR_LOOPBACK)}, serve);
}
