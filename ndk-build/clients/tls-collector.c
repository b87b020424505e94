/*
 * A TLS server that takes whatever clients send and says what it took: the other end for the demo and the live tests.
 *
 * It knows nothing of Telltale, so that what it reports is independent evidence: for each connection, when the client
 * has closed it, one line `sni=NAME bytes=N sha256=HEX`. Its first line is `port=N`. Certificate and key are made at
 * start and never written anywhere. It ends with its standard input, so that it cannot outlive whoever started it.
 *
 *   tls-collector ADDR [--answer]   listens on ADDR (IPv4), any free port
 *     --answer   answers each HTTP request with an empty 200 instead, and reports nothing
 */
#define _GNU_SOURCE
#include "tls-server.h"

static int answers;

/* Answers requests until the client goes; a body's length is taken from Content-Length alone. */
static void answer_requests(SSL *ssl) {
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    static __thread char bytes[1 << 16];
    size_t held = 0;
    unsigned long long body = 0;
    for (;;) {
        if (body == 0) {
            bytes[held] = 0;
            char *end = strstr(bytes, "\r\n\r\n");
            if (end) {
                const char *length = strcasestr(bytes, "\r\nContent-Length:");
                body = length && length < end ? strtoull(length + 17, NULL, 10) : 0;
                size_t head = (size_t)(end + 4 - bytes), have = held - head;
                if (have > body) have = (size_t)body;
                memmove(bytes, bytes + head + have, held - head - have);
                held -= head + have;
                body -= have;
                if (body == 0 && SSL_write(ssl, answer, sizeof answer - 1) <= 0) return;
                continue;
            }
            if (held == sizeof bytes - 1) return;
            int count = SSL_read(ssl, bytes + held, (int)(sizeof bytes - 1 - held));
            if (count <= 0) return;
            held += (size_t)count;
        } else {
            size_t most = body < sizeof bytes ? (size_t)body : sizeof bytes;
            int count = SSL_read(ssl, bytes, (int)most);
            if (count <= 0) return;
            body -= (unsigned long long)count;
            if (body == 0 && SSL_write(ssl, answer, sizeof answer - 1) <= 0) return;
        }
    }
}

static void *serve(void *argument) {
    int fd = (int)(long)argument;
    SSL *ssl = SSL_new(context);
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    if (!ssl || !digest || SSL_set_fd(ssl, fd) != 1 || EVP_DigestInit_ex(digest, EVP_sha256(), NULL) != 1) die("connection");
    if (SSL_accept(ssl) == 1 && answers) {
        answer_requests(ssl);
        SSL_shutdown(ssl);
    } else if (SSL_is_init_finished(ssl)) {
        const char *sni = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
        static __thread unsigned char bytes[1 << 16];
        unsigned long long total = 0;
        for (int count; (count = SSL_read(ssl, bytes, sizeof bytes)) > 0; total += (unsigned long long)count)
            EVP_DigestUpdate(digest, bytes, (size_t)count);
        unsigned char sum[EVP_MAX_MD_SIZE];
        unsigned int length = 0;
        EVP_DigestFinal_ex(digest, sum, &length);
        char hex[2 * EVP_MAX_MD_SIZE + 1] = "";
        for (unsigned int i = 0; i < length; i++) sprintf(hex + 2 * i, "%02x", sum[i]);
        printf("sni=%s bytes=%llu sha256=%s\n", sni ? sni : "", total, hex);
        SSL_shutdown(ssl);
    } else {
        fprintf(stderr, "tls-collector: a handshake failed\n");
    }
    EVP_MD_CTX_free(digest);
    SSL_free(ssl);
    close(fd);
    return NULL;
}

int main(int argc, char **argv) {
    struct in_addr here;
    answers = argc == 3 && !strcmp(argv[2], "--answer");
    if (argc != 2 + answers || inet_pton(AF_INET, argv[1], &here) != 1) {
        fprintf(stderr, "usage: tls-collector ADDR [--answer]\n");
        return 2;
    }
    make_context(NULL);
    serve_each(here, serve);
}
