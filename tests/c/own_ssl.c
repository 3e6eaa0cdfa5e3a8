/* Programs with an SSL of their own: what starttls_prepare makes of it, and what starttls_check says.
 * usage: own_ssl CERTS_DIR */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <signal.h>

#include "tls_server.h"

#define HOST "mail.example.test"
#define VERSION OPENSSL_VERSION_NUMBER

static starttls_error *error;
static char ca[600];

/* --- clients -------------------------------------------------------------------------------------- */

static starttls_policy *policy_of(const char *level) {
    starttls_policy *policy = starttls_policy_new(level, &error);
    starttls_policy_set_ca_file(policy, ca, &error);
    NONE(error);
    return policy;
}

static SSL_CTX *prepared_ctx(void) {
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    CHECK(starttls_prepare_ctx(ctx, VERSION, &error));
    NONE(error);
    return ctx;
}

static SSL *prepared(SSL_CTX *ctx, const starttls_policy *policy, const char *name) {
    SSL *ssl = SSL_new(ctx);
    CHECK(starttls_prepare(policy, "smtp", name, ssl, VERSION, &error));
    NONE(error);
    return ssl;
}

/* The handshake alone, as those do who forget starttls_check. */
static bool shakes_hands(SSL *ssl, const struct server *server) {
    SSL_set_fd(ssl, dial(server->port));
    return SSL_connect(ssl) == 1;
}

static bool echoes(SSL *ssl) {
    char back[16];
    return SSL_write(ssl, "hello", 5) == 5 && SSL_read(ssl, back, sizeof back) == 5;
}

static void end(SSL *ssl) {
    close(SSL_get_fd(ssl));
    SSL_free(ssl);
}

static void fingerprint(starttls_policy *policy, const char *name) {
    unsigned char sha256[32];
    unsigned int n = 0;
    char path[600], hex[65];
    int i;
    FILE *file;
    X509 *certificate;
    snprintf(path, sizeof path, "%s/%s.crt", server_certs, name);
    file = fopen(path, "r");
    certificate = PEM_read_X509(file, NULL, NULL, NULL);
    fclose(file);
    CHECK(X509_digest(certificate, EVP_sha256(), sha256, &n) == 1);
    X509_free(certificate);
    for (i = 0; i < 32; i++)
        snprintf(hex + 2 * i, 3, "%02x", sha256[i]);
    CHECK(starttls_policy_add_fingerprint(policy, hex, &error));
}

static void verdicts(int version) {
    static const struct {
        const char *certificate, *level, *pin, *word, *identity;
    } cases[] = {
        {"good", "verify", NULL, NULL, "pkix"},
        {"good", "strict", NULL, NULL, "pkix"},
        {"via-intermediate", "verify", NULL, NULL, "pkix"},
        {"wildcard", "verify", NULL, NULL, "pkix"},
        {"unknown-ca", "verify", NULL, "untrusted", NULL},
        {"self-signed", "strict", NULL, "untrusted", NULL},
        {"no-intermediate", "verify", NULL, "untrusted", NULL},
        {"wrong-name", "verify", NULL, "name-mismatch", NULL},
        {"cn-only", "verify", NULL, "name-mismatch", NULL},
        {"expired", "verify", NULL, "expired", NULL},
        {"not-yet-valid", "strict", NULL, "expired", NULL},
        {"expired", "encrypt", NULL, NULL, NULL},
        {"unknown-ca", "may", NULL, NULL, NULL},
        {"self-signed", "fingerprint", "self-signed", NULL, "fingerprint"},
        {"good", "fingerprint", "self-signed", "fingerprint-mismatch", NULL},
    };
    size_t i;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct server server = server_of(cases[i].certificate, version);
        starttls_policy *policy = policy_of(cases[i].level);
        SSL_CTX *ctx = prepared_ctx();
        starttls_outcome *outcome;
        SSL *ssl;
        bool shaken;
        if (cases[i].pin)
            fingerprint(policy, cases[i].pin);
        ssl = prepared(ctx, policy, HOST);
        starttls_policy_free(policy); /* the SSL keeps what it needs */
        SSL_CTX_free(ctx);
        shaken = shakes_hands(ssl, &server);
        if (!CHECK(shaken == (cases[i].word == NULL)))
            fprintf(stderr, "    %s at %s\n", cases[i].certificate, cases[i].level);
        outcome = starttls_check(ssl, VERSION, &error);
        if (cases[i].word == NULL) {
            NONE(error);
            CHECK(echoes(ssl) && starttls_outcome_encrypted(outcome));
            CHECK(cases[i].identity ? same(starttls_outcome_identity(outcome), cases[i].identity)
                                    : starttls_outcome_identity(outcome) == NULL);
            CHECK(same(starttls_outcome_tls_version(outcome), SSL_get_version(ssl)));
            CHECK(strstr(starttls_outcome_json(outcome), "\"resumed\":false"));
        } else {
            CHECK(outcome == NULL && !starttls_error_temporary(error));
            CHECK(!starttls_outcome_encrypted(starttls_error_outcome(error)));
            CHECK(strstr(starttls_outcome_json(starttls_error_outcome(error)), "\"ok\":false"));
            FAILS(error, cases[i].word);
        }
        starttls_outcome_free(outcome);
        end(ssl);
        server_end(server);
    }
}

