/* Programs with an SSL of their own, and TLSA records that are handed in. usage: own_ssl_dane CERTS_DIR */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <openssl/evp.h>

#include "tls_server.h"
#include "tlsa.h"

#define HOST "mail.example.test"
#define VERSION OPENSSL_VERSION_NUMBER

static starttls_error *error;
static char ca[600];

static starttls_policy *policy_of(const char *level) {
    starttls_policy *policy = starttls_policy_new(level, &error);
    starttls_policy_set_ca_file(policy, ca, &error);
    NONE(error);
    return policy;
}

/* With a record 3 1 1, or of another usage, of this certificate. */
static starttls_policy *with_record(const char *level, const char *proof, unsigned int usage, const char *of) {
    starttls_policy *policy = policy_of(level);
    unsigned char sha256[32];
    if (of != NULL) {
        tlsa_of(server_certs, of, sha256);
        starttls_policy_add_tlsa(policy, usage, 1, 1, sha256, sizeof sha256, &error);
    }
    if (proof != NULL)
        starttls_policy_set_tlsa_proof(policy, proof, &error);
    NONE(error);
    return policy;
}

static SSL_CTX *prepared_ctx(void) {
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    CHECK(starttls_prepare_ctx(ctx, VERSION, &error));
    NONE(error);
    return ctx;
}

static bool shakes_hands(SSL *ssl, const struct server *server) {
    SSL_set_fd(ssl, dial(server->port));
    return SSL_connect(ssl) == 1;
}

static void end(SSL *ssl) {
    close(SSL_get_fd(ssl));
    SSL_free(ssl);
}

static bool echoes(SSL *ssl) {
    char back[16];
    return SSL_write(ssl, "hello", 5) == 5 && SSL_read(ssl, back, sizeof back) == 5;
}

static void verdicts(int version) {
    static const struct {
        const char *certificate, *level, *proof, *record;
        unsigned int usage;
        const char *word, *identity, *effective;
    } cases[] = {
        {"self-signed", "dane", "secure", "self-signed", 3, NULL, "dane", "dane"},
        {"self-signed", "dane-only", "secure", "self-signed", 3, NULL, "dane", "dane"},
        {"wrong-name", "opportunistic", "secure", "wrong-name", 3, NULL, "dane", "dane"},
        {"expired", "strict", "secure", "expired", 3, NULL, "dane", "dane"},
        {"good", "dane", "secure", "self-signed", 3, "dane-mismatch", NULL, "dane"},
        {"good", "strict", "secure", "self-signed", 3, "dane-mismatch", NULL, "dane"},
        /* A CA of the domain's own choice, which the server must send: a digest does not hold it. */
        {"via-intermediate", "dane-only", "secure", "intermediate", 2, NULL, "dane", "dane"},
        {"no-intermediate", "dane-only", "secure", "intermediate", 2, "dane-mismatch", NULL, "dane"},
        {"wrong-name", "dane", "secure", "intermediate", 2, "dane-mismatch", NULL, "dane"},
        /* None can be used. */
        {"unknown-ca", "dane", "secure", "unknown-ca", 1, NULL, NULL, "encrypt"},
        {"unknown-ca", "strict", "secure", "unknown-ca", 1, "untrusted", NULL, "verify"},
        /* None, or not proven. */
        {"unknown-ca", "dane", "secure", NULL, 0, NULL, NULL, "may"},
        {"unknown-ca", "opportunistic", "insecure", "good", 3, NULL, NULL, "may"},
        {"good", "strict", "insecure", "self-signed", 3, NULL, "pkix", "verify"},
        {"unknown-ca", "strict", NULL, NULL, 0, "untrusted", NULL, "verify"},
    };
    size_t i;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct server server = server_of(cases[i].certificate, version);
        starttls_policy *policy =
            with_record(cases[i].level, cases[i].proof, cases[i].usage, cases[i].record);
        SSL_CTX *ctx = prepared_ctx();
        SSL *ssl = SSL_new(ctx);
        starttls_outcome *outcome;
        const starttls_outcome *told;
        CHECK(starttls_prepare(policy, "smtp", HOST, ssl, VERSION, &error));
        NONE(error);
        starttls_policy_free(policy);
        if (!CHECK(shakes_hands(ssl, &server) == (cases[i].word == NULL)))
            fprintf(stderr, "    %s at %s\n", cases[i].certificate, cases[i].level);
        outcome = starttls_check(ssl, VERSION, &error);
        told = outcome ? outcome : starttls_error_outcome(error);
        CHECK(same(starttls_outcome_effective(told), cases[i].effective));
        if (cases[i].word == NULL) {
            NONE(error);
            CHECK(echoes(ssl));
            CHECK(cases[i].identity ? same(starttls_outcome_identity(outcome), cases[i].identity)
                                    : starttls_outcome_identity(outcome) == NULL);
        } else {
            FAILS(error, cases[i].word);
        }
        starttls_outcome_free(outcome);
        end(ssl);
        SSL_CTX_free(ctx);
        server_end(server);
    }
}

