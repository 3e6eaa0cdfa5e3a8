/* Every function with every argument wrong: an error, never a crash. usage: abuse CERTS_DIR */
#define _POSIX_C_SOURCE 200809L
#include <fcntl.h>
#include <limits.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"

static starttls_error *error;
static char ca[512], crt[512], key[512], other_key[512];

static starttls_policy *policy_of(const char *level) {
    starttls_policy *policy = starttls_policy_new(level, &error);
    NONE(error);
    return policy;
}

/* A session in clear on one end of a socket pair: it needs no peer. */
static starttls_session *plain(int ends[2]) {
    starttls_policy *policy = policy_of("none");
    starttls_session *session;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    session = starttls_upgrade("smtp", ends[0], "localhost", "greeting", NULL, 0, policy, &error);
    NONE(error);
    starttls_policy_free(policy);
    return session;
}

static void about(void) {
    size_t i;
    bool smtp = false, imaps = false;
    CHECK(starttls_version() == STARTTLS_VERSION);
    for (i = 0; starttls_protocol_name(i) != NULL; i++) {
        smtp = smtp || same(starttls_protocol_name(i), "smtp");
        imaps = imaps || same(starttls_protocol_name(i), "imaps");
    }
    CHECK(i >= 10 && smtp && imaps);
    CHECK(starttls_protocol_name(i + 1) == NULL && starttls_protocol_name(SIZE_MAX) == NULL);
}