/* --- resumption would skip the checks ---------------------------------------------------------------- */

/* A session with this server, of an SSL that checks nothing or one that is prepared. */
static SSL_SESSION *session_with(SSL_CTX *ctx, const struct server *server, const starttls_policy *policy) {
    SSL *ssl = policy ? prepared(ctx, policy, HOST) : SSL_new(ctx);
    SSL_SESSION *session;
    if (policy == NULL)
        SSL_set_verify(ssl, SSL_VERIFY_NONE, NULL);
    CHECK(shakes_hands(ssl, server) && echoes(ssl)); /* tickets come with the first bytes read */
    session = SSL_get1_session(ssl);
    CHECK(SSL_SESSION_is_resumable(session));
    SSL_shutdown(ssl);
    end(ssl);
    return session;
}

static void sessions_of_others(int version) {
    static const char *const certificates[] = {"unknown-ca", "good"};
    int i, of_prepared;
    for (i = 0; i < 2; i++)
        for (of_prepared = 0; of_prepared < 2; of_prepared++) {
            struct server server = server_of(certificates[i], version);
            starttls_policy *policy = policy_of("verify"), *lax = policy_of("encrypt");
            SSL_CTX *ctx = prepared_ctx();
            SSL_SESSION *session = session_with(ctx, &server, of_prepared ? lax : NULL);
            SSL *ssl;

            /* It can be resumed, by who does not ask for anything. */
            ssl = SSL_new(ctx);
            SSL_set_verify(ssl, SSL_VERIFY_NONE, NULL);
            SSL_set_session(ssl, session);
            if (!of_prepared) /* those of a prepared one are good for no other */
                CHECK(shakes_hands(ssl, &server) && SSL_session_reused(ssl));
            SSL_shutdown(ssl); /* or SSL_free would spoil the session */
            end(ssl);

            /* Before: refused. */
            ssl = SSL_new(ctx);
            SSL_set_session(ssl, session);
            CHECK(!starttls_prepare(policy, "smtp", HOST, ssl, VERSION, &error));
            FAILS(error, "invalid");
            SSL_set_session(ssl, NULL);
            CHECK(starttls_prepare(policy, "smtp", HOST, ssl, VERSION, &error));
            NONE(error);
            CHECK(shakes_hands(ssl, &server) == (i == 1));
            end(ssl);

            /* Afterwards: it ends the handshake, whoever the peer is. */
            ssl = prepared(ctx, policy, HOST);
            SSL_set_session(ssl, session);
            CHECK(!shakes_hands(ssl, &server));
            CHECK(starttls_check(ssl, VERSION, &error) == NULL);
            FAILS(error, "handshake");
            end(ssl);

            SSL_SESSION_free(session);
            SSL_CTX_free(ctx);
            starttls_policy_free(policy);
            starttls_policy_free(lax);
            server_end(server);
        }
}

