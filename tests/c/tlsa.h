/* TLSA records of the tests' certificates, by OpenSSL. */
#ifndef TLSA_H
#define TLSA_H

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>

/* The SHA-256 of the public key in DIRECTORY/NAME.crt: the data of `3 1 1` and `2 1 1`. */
static void tlsa_of(const char *directory, const char *name, unsigned char sha256[32]) {
    char path[600];
    unsigned char *der = NULL;
    unsigned int n = 0;
    int length;
    FILE *file;
    X509 *certificate;
    snprintf(path, sizeof path, "%s/%s.crt", directory, name);
    file = fopen(path, "r");
    certificate = PEM_read_X509(file, NULL, NULL, NULL);
    fclose(file);
    length = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der);
    if (length <= 0 || EVP_Digest(der, (size_t)length, sha256, &n, EVP_sha256(), NULL) != 1)
        abort();
    OPENSSL_free(der);
    X509_free(certificate);
}

#endif