/* What no handshake could mend is said before it. */
static void refused(void) {
    static const struct {
        const char *level, *proof, *record, *host, *word;
        unsigned int usage;
    } cases[] = {
        {"dane", NULL, NULL, HOST, "invalid", 0},
        {"dane-only", NULL, NULL, HOST, "invalid", 0},
        {"dane", NULL, "good", HOST, "invalid", 3},
        {"verify", "secure", "good", HOST, "invalid", 3},
        {"dane-only", "secure", NULL, HOST, "no-dane", 0},
        {"dane-only", "insecure", "good", HOST, "no-dane", 3},
        {"dane-only", "secure", "good", HOST, "no-dane", 0},
        {"dane-only", NULL, NULL, "127.0.0.1", "no-dane", 0},
        {"dane", "failed", NULL, HOST, "lookup-failed", 0},
        {"opportunistic", "bogus", "good", HOST, "dns-bogus", 3},
    };
    SSL_CTX *ctx = prepared_ctx();
    size_t i;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        starttls_policy *policy =
            with_record(cases[i].level, cases[i].proof, cases[i].usage, cases[i].record);
        SSL *ssl = SSL_new(ctx);
        CHECK(!starttls_prepare(policy, "smtp", cases[i].host, ssl, VERSION, &error));
        FAILS(error, cases[i].word);
        CHECK(!starttls_check(ssl, VERSION, &error)); /* it was not prepared */
        FAILS(error, "invalid");
        SSL_free(ssl);
        starttls_policy_free(policy);
    }
    SSL_CTX_free(ctx);
}

/* An SSL has its records for good. */
static void twice(int version) {
    struct server server = server_of("self-signed", version), other = server_of("good", version);
    starttls_policy *policy = with_record("dane-only", "secure", 3, "self-signed"), *verify = policy_of("verify");
    SSL_CTX *ctx = prepared_ctx();
    SSL *ssl = SSL_new(ctx);
    starttls_outcome *outcome;
    int i;
    CHECK(starttls_prepare(policy, "smtp", HOST, ssl, VERSION, &error));
    NONE(error);
    CHECK(!starttls_prepare(policy, "smtp", HOST, ssl, VERSION, &error));
    FAILS(error, "invalid");
    /* The first time is what counts; and after SSL_clear it still does. */
    for (i = 0; i < 2; i++) {
        CHECK(shakes_hands(ssl, &server) && echoes(ssl));
        outcome = starttls_check(ssl, VERSION, &error);
        NONE(error);
        CHECK(same(starttls_outcome_identity(outcome), "dane"));
        starttls_outcome_free(outcome);
        SSL_shutdown(ssl);
        close(SSL_get_fd(ssl));
        CHECK(SSL_clear(ssl) == 1);
    }
    SSL_set_session(ssl, NULL);
    CHECK(!shakes_hands(ssl, &other));
    CHECK(!starttls_check(ssl, VERSION, &error));
    FAILS(error, "dane-mismatch");
    close(SSL_get_fd(ssl));
    CHECK(SSL_clear(ssl) == 1);
    SSL_set_session(ssl, NULL);
    /* For a policy without records they count for nothing. */
    CHECK(starttls_prepare(verify, "smtp", HOST, ssl, VERSION, &error));
    NONE(error);
    CHECK(!shakes_hands(ssl, &server));
    CHECK(!starttls_check(ssl, VERSION, &error));
    FAILS(error, "untrusted");
    end(ssl);
    SSL_CTX_free(ctx);
    starttls_policy_free(policy);
    starttls_policy_free(verify);
    server_end(server);
    server_end(other);
}

/* Records that the program puts into its SSL itself are not the policy's. */
static void records_of_others(int version) {
    struct server server = server_of("self-signed", version);
    starttls_policy *verify = policy_of("verify");
    unsigned char sha256[32];
    SSL_CTX *ctx = prepared_ctx();
    int before;
    tlsa_of(server_certs, "self-signed", sha256);
    for (before = 0; before < 2; before++) {
        SSL *ssl = SSL_new(ctx);
        if (!before)
            CHECK(starttls_prepare(verify, "smtp", HOST, ssl, VERSION, &error));
        CHECK(SSL_dane_enable(ssl, HOST) == 1);
        CHECK(SSL_dane_tlsa_add(ssl, 3, 1, 1, sha256, sizeof sha256) == 1);
        if (before)
            CHECK(starttls_prepare(verify, "smtp", HOST, ssl, VERSION, &error));
        NONE(error);
        CHECK(!shakes_hands(ssl, &server));
        CHECK(!starttls_check(ssl, VERSION, &error));
        FAILS(error, "untrusted");
        end(ssl);
    }
    /* One that is not prepared does DANE as before. */
    {
        SSL *ssl = SSL_new(ctx);
        CHECK(SSL_dane_enable(ssl, HOST) == 1);
        CHECK(SSL_dane_tlsa_add(ssl, 3, 1, 1, sha256, sizeof sha256) == 1);
        SSL_set_verify(ssl, SSL_VERIFY_PEER, NULL);
        CHECK(shakes_hands(ssl, &server) && SSL_get_verify_result(ssl) == X509_V_OK);
        end(ssl);
    }
    SSL_CTX_free(ctx);
    starttls_policy_free(verify);
    server_end(server);
}

int main(int argc, char **argv) {
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    int i;
    if (argc != 2)
        return 2;
    server_certs = argv[1];
    snprintf(ca, sizeof ca, "%s/ca.crt", argv[1]);
    for (i = 0; i < 2; i++) {
        verdicts(versions[i]);
        twice(versions[i]);
        records_of_others(versions[i]);
    }
    refused();
    return checks_report();
}