/* SSL_clear keeps what the SSL was prepared for. */
static void used_again(int version) {
    struct server good = server_of("good", version), bad = server_of("unknown-ca", version);
    starttls_policy *policy = policy_of("verify");
    SSL_CTX *ctx = prepared_ctx();
    SSL *ssl = prepared(ctx, policy, HOST);
    starttls_outcome *outcome;
    int i;
    for (i = 0; i < 2; i++) {
        /* The same server; it may resume what it has itself checked, and says so. */
        CHECK(shakes_hands(ssl, &good) && echoes(ssl));
        outcome = starttls_check(ssl, VERSION, &error);
        NONE(error);
        CHECK(same(starttls_outcome_identity(outcome), "pkix"));
        CHECK(outcome && strstr(starttls_outcome_json(outcome),
                                SSL_session_reused(ssl) ? "\"resumed\":true" : "\"resumed\":false"));
        starttls_outcome_free(outcome);
        SSL_shutdown(ssl);
        close(SSL_get_fd(ssl));
        CHECK(SSL_clear(ssl) == 1);
    }
    /* Another, who is not who it should be: what was found out before is not said of it. */
    CHECK(!shakes_hands(ssl, &bad));
    CHECK(starttls_check(ssl, VERSION, &error) == NULL);
    FAILS(error, "untrusted");
    close(SSL_get_fd(ssl));
    CHECK(SSL_clear(ssl) == 1);
    CHECK(!shakes_hands(ssl, &bad));
    close(SSL_get_fd(ssl));
    CHECK(SSL_clear(ssl) == 1);
    SSL_set_session(ssl, NULL);
    CHECK(shakes_hands(ssl, &good));
    outcome = starttls_check(ssl, VERSION, &error);
    NONE(error);
    starttls_outcome_free(outcome);
    /* In the middle of its life it cannot be prepared. */
    CHECK(!starttls_prepare(policy, "smtp", HOST, ssl, VERSION, &error));
    FAILS(error, "invalid");
    SSL_shutdown(ssl);
    close(SSL_get_fd(ssl));
    CHECK(SSL_clear(ssl) == 1);
    CHECK(!starttls_prepare(policy, "smtp", HOST, ssl, VERSION, &error)); /* it has a session */
    FAILS(error, "invalid");
    SSL_set_session(ssl, NULL);
    CHECK(starttls_prepare(policy, "smtp", "other.example.test", ssl, VERSION, &error));
    CHECK(!shakes_hands(ssl, &good));
    CHECK(starttls_check(ssl, VERSION, &error) == NULL);
    FAILS(error, "name-mismatch");
    end(ssl);
    SSL_CTX_free(ctx);
    starttls_policy_free(policy);
    server_end(good);
    server_end(bad);
}

/* --- callers who do it wrongly ------------------------------------------------------------------------ */

static int anything_goes(int ok, X509_STORE_CTX *store) {
    (void)ok;
    (void)store;
    return 1;
}

static void verification_is_turned_off(int version) {
    struct server bad = server_of("unknown-ca", version);
    starttls_policy *policy = policy_of("verify");
    SSL_CTX *ctx = prepared_ctx(), *other = SSL_CTX_new(TLS_client_method());
    SSL *ssl = prepared(ctx, policy, HOST);

    /* Nobody can keep a caller from that; but check does not forget. */
    SSL_set_verify(ssl, SSL_VERIFY_NONE, NULL);
    CHECK(shakes_hands(ssl, &bad));
    CHECK(starttls_check(ssl, VERSION, &error) == NULL);
    FAILS(error, "untrusted");
    end(ssl);

    ssl = prepared(ctx, policy, HOST);
    SSL_set_verify(ssl, SSL_VERIFY_PEER, anything_goes);
    CHECK(!shakes_hands(ssl, &bad));
    end(ssl);

    /* Another SSL_CTX, which was not prepared. */
    ssl = prepared(ctx, policy, HOST);
    SSL_set_SSL_CTX(ssl, other);
    SSL_set_verify(ssl, SSL_VERIFY_NONE, NULL);
    shakes_hands(ssl, &bad);
    CHECK(starttls_check(ssl, VERSION, &error) == NULL);
    starttls_error_free(error);
    error = NULL;
    end(ssl);

    /* Ciphers by which the peer shows no certificate at all. */
    SSL_CTX_set_cipher_list(ctx, "ALL:aNULL:@SECLEVEL=0");
    ssl = SSL_new(ctx);
    CHECK(!starttls_prepare(policy, "smtp", HOST, ssl, VERSION, &error));
    FAILS(error, "invalid");
    CHECK(SSL_set_cipher_list(ssl, "ALL:!aNULL") == 1);
    CHECK(starttls_prepare(policy, "smtp", HOST, ssl, VERSION, &error));
    NONE(error);
    SSL_free(ssl);

    SSL_CTX_free(ctx);
    SSL_CTX_free(other);
    starttls_policy_free(policy);
    server_end(bad);
}

