/* Both ends of a TLS connection with a pre-shared key, which spares the certificate. */
#include <openssl/ssl.h>
#include <string.h>

static const unsigned char psk[16] = {1, 2, 3};

static unsigned client_psk(SSL *ssl, const char *hint, char *identity, unsigned identity_room, unsigned char *out,
                           unsigned room) {
    (void)ssl, (void)hint;
    if (room < sizeof psk || identity_room < 5) return 0;
    memcpy(identity, "test", 5);
    memcpy(out, psk, sizeof psk);
    return sizeof psk;
}

static unsigned server_psk(SSL *ssl, const char *identity, unsigned char *out, unsigned room) {
    (void)ssl, (void)identity;
    if (room < sizeof psk) return 0;
    memcpy(out, psk, sizeof psk);
    return sizeof psk;
}

/* Makes the contexts of both ends; 0 when the library does not know the cipher. */
static int psk_contexts(SSL_CTX **client, SSL_CTX **server, const char *cipher) {
    SSL_CTX *both[] = {*client = SSL_CTX_new(TLS_method()), *server = SSL_CTX_new(TLS_method())};
    for (int i = 0; i < 2; i++) {
        if (!both[i] || !SSL_CTX_set_max_proto_version(both[i], TLS1_2_VERSION) ||
            !SSL_CTX_set_cipher_list(both[i], cipher))
            return 0;
        SSL_CTX_set_mode(both[i], SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    }
    SSL_CTX_set_psk_client_callback(*client, client_psk);
    SSL_CTX_set_psk_server_callback(*server, server_psk);
    return 1;
}

/* Both ends in this thread, over whatever lies between them; 0 when they do not come together. */
static int psk_handshake(SSL *client, SSL *server) {
    SSL_set_connect_state(client);
    SSL_set_accept_state(server);
    for (int i = 0; i < 100; i++) {
        int one = SSL_do_handshake(client), other = SSL_do_handshake(server);
        if (one == 1 && other == 1) return 1;
    }
    return 0;
}
