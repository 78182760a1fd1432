// Keys on P-256, each another one, on standard output:
//   requests N      a signing request for each, in PEM, a line each: its line breaks as in JSON
//   certificates N  a certificate for each, signed by itself, and the key after it, in PEM
// build: cc -O2 -o keys keys.c -lcrypto
// run:   ./keys requests 1000
#include "machine.h"

#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

static void put_name(X509_NAME *name, int number) {
    char text[32];
    sprintf(text, "bench-%d", number);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (unsigned char *)text, -1, -1, 0);
}

static void put_request(EVP_PKEY *key, int number, BIO *out) {
    X509_REQ *request = X509_REQ_new();
    char *text;
    put_name(X509_REQ_get_subject_name(request), number);
    X509_REQ_set_pubkey(request, key);
    X509_REQ_sign(request, key, EVP_sha256());
    BIO *pem = BIO_new(BIO_s_mem());
    PEM_write_bio_X509_REQ(pem, request);
    long length = BIO_get_mem_data(pem, &text);
    for (long i = 0; i < length; i++)
        text[i] == '\n' ? BIO_puts(out, "\\n") : BIO_write(out, text + i, 1);
    BIO_puts(out, "\n");
    BIO_free(pem);
    X509_REQ_free(request);
}

static void put_certificate(EVP_PKEY *key, int number, BIO *out) {
    X509 *certificate = X509_new();
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), number + 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 86400);
    put_name(X509_get_subject_name(certificate), number);
    X509_set_issuer_name(certificate, X509_get_subject_name(certificate));
    X509_set_pubkey(certificate, key);
    X509_sign(certificate, key, EVP_sha256());
    PEM_write_bio_X509(out, certificate);
    PEM_write_bio_PrivateKey(out, key, NULL, NULL, 0, NULL, NULL);
    X509_free(certificate);
}

int main(int argc, char **argv) {
    if (argc != 3)
        fail("usage: keys requests|certificates N");
    int requests = !strcmp(argv[1], "requests");
    BIO *buffer = BIO_new(BIO_f_buffer()), *out = BIO_push(buffer, BIO_new_fp(stdout, BIO_NOCLOSE));
    for (int i = 0; i < atoi(argv[2]); i++) {
        EVP_PKEY *key = EVP_EC_gen("P-256");
        requests ? put_request(key, i, out) : put_certificate(key, i, out);
        EVP_PKEY_free(key);
    }
    BIO_flush(out);
    return 0;
}
