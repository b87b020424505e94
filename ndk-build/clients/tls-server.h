/*
 * What the TLS servers of the tests share: an identity made at start and never written anywhere, a listener that says its
 * port in the first line, a thread for each connection, and an end with standard input, so that none outlives whoever
 * started it.
 */
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

static void die(const char *what) {
    fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, errno ? strerror(errno) : "failed");
    ERR_print_errors_fp(stderr);
    exit(1);
}

/* A self-signed certificate for a fresh key, valid for a day; for these names, unless NULL. */
static void make_identity(X509_EXTENSION *names) {
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *maker = EVP_PKEY_CTX_new_id(EVP_PKEY_RSA, NULL);
    if (!maker || EVP_PKEY_keygen_init(maker) != 1 || EVP_PKEY_CTX_set_rsa_keygen_bits(maker, 2048) != 1 ||
        EVP_PKEY_keygen(maker, &key) != 1)
        die("key");
    X509 *certificate = X509_new();
    X509_NAME *name = X509_NAME_new();
    if (!certificate || !name ||
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"localhost", -1, -1, 0) != 1 ||
        X509_set_version(certificate, 2) != 1 || ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1) != 1 ||
        !X509_gmtime_adj(X509_getm_notBefore(certificate), -3600) ||
        !X509_gmtime_adj(X509_getm_notAfter(certificate), 86400) || X509_set_subject_name(certificate, name) != 1 ||
        X509_set_issuer_name(certificate, name) != 1 || X509_set_pubkey(certificate, key) != 1 ||
        (names && X509_add_ext(certificate, names, -1) != 1) || X509_sign(certificate, key, EVP_sha256()) == 0)
        die("certificate");
    if (SSL_CTX_use_certificate(context, certificate) != 1 || SSL_CTX_use_PrivateKey(context, key) != 1)
        die("identity");
    X509_NAME_free(name);
    X509_free(certificate);
    EVP_PKEY_free(key);
    EVP_PKEY_CTX_free(maker);
}

/* Makes `context`, with an identity for these names. */
static void make_context(X509_EXTENSION *names) {
    signal(SIGPIPE, SIG_IGN);
    context = SSL_CTX_new(TLS_server_method());
    if (!context) die("SSL_CTX_new");
    make_identity(names);
}

static void *end_with_standard_input(void *unused) {
    char byte;
    (void)unused;
    while (read(0, &byte, 1) > 0) {
    }
    exit(0);
}

/* Listens on any free port of this address, says which, and serves each connection in a thread: `serve` is given its descriptor. */
static void serve_each(struct in_addr address, void *(*serve)(void *)) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr = address};
    socklen_t length = sizeof here;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 64) ||
        getsockname(listener, (struct sockaddr *)&here, &length))
        die("listen");
    setvbuf(stdout, NULL, _IOLBF, 0);
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