static void null_handles(void) {
    char buf[8];
    size_t n = 7;

    starttls_policy_free(NULL);
    starttls_session_free(NULL);
    starttls_error_free(NULL);
    CHECK(starttls_error_word(NULL) == NULL && starttls_error_message(NULL) == NULL);
    CHECK(!starttls_error_temporary(NULL) && starttls_error_outcome(NULL) == NULL);
    CHECK(!starttls_outcome_encrypted(NULL) && starttls_outcome_because(NULL) == NULL);
    CHECK(starttls_outcome_identity(NULL) == NULL && starttls_outcome_identity_name(NULL) == NULL);
    CHECK(starttls_outcome_tls_version(NULL) == NULL && starttls_outcome_cipher(NULL) == NULL);
    CHECK(starttls_outcome_json(NULL) == NULL && starttls_outcome_suspicion(NULL, 0) == NULL);
    CHECK(starttls_session_outcome(NULL) == NULL && starttls_session_fd(NULL) == -1);
    CHECK(starttls_session_heard(NULL, &n) == NULL && n == 0);
    CHECK(starttls_session_heard(NULL, NULL) == NULL && starttls_session_pending(NULL) == 0);

    CHECK(!starttls_read(NULL, buf, sizeof buf, &n, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_write(NULL, "x", 1, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_close(NULL, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_channel_binding(NULL, "tls-exporter", buf, &n, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_session_set_timeout(NULL, 1, &error));
    FAILS(error, "invalid");
    CHECK(starttls_policy_derive(NULL, &error) == NULL);
    FAILS(error, "invalid");
    CHECK(!starttls_policy_ready(NULL, &error));
    FAILS(error, "invalid");
    CHECK(starttls_connect("smtp", "localhost", 1, NULL, &error) == NULL);
    FAILS(error, "invalid");
    CHECK(starttls_upgrade("smtp", 0, "localhost", "greeting", NULL, 0, NULL, &error) == NULL);
    FAILS(error, "invalid");

    /* And where nobody wants to know. */
    CHECK(!starttls_read(NULL, NULL, 1, NULL, NULL) && !starttls_write(NULL, NULL, 1, NULL));
    CHECK(!starttls_close(NULL, NULL) && !starttls_channel_binding(NULL, NULL, NULL, NULL, NULL));
    CHECK(!starttls_session_set_timeout(NULL, 0, NULL) && !starttls_policy_ready(NULL, NULL));
    CHECK(starttls_policy_new(NULL, NULL) == NULL && starttls_policy_derive(NULL, NULL) == NULL);
    CHECK(starttls_connect(NULL, NULL, 0, NULL, NULL) == NULL);
    CHECK(starttls_upgrade(NULL, -1, NULL, NULL, NULL, 1, NULL, NULL) == NULL);
}

/* One setter with one argument, and what goes right and wrong with it. */
typedef bool (*setter)(starttls_policy *, const char *, starttls_error **);

static void one_setter(setter set, const char *good, const char *bad) {
    static const char *const always_bad[] = {NULL, "", "\xff\xfe", "a b", "line\r\nbreak"};
    starttls_policy *policy = policy_of("verify");
    size_t i;

    CHECK(set(policy, good, &error));
    NONE(error);
    CHECK(starttls_policy_ready(policy, NULL) || set == starttls_policy_add_fingerprint);
    starttls_policy_free(policy);

    CHECK(!set(NULL, good, &error));
    FAILS(error, "invalid");
    for (i = 0; i <= sizeof always_bad / sizeof *always_bad; i++) {
        const char *argument = i == 0 ? bad : always_bad[i - 1];
        policy = policy_of("verify");
        CHECK(!set(policy, argument, &error));
        FAILS(error, "invalid");
        starttls_policy_free(policy);
    }
}

static bool certificate(starttls_policy *p, const char *file, starttls_error **e) {
    return starttls_policy_set_client_cert(p, file, key, e);
}

static bool certificate_key(starttls_policy *p, const char *file, starttls_error **e) {
    return starttls_policy_set_client_cert(p, crt, file, e);
}

static void setters(void) {
    static const char pin[] = "0123456789abcdef0123456789abcdef0123456789ABCDEF0123456789ABCDEF";
    static const uint32_t wrong_times[] = {0, 86400001, UINT32_MAX};
    starttls_policy *policy;
    size_t i;

    one_setter(starttls_policy_set_ca_file, ca, "/nowhere/ca.pem");
    one_setter(starttls_policy_set_ca_path, "/tmp", ca);
    one_setter(certificate, crt, "/nowhere/crt.pem");
    one_setter(certificate_key, key, "/nowhere/key.pem");
    one_setter(starttls_policy_set_min_tls, "1.3", "1.4");
    one_setter(starttls_policy_add_fingerprint, pin, pin + 1);
    one_setter(starttls_policy_set_client_name, "[192.0.2.1]", "name\nQUIT");
    one_setter(starttls_policy_add_name, "mail.example.org", "-..");
    one_setter(starttls_policy_set_sni, "mail.example.org", "192.0.2.1");
    one_setter(starttls_policy_set_address, "2001:db8::1", "192.0.2.256");
    one_setter(starttls_policy_set_name_from, "dnssec", "a person");

    for (i = 0; i < sizeof wrong_times / sizeof *wrong_times; i++) {
        policy = policy_of("verify");
        CHECK(!starttls_policy_set_timeout(policy, wrong_times[i], &error));
        FAILS(error, "invalid");
        starttls_policy_free(policy);
    }
    policy = policy_of("verify");
    CHECK(starttls_policy_set_timeout(policy, 86400000, &error));
    CHECK(starttls_policy_set_preload_ca(policy, &error));
    NONE(error);
    starttls_policy_free(policy);
    CHECK(!starttls_policy_set_timeout(NULL, 1, NULL) && !starttls_policy_set_preload_ca(NULL, NULL));
}

static void levels(void) {
    static const char *const good[] = {"none", "may",       "encrypt",       "fingerprint", "verify",
                                       "dane", "dane-only", "opportunistic", "strict"};
    static const char *const bad[] = {NULL, "", "Strict", "strict ", "\xff", "verify\n", "dane_only"};
    size_t i;
    for (i = 0; i < sizeof good / sizeof *good; i++)
        starttls_policy_free(policy_of(good[i]));
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(starttls_policy_new(bad[i], &error) == NULL);
        CHECK(!starttls_error_temporary(error) && starttls_error_outcome(error) == NULL);
        FAILS(error, "invalid");
    }
}

static void errors_chain(void) {
    char buf[8];
    size_t n = 7;
    int ends[2];
    starttls_session *session = plain(ends);
    starttls_policy *policy = policy_of("verify");
    const char *message;
    starttls_error *first;

    CHECK(starttls_policy_new("wrong", &error) == NULL);
    first = error;
    message = starttls_error_message(error);

    CHECK(write(ends[1], "abc", 3) == 3);
    CHECK(!starttls_read(session, buf, sizeof buf, &n, &error) && n == 7);
    CHECK(!starttls_write(session, "x", 1, &error) && !starttls_close(session, &error));
    CHECK(!starttls_session_set_timeout(session, 1, &error));
    CHECK(starttls_policy_new("verify", &error) == NULL);
    CHECK(starttls_policy_derive(policy, &error) == NULL);
    CHECK(!starttls_policy_ready(policy, &error));
    CHECK(!starttls_policy_set_min_tls(policy, "nonsense", &error));
    CHECK(starttls_connect("smtp", "localhost", 1, policy, &error) == NULL);
    CHECK(starttls_upgrade("smtp", ends[0], "a", "greeting", NULL, 0, policy, &error) == NULL);
    CHECK(error == first && starttls_error_message(error) == message);
    starttls_error_free(error);
    error = NULL;

    /* Nothing was done: no byte was read, written, set or spoiled. */
    CHECK(starttls_policy_set_min_tls(policy, "1.3", &error) && starttls_policy_ready(policy, &error));
    CHECK(starttls_read(session, buf, sizeof buf, &n, &error) && n == 3);
    CHECK(recv(ends[1], buf, sizeof buf, MSG_DONTWAIT) == -1);
    NONE(error);
    starttls_policy_free(policy);
    starttls_session_free(session);
    close(ends[0]);
    close(ends[1]);
}

static void policies_spoil_and_freeze(void) {
    int ends[2];
    starttls_policy *policy = policy_of("none"), *derived;

    /* Nobody looked at the setter's error, so every use fails with it. */
    CHECK(!starttls_policy_set_ca_file(policy, "/nowhere/ca.pem", NULL));
    CHECK(!starttls_policy_set_min_tls(policy, "1.3", &error));
    CHECK(error && strstr(starttls_error_message(error), "/nowhere/ca.pem"));
    FAILS(error, "invalid");
    CHECK(!starttls_policy_ready(policy, &error));
    CHECK(error && strstr(starttls_error_message(error), "/nowhere/ca.pem"));
    FAILS(error, "invalid");
    CHECK(starttls_policy_derive(policy, &error) == NULL);
    FAILS(error, "invalid");
    CHECK(starttls_connect("smtp", "localhost", 1, policy, &error) == NULL);
    CHECK(error && strstr(starttls_error_message(error), "/nowhere/ca.pem"));
    FAILS(error, "invalid");
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    CHECK(starttls_upgrade("smtp", ends[0], "a", "greeting", NULL, 0, policy, NULL) == NULL);
    starttls_policy_free(policy);
    close(ends[0]);
    close(ends[1]);

    /* The first use freezes. */
    policy = policy_of("verify");
    derived = starttls_policy_derive(policy, &error);
    NONE(error);
    CHECK(!starttls_policy_set_min_tls(policy, "1.3", &error));
    FAILS(error, "invalid");
    starttls_policy_free(policy);
    CHECK(starttls_policy_set_min_tls(derived, "1.3", &error));
    CHECK(starttls_policy_add_name(derived, "b.example.org", &error));
    CHECK(starttls_policy_ready(derived, &error));
    NONE(error);
    CHECK(!starttls_policy_set_timeout(derived, 1, NULL));
    CHECK(!starttls_policy_ready(derived, &error)); /* the setter has failed, so it is spoiled */
    FAILS(error, "invalid");
    starttls_policy_free(derived);

    /* What does not go together is said at the first use. */
    policy = policy_of("fingerprint");
    CHECK(!starttls_policy_ready(policy, &error));
    FAILS(error, "invalid");
    starttls_policy_free(policy);
    policy = policy_of("verify");
    CHECK(starttls_policy_set_client_cert(policy, crt, other_key, &error));
    CHECK(!starttls_policy_ready(policy, &error));
    FAILS(error, "invalid");
    starttls_policy_free(policy);
    policy = policy_of("verify");
    CHECK(starttls_policy_set_ca_file(policy, key, &error));
    CHECK(!starttls_policy_ready(policy, &error));
    FAILS(error, "invalid");
    starttls_policy_free(policy);
}

static void calls(const starttls_policy *policy, int fd) {
    static const char label[] = "a23456789b23456789c23456789d23456789e23456789f23456789g234567890.org";
    const char *const bad_hosts[] = {NULL, "", "a b", "a\r\nQUIT", "\xc3\x28", "a..b", "[::1", label};
    const char *const bad_words[] = {NULL, "", "SMTP", "smtp ", "\xff", "http\n"};
    size_t i;
    for (i = 0; i < sizeof bad_hosts / sizeof *bad_hosts; i++) {
        CHECK(starttls_connect("smtp", bad_hosts[i], 1, policy, &error) == NULL);
        FAILS(error, "invalid");
        CHECK(!starttls_upgrade("smtp", fd, bad_hosts[i], "greeting", NULL, 0, policy, &error));
        FAILS(error, "invalid");
    }
    for (i = 0; i < sizeof bad_words / sizeof *bad_words; i++) {
        CHECK(starttls_connect(bad_words[i], "localhost", 1, policy, &error) == NULL);
        FAILS(error, "invalid");
        CHECK(!starttls_upgrade(bad_words[i], fd, "localhost", "greeting", NULL, 0, policy, &error));
        FAILS(error, "invalid");
        CHECK(!starttls_upgrade("smtp", fd, "localhost", bad_words[i], NULL, 0, policy, &error));
        FAILS(error, "invalid");
    }
    CHECK(!starttls_upgrade("smtp", fd, "localhost", "greeting", NULL, 1, policy, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_upgrade("smtp", fd, "localhost", "greeting", "x", SIZE_MAX, policy, &error));
    FAILS(error, "invalid");
}

static void descriptors(const starttls_policy *policy) {
    int file = open(ca, O_RDONLY), pipes[2], datagrams[2], closed, i;
    CHECK(file >= 0 && pipe(pipes) == 0 && socketpair(AF_UNIX, SOCK_DGRAM, 0, datagrams) == 0);
    closed = dup(file);
    close(closed);
    {
        const int bad[] = {-1, INT_MIN, INT_MAX, closed, file, pipes[0], pipes[1], datagrams[0]};
        for (i = 0; i < (int)(sizeof bad / sizeof *bad); i++) {
            CHECK(!starttls_upgrade("smtp", bad[i], "localhost", "greeting", NULL, 0, policy, &error));
            FAILS(error, "invalid");
        }
    }
    CHECK(fcntl(file, F_GETFD) != -1 && fcntl(pipes[0], F_GETFD) != -1);
    close(file);
    close(pipes[0]);
    close(pipes[1]);
    close(datagrams[0]);
    close(datagrams[1]);
}

static void sessions(void) {
    int ends[2];
    char buf[8];
    size_t n = 7;
    starttls_session *session = plain(ends);

    CHECK(starttls_session_fd(session) == ends[0]);
    CHECK(starttls_session_heard(session, &n) == NULL && n == 0);
    CHECK(starttls_session_heard(session, NULL) == NULL);
    CHECK(!starttls_read(session, NULL, 1, &n, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_read(session, buf, sizeof buf, NULL, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_read(session, buf, 0, &n, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_read(session, buf, SIZE_MAX, &n, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_write(session, NULL, 1, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_write(session, buf, SIZE_MAX, &error));
    FAILS(error, "invalid");
    CHECK(starttls_write(session, NULL, 0, &error));
    NONE(error);
    n = sizeof buf;
    CHECK(!starttls_channel_binding(session, "tls-exporter", buf, &n, &error) && n == sizeof buf);
    FAILS(error, "invalid");
    CHECK(!starttls_channel_binding(session, NULL, buf, &n, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_channel_binding(session, "tls-exporter", buf, NULL, &error));
    FAILS(error, "invalid");

    /* A handle of another type is told by its mark. */
    CHECK(!starttls_policy_ready((const starttls_policy *)(const void *)session, &error));
    FAILS(error, "invalid");
    CHECK(starttls_error_word((const starttls_error *)(const void *)session) == NULL);
    starttls_policy_free((starttls_policy *)(void *)session);

    CHECK(starttls_close(session, &error) && starttls_close(session, &error));
    NONE(error);
    CHECK(!starttls_read(session, buf, sizeof buf, &n, &error) && n == 0);
    FAILS(error, "invalid");
    CHECK(!starttls_write(session, "x", 1, &error));
    FAILS(error, "invalid");
    starttls_session_free(session);
    CHECK(fcntl(ends[0], F_GETFD) != -1);
    close(ends[0]);
    close(ends[1]);
}

int main(int argc, char **argv) {
    starttls_policy *policy;
    int ends[2];
    if (argc != 2)
        return 2;
    snprintf(ca, sizeof ca, "%s/ca.crt", argv[1]);
    snprintf(crt, sizeof crt, "%s/client.crt", argv[1]);
    snprintf(key, sizeof key, "%s/client.key", argv[1]);
    snprintf(other_key, sizeof other_key, "%s/good.key", argv[1]);

    about();
    null_handles();
    levels();
    setters();
    errors_chain();
    policies_spoil_and_freeze();
    policy = policy_of("verify");
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    calls(policy, ends[0]);
    descriptors(policy);
    starttls_policy_free(policy);
    close(ends[0]);
    close(ends[1]);
    sessions();
    return checks_report();
}
