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
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static SSL_CTX *context;
static int answers;

static void die(const char *what) {
    fprintf(stderr, "tls-collector: %s: %s\n", what, errno ? strerror(errno) : "failed");
    ERR_print_errors_fp(stderr);
    exit(1);
}

/* A self-signed certificate for a fresh key, valid for a day. */
static void make_identity(void) {
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *maker = EVP_PKEY_CTX_new_id(EVP_PKEY_RSA, NULL);
    if (!maker || EVP_PKEY_keygen_init(maker) != 1 || EVP_PKEY_CTX_set_rsa_keygen_bits(maker, 2048) != 1 ||
        EVP_PKEY_keygen(maker, &key) != 1)
        die("key");
    X509 *certificate = X509_new();
    X509_NAME *name = X509_NAME_new();
    if (!certificate || !name ||
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"throwaway collector", -1, -1, 0) != 1 ||
        X509_set_version(certificate, 2) != 1 || ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1) != 1 ||
        !X509_gmtime_adj(X509_getm_notBefore(certificate), -3600) ||
        !X509_gmtime_adj(X509_getm_notAfter(certificate), 86400) || X509_set_subject_name(certificate, name) != 1 ||
        X509_set_issuer_name(certificate, name) != 1 || X509_set_pubkey(certificate, key) != 1 ||
        X509_sign(certificate, key, EVP_sha256()) == 0)
        die("certificate");
    if (SSL_CTX_use_certificate(context, certificate) != 1 || SSL_CTX_use_PrivateKey(context, key) != 1)
        die("identity");
    X509_NAME_free(name);
    X509_free(certificate);
    EVP_PKEY_free(key);
    EVP_PKEY_CTX_free(maker);
}

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

static void *end_with_standard_input(void *unused) {
    char byte;
    (void)unused;
    while (read(0, &byte, 1) > 0) {
    }
    exit(0);
}

int main(int argc, char **argv) {
    struct sockaddr_in here = {.sin_family = AF_INET};
    answers = argc == 3 && !strcmp(argv[2], "--answer");
    if (argc != 2 + answers || inet_pton(AF_INET, argv[1], &here.sin_addr) != 1) {
        fprintf(stderr, "usage: tls-collector ADDR [--answer]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGPIPE, SIG_IGN);
    context = SSL_CTX_new(TLS_server_method());
    if (!context) die("SSL_CTX_new");
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