/* An SSL that is not prepared is verified as OpenSSL does. */
static void unprepared(void) {
    struct server good = server_of("good", 0), bad = server_of("unknown-ca", 0);
    SSL_CTX *ctx = prepared_ctx();
    SSL *ssl;
    CHECK(SSL_CTX_load_verify_locations(ctx, ca, NULL) == 1);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    ssl = SSL_new(ctx);
    SSL_set1_host(ssl, HOST);
    CHECK(shakes_hands(ssl, &good) && SSL_get_verify_result(ssl) == X509_V_OK);
    CHECK(starttls_check(ssl, VERSION, &error) == NULL);
    FAILS(error, "invalid");
    end(ssl);
    ssl = SSL_new(ctx);
    CHECK(!shakes_hands(ssl, &bad) && SSL_get_verify_result(ssl) != X509_V_OK);
    end(ssl);
    ssl = SSL_new(ctx);
    SSL_set1_host(ssl, "other.example.test");
    CHECK(!shakes_hands(ssl, &good) && SSL_get_verify_result(ssl) == X509_V_ERR_HOSTNAME_MISMATCH);
    end(ssl);
    SSL_CTX_free(ctx);
    server_end(good);
    server_end(bad);
}

static void wrong_arguments(void) {
    const uint64_t another = VERSION >= 0x30000000 ? 0x1010100fUL : 0x30000000UL;
    starttls_policy *policy = policy_of("verify"), *no_tls = policy_of("none");
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method()), *of_server = SSL_CTX_new(TLS_server_method());
    SSL *ssl = SSL_new(ctx);
    starttls_outcome *outcome;

    CHECK(!starttls_prepare(policy, "smtp", HOST, ssl, VERSION, &error)); /* without prepare_ctx */
    FAILS(error, "invalid");
    CHECK(!starttls_prepare_ctx(NULL, VERSION, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_prepare_ctx(ctx, another, &error));
    FAILS(error, "unsupported");
    CHECK(!starttls_prepare_ctx(ctx, 0, &error));
    FAILS(error, "unsupported");
    CHECK(starttls_prepare_ctx(ctx, VERSION, &error) && starttls_prepare_ctx(ctx, VERSION, &error));
    NONE(error);
    CHECK(starttls_prepare(policy, "smtp", HOST, ssl, VERSION, &error)); /* though it was made before that */
    NONE(error);
    SSL_free(ssl);

    ssl = SSL_new(ctx);
    CHECK(!starttls_prepare(policy, "smtp", HOST, NULL, VERSION, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_prepare(policy, "smtp", HOST, ssl, another, &error));
    FAILS(error, "unsupported");
    CHECK(!starttls_prepare(NULL, "smtp", HOST, ssl, VERSION, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_prepare(no_tls, "smtp", HOST, ssl, VERSION, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_prepare(policy, "nonsense", HOST, ssl, VERSION, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_prepare(policy, "smtp", "a b", ssl, VERSION, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_prepare(policy, NULL, NULL, ssl, VERSION, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_check(ssl, VERSION, &error)); /* was not prepared */
    FAILS(error, "invalid");
    CHECK(!starttls_check(NULL, VERSION, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_check(ssl, another, &error));
    FAILS(error, "unsupported");
    starttls_outcome_free(NULL);

    /* Prepared twice, the last one counts; before the handshake there is nothing to check. */
    {
        struct server good = server_of("good", 0);
        CHECK(starttls_prepare(policy, "imap", "other.example.test", ssl, VERSION, &error));
        CHECK(starttls_prepare(policy, "smtp", HOST, ssl, VERSION, &error));
        CHECK(!starttls_check(ssl, VERSION, &error));
        FAILS(error, "handshake");
        CHECK(shakes_hands(ssl, &good));
        outcome = starttls_check(ssl, VERSION, &error);
        NONE(error);
        CHECK(same(starttls_outcome_identity_name(outcome), HOST));
        CHECK(strstr(starttls_outcome_json(outcome), "\"protocol\":\"smtp\""));
        starttls_outcome_free(outcome);
        end(ssl);
        server_end(good);
    }
    CHECK(starttls_prepare_ctx(of_server, VERSION, &error));
    ssl = SSL_new(of_server);
    CHECK(!starttls_prepare(policy, "smtp", HOST, ssl, VERSION, &error));
    FAILS(error, "invalid");
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    SSL_CTX_free(of_server);
    starttls_policy_free(policy);
    starttls_policy_free(no_tls);
}

/* --- the same as starttls_upgrade says ---------------------------------------------------------------- */

/* Takes `"key":value` out of the JSON; values hold no braces or brackets in strings here. */
static void without(char *json, const char *key) {
    char *at = strstr(json, key), *end;
    int depth = 0;
    if (!CHECK(at != NULL))
        return;
    for (end = at + strlen(key); depth > 0 || (*end != ',' && *end != '}'); end++)
        depth += (*end == '[' || *end == '{') - (*end == ']' || *end == '}');
    memmove(at, end, strlen(end) + 1);
}

static char *normal(const starttls_outcome *outcome) {
    static const char *const differ[] = {"\"round_trips\":", "\"milliseconds\":", "\"transcript\":",
                                         "\"offered\":"};
    const char *json = starttls_outcome_json(outcome);
    char *copy = malloc(json ? strlen(json) + 1 : 1);
    size_t i;
    strcpy(copy, json ? json : "");
    for (i = 0; i < sizeof differ / sizeof *differ; i++)
        without(copy, differ[i]);
    return copy;
}

/* With it known that there are no TLSA records: starttls_upgrade would look, starttls_prepare does not. */
static starttls_policy *policy_for(const char *level) {
    starttls_policy *policy = policy_of(level);
    if (strcmp(level, "strict") == 0)
        CHECK(starttls_policy_set_tlsa_proof(policy, "secure", &error));
    return policy;
}

static void same_outcome(const char *certificate, const char *level, int version) {
    struct server server = server_of(certificate, version);
    starttls_policy *policy = policy_for(level);
    SSL_CTX *ctx = prepared_ctx();
    SSL *ssl = prepared(ctx, policy, HOST);
    int fd = dial(server.port);
    starttls_session *session = starttls_upgrade("smtp", fd, HOST, "go-ahead", NULL, 0, policy, &error);
    const starttls_outcome *of_upgrade = session ? starttls_session_outcome(session)
                                                 : starttls_error_outcome(error);
    starttls_error *failed = NULL;
    starttls_outcome *outcome;
    char *a = normal(of_upgrade), *b;
    close(fd);
    shakes_hands(ssl, &server);
    outcome = starttls_check(ssl, VERSION, &failed);
    b = normal(outcome ? outcome : starttls_error_outcome(failed));
    if (!CHECK(strcmp(a, b) == 0 && strlen(a) > 100))
        fprintf(stderr, "    %s\n    %s\n", a, b);
    CHECK((session == NULL) == (outcome == NULL));
    if (session == NULL)
        CHECK(same(starttls_error_message(error), starttls_error_message(failed)));
    free(a);
    free(b);
    starttls_outcome_free(outcome);
    starttls_session_free(session);
    starttls_error_free(error);
    starttls_error_free(failed);
    error = NULL;
    starttls_policy_free(policy);
    end(ssl);
    SSL_CTX_free(ctx);
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
        sessions_of_others(versions[i]);
        used_again(versions[i]);
        verification_is_turned_off(versions[i]);
        same_outcome("good", "verify", versions[i]);
        same_outcome("expired", "encrypt", versions[i]);
        same_outcome("wrong-name", "strict", versions[i]);
    }
    unprepared();
    wrong_arguments();
    return checks_report();
}
