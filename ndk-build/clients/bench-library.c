/* A TLS library that encrypts nothing: as many connections as are wanted, at the cost of the hooks on them alone. */
int SSL_set_tlsext_host_name(const void *ssl, const char *name) { return ssl != 0 && name != 0; }
int SSL_write(const void *ssl, const void *bytes, int length) { return ssl != 0 && bytes != 0 ? length : -1; }
void SSL_free(const void *ssl) { (void)ssl; }
