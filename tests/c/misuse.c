/* The functions of servers, event loops and programs with an SSL of their own, with every argument wrong and
 * in every wrong order: an error, never a crash. usage: misuse CERTS_DIR */
#define _POSIX_C_SOURCE 200809L
#include <limits.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"

static starttls_error *error;

#define INVALID(what)                                                                                        \
    do {                                                                                                     \
        CHECK(!(what));                                                                                      \
        FAILS(error, "invalid");                                                                             \
    } while (0)
#define FAILED(what)                                                                                         \
    do {                                                                                                     \
        CHECK((what) == STARTTLS_FAILED);                                                                    \
        FAILS(error, "invalid");                                                                             \
    } while (0)

static starttls_policy *policy_of(const char *level) {
    starttls_policy *policy = starttls_policy_new(level, &error);
    NONE(error);
    return policy;
}

static void null_handles(void) {
    char buf[8];
    size_t n = 7;
    starttls_policy *policy = policy_of("may");

    starttls_negotiation_free(NULL);
    starttls_outcome_free(NULL);
    CHECK(starttls_negotiation_want(NULL) == STARTTLS_FAILED && starttls_negotiation_wait_ms(NULL) == -1);
    CHECK(starttls_negotiation_output(NULL, &n) == NULL && n == 0);
    CHECK(starttls_negotiation_output(NULL, NULL) == NULL);
    CHECK(!starttls_session_wants_write(NULL) && starttls_session_wait_ms(NULL) == -1);
    INVALID(starttls_negotiation_sent(NULL, 0, &error));
    INVALID(starttls_negotiation_receive(NULL, "x", 1, &error));
    INVALID(starttls_negotiation_closed(NULL, &error));
    INVALID(starttls_negotiation_timed_out(NULL, &error));
    INVALID(starttls_negotiation_session(NULL, 0, &error));
    INVALID(starttls_negotiation_new(NULL, "a.test", "ready", policy, &error));
    INVALID(starttls_negotiation_new("imap", NULL, "ready", policy, &error));
    INVALID(starttls_negotiation_new("imap", "a.test", NULL, policy, &error));
    INVALID(starttls_negotiation_new("imap", "a.test", "ready", NULL, &error));
    INVALID(starttls_negotiation_accept(NULL, policy, &error));
    INVALID(starttls_negotiation_accept("imap", NULL, &error));
    INVALID(starttls_accept("imap", 0, NULL, 1, policy, &error));
    INVALID(starttls_accept("imap", -1, NULL, 0, policy, &error));
    INVALID(starttls_refuse(NULL, 0, NULL, 0, policy, &error));
    INVALID(starttls_refuse("imap", -1, NULL, 0, policy, &error));
    INVALID(starttls_protect_data(NULL, 0, &error));
    INVALID(starttls_policy_reload(NULL, &error));
    INVALID(starttls_policy_set_server_cert(NULL, "a", "b", &error));
    INVALID(starttls_policy_set_server_cert_pem(NULL, "a", 1, "b", 1, &error));
    INVALID(starttls_policy_set_server_cert_dir(NULL, "/", &error));
    INVALID(starttls_policy_set_ask_client_cert(NULL, &error));
    FAILED(starttls_try_handshake(NULL, &error));
    FAILED(starttls_try_read(NULL, buf, sizeof buf, &n, &error));
    FAILED(starttls_try_write(NULL, buf, sizeof buf, &n, &error));
    FAILED(starttls_try_flush(NULL, &error));
    FAILED(starttls_try_close(NULL, &error));
    INVALID(starttls_prepare_ctx(NULL, OPENSSL_VERSION_NUMBER, &error));
    INVALID(starttls_prepare(policy, "imap", "a.test", NULL, OPENSSL_VERSION_NUMBER, &error));
    INVALID(starttls_check(NULL, OPENSSL_VERSION_NUMBER, &error));
    starttls_policy_free(policy);
}

