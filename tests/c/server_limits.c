/* What a server does not put up with: clients that never come to an end, what is no TLS, policies that do not
 * fit. usage: server_limits CERTS_DIR */
#define _POSIX_C_SOURCE 200809L
#include <stdbool.h>
#include <time.h>

#include "serve.h"

static long milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Clients that do not go on, and such as never come to an end. */
static void time_outs(void) {
    int i;
    for (i = 0; i < 3; i++) {
        starttls_policy *policy = server_policy("encrypt", "good");
        struct client client = plain_client();
        long began = milliseconds();
        CHECK(starttls_policy_set_timeout(policy, 300, &error));
        client.stalls = i == 0;
        client.drips = i == 1;
        if (i == 2) {
            /* In the middle of the command: it is still the caller's to say good-bye. */
            int ends[2];
            CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
            CHECK(!starttls_accept("smtp", ends[0], "START", 5, policy, &error));
            CHECK(send(ends[0], "421 bye\r\n", 9, MSG_NOSIGNAL) == 9);
            close(ends[0]);
            close(ends[1]);
        } else {
            CHECK(serve("smtp", &client, policy) == FINE);
        }
        CHECK(starttls_error_temporary(error));
        FAILS(error, "timeout");
        CHECK(milliseconds() - began >= 300 && milliseconds() - began < 5000);
        starttls_policy_free(policy);
    }
}

static void garbage(const starttls_policy *policy) {
#define MORE "and what follows is no ClientHello, and is longer than the record says: "
    static const char *const cases[][2] = {
        {"\x16\x03\x01\x01\x05", "timeout"}, /* and no more of it */
        {"\x16\x03\x01\x01\x05" MORE MORE MORE MORE MORE, "handshake"},
        {"\x16\x03\xff\xff\xff", "handshake"},
        {"\x80\x2e\x01\x03\x01", "injected"}, /* a ClientHello of SSL 2 */
        {"GET / HTTP/1.1\r\n", "injected"},
    };
    size_t i;
    char *line = malloc(100000);
    int ends[2];
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct client client = plain_client();
        starttls_policy *quick = starttls_policy_derive(policy, &error);
        starttls_policy_set_timeout(quick, 500, &error);
        client.injected = cases[i][0];
        CHECK(serve("smtp", &client, quick) == FINE);
        FAILS(error, cases[i][1]);
        starttls_policy_free(quick);
    }
    memset(line, 'A', 100000);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    CHECK(!starttls_accept("smtp", ends[0], line, 100000, policy, &error));
    FAILS(error, "too-long");
    free(line);
    close(ends[0]);
    close(ends[1]);
}

static void not_ready(starttls_policy *policy, bool accepts_too) {
    int ends[2];
    CHECK(!starttls_policy_ready(policy, &error) || accepts_too);
    if (!accepts_too)
        FAILS(error, "invalid");
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    CHECK(!starttls_accept("smtp", ends[0], "STARTTLS\r\n", 10, policy, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_negotiation_accept("smtp", policy, &error));
    FAILS(error, "invalid");
    CHECK(recv(ends[1], ends, 1, MSG_DONTWAIT) == -1); /* nothing was said, and it is still open */
    close(ends[0]);
    close(ends[1]);
    starttls_policy_free(policy);
}

static void policies(void) {
    static const char *const levels[] = {"none", "may", "opportunistic", "strict"};
    char crt[600], key[600];
    starttls_policy *policy;
    size_t i;
    for (i = 0; i < sizeof levels / sizeof *levels; i++)
        not_ready(server_policy(levels[i], "good"), false);
    not_ready(server_policy("verify", "good"), false);      /* no CA for the clients */
    not_ready(server_policy("fingerprint", "good"), false); /* no fingerprint */
    not_ready(server_policy("encrypt", NULL), true);        /* fit for a client */
    snprintf(crt, sizeof crt, "%s/good.crt", client_certs);
    for (i = 0; i < 4; i++) {
        /* Another's key, an encrypted one, none at all, no certificate. */
        static const char *const keys[] = {"client.key", "encrypted.key", "good.crt", "good.key"};
        policy = server_policy("encrypt", NULL);
        snprintf(key, sizeof key, "%s/%s", client_certs, keys[i]);
        CHECK(starttls_policy_set_server_cert(policy, i == 3 ? key : crt, key, &error));
        not_ready(policy, false);
        policy = server_policy("encrypt", NULL);
        {
            char text[10000], more[10000];
            size_t n = slurp(i == 3 ? "good.key" : "good.crt", text, sizeof text);
            size_t m = slurp(keys[i], more, sizeof more);
            CHECK(starttls_policy_set_server_cert_pem(policy, text, n, more, m, &error));
        }
        not_ready(policy, false);
    }
    policy = server_policy("encrypt", NULL);
    CHECK(!starttls_policy_set_server_cert(policy, crt, "/nowhere/key", &error));
    FAILS(error, "invalid");
    CHECK(!starttls_policy_set_server_cert_dir(policy, crt, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_policy_set_server_cert_pem(policy, NULL, 5, NULL, 5, &error));
    FAILS(error, "invalid");
    not_ready(policy, false);
    CHECK(!starttls_policy_reload(NULL, &error));
    FAILS(error, "invalid");
}

int main(int argc, char **argv) {
    starttls_policy *policy;
    if (argc != 2)
        return 2;
    client_certs = argv[1];
    signal(SIGPIPE, SIG_DFL);
    policy = server_policy("encrypt", "good");
    time_outs();
    garbage(policy);
    policies();
    starttls_policy_free(policy);
    return checks_report();
}
