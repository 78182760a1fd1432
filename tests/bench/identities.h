// Who the clients of a secure wire are: certificates with their keys, one after the other.
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#define MAX_IDENTITIES 20000

static X509 *certificates[MAX_IDENTITIES];
static EVP_PKEY *keys[MAX_IDENTITIES];
static int identity_count;

// The file has each certificate with its key after it, in PEM.
static void read_identities(const char *path) {
    BIO *file = BIO_new_file(path, "r");
    if (!file)
        fail("CERTS cannot be opened");
    while (identity_count < MAX_IDENTITIES) {
        X509 *certificate = PEM_read_bio_X509(file, NULL, NULL, NULL);
        if (!certificate)
            break;
        certificates[identity_count] = certificate;
        keys[identity_count] = PEM_read_bio_PrivateKey(file, NULL, NULL, NULL);
        if (!keys[identity_count++])
            fail("a certificate in CERTS has no key after it");
    }
    ERR_clear_error();
    BIO_free(file);
    if (!identity_count)
        fail("CERTS has no certificate");
}

static void use_identity(SSL *ssl, long number) {
    if (identity_count && (!SSL_use_certificate(ssl, certificates[number % identity_count]) ||
                           !SSL_use_PrivateKey(ssl, keys[number % identity_count])))
        fail("a certificate cannot be used");
}