/* Handles of other types, and calls in the wrong order. */
static void wrong_order(void) {
    starttls_policy *policy = policy_of("may");
    starttls_negotiation *n = starttls_negotiation_new("imap", "a.test", "ready", policy, &error);
    starttls_session *session;
    char buf[8];
    size_t length;
    int ends[2];

    NONE(error);
    CHECK(starttls_negotiation_want((starttls_negotiation *)policy) == STARTTLS_FAILED);
    FAILED(starttls_try_handshake((starttls_session *)n, &error));
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    INVALID(starttls_negotiation_session(n, ends[0], &error));
    INVALID(starttls_negotiation_sent(n, 1000, &error));
    INVALID(starttls_negotiation_receive(n, buf, 0, &error));
    CHECK(starttls_negotiation_output(n, &length) != NULL && length == 13);
    CHECK(starttls_negotiation_sent(n, length, &error));
    CHECK(starttls_negotiation_want(n) == STARTTLS_WANT_READ);
    CHECK(!starttls_negotiation_receive(n, "nonsense\r\n", 10, &error));
    FAILS(error, "malformed");
    CHECK(starttls_negotiation_want(n) == STARTTLS_FAILED);
    CHECK(starttls_negotiation_output(n, &length) == NULL && length == 0);
    INVALID(starttls_negotiation_receive(n, "a1 OK\r\n", 7, &error));
    starttls_negotiation_free(n);

    n = starttls_negotiation_new("imap", "a.test", "ready", policy, &error);
    CHECK(starttls_negotiation_sent(n, 13, &error));
    CHECK(starttls_negotiation_receive(n, "a1 NO\r\nrest", 11, &error));
    CHECK(starttls_negotiation_want(n) == STARTTLS_PLAIN);
    INVALID(starttls_negotiation_session(n, -1, &error));
    session = starttls_negotiation_session(n, ends[0], &error);
    NONE(error);
    INVALID(starttls_negotiation_session(n, ends[0], &error));
    CHECK(starttls_negotiation_want(n) == STARTTLS_FAILED);
    INVALID(starttls_negotiation_receive(n, "x", 1, &error));
    starttls_negotiation_free(n);
    CHECK(starttls_try_handshake(session, &error) == STARTTLS_DONE);
    FAILED(starttls_try_read(session, buf, 0, &length, &error));
    FAILED(starttls_try_read(session, buf, 1, NULL, &error));
    FAILED(starttls_try_write(session, buf, 1, NULL, &error));
    FAILED(starttls_try_write(session, NULL, 1, &length, &error));
    CHECK(starttls_try_read(session, buf, sizeof buf, &length, &error) == STARTTLS_DONE && length == 4);
    CHECK(starttls_try_read(session, buf, sizeof buf, &length, &error) == STARTTLS_WANT_READ);
    INVALID(starttls_protect_data(session, ends[1], &error));
    /* This outcome is the session's. */
    starttls_outcome_free((starttls_outcome *)starttls_session_outcome(session));
    CHECK(same(starttls_outcome_because(starttls_session_outcome(session)), "not-offered"));
    CHECK(starttls_try_close(session, &error) == STARTTLS_DONE);
    CHECK(starttls_try_close(session, &error) == STARTTLS_DONE);
    FAILED(starttls_try_read(session, buf, sizeof buf, &length, &error));
    FAILED(starttls_try_handshake(session, &error));
    starttls_session_free(session);
    starttls_policy_free(policy);
    close(ends[0]);
    close(ends[1]);
}

/* SSLs that are not a client's over a stream. */
static void other_ssls(void) {
    starttls_policy *policy = policy_of("encrypt");
    SSL_CTX *ctx = SSL_CTX_new(TLS_method()), *datagrams = SSL_CTX_new(DTLS_client_method());
    SSL *ssl;
    CHECK(starttls_prepare_ctx(ctx, OPENSSL_VERSION_NUMBER, &error));
    CHECK(starttls_prepare_ctx(datagrams, OPENSSL_VERSION_NUMBER, &error));
    ssl = SSL_new(ctx);
    SSL_set_accept_state(ssl);
    INVALID(starttls_prepare(policy, "imap", "a.test", ssl, OPENSSL_VERSION_NUMBER, &error));
    SSL_free(ssl);
    ssl = SSL_new(datagrams);
    CHECK(!starttls_prepare(policy, "imap", "a.test", ssl, OPENSSL_VERSION_NUMBER, &error));
    FAILS(error, "unsupported");
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    SSL_CTX_free(datagrams);
    starttls_policy_free(policy);
}

int main(void) {
    null_handles();
    wrong_order();
    other_ssls();
    return checks_report();
}
