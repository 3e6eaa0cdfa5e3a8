/* Live sessions with a scripted peer: fork, threads, signals, descriptors. usage: session CERTS_DIR */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <time.h>

#include "peer.h"

#define HOST "mail.example.test"
#define BULK (1 << 20)

static starttls_error *error;
static char ca[512];

static const struct script echo = {"good", "220 go\r\n", false, ECHO};

static starttls_policy *policy_of(const char *level) {
    starttls_policy *policy = starttls_policy_new(level, &error);
    starttls_policy_set_ca_file(policy, ca, &error);
    starttls_policy_set_timeout(policy, 20000, &error);
    NONE(error);
    return policy;
}

static starttls_session *upgrade(int fd, const char *level) {
    starttls_policy *policy = policy_of(level);
    starttls_session *session =
        starttls_upgrade("smtp", fd, HOST, "greeting", NULL, 0, policy, &error);
    starttls_policy_free(policy); /* always before its session */
    return session;
}

static bool echoes(starttls_session *session, const char *text) {
    char back[64];
    size_t n, have = 0;
    if (!starttls_write(session, text, strlen(text), &error))
        return false;
    while (have < strlen(text)) {
        if (!starttls_read(session, back + have, sizeof back - have, &n, &error) || n == 0)
            return false;
        have += n;
    }
    return have == strlen(text) && memcmp(back, text, have) == 0;
}

/* Behind what had already come there is the end, and nothing more can be said. */
static bool is_shut_down(int fd) {
    char block[4096];
    ssize_t n;
    while ((n = recv(fd, block, sizeof block, MSG_DONTWAIT)) > 0)
        ;
    return (n == 0 || errno != EAGAIN) && send(fd, "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE;
}

static void a_session(bool blocking) {
    int fd, flags, fd_flags;
    char buf[64];
    size_t n = 0;
    pid_t peer = peer_pair(&echo, &fd);
    starttls_session *session;
    const starttls_outcome *outcome;
    if (!blocking)
        fcntl(fd, F_SETFL, O_NONBLOCK);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    flags = fcntl(fd, F_GETFL);
    fd_flags = fcntl(fd, F_GETFD);

    session = upgrade(fd, "strict");
    NONE(error);
    outcome = starttls_session_outcome(session);
    CHECK(starttls_outcome_encrypted(outcome) && starttls_outcome_because(outcome) == NULL);
    CHECK(same(starttls_outcome_identity(outcome), "pkix"));
    CHECK(same(starttls_outcome_identity_name(outcome), HOST));
    CHECK(same(starttls_outcome_tls_version(outcome), "TLSv1.3"));
    CHECK(starttls_outcome_cipher(outcome) && starttls_outcome_suspicion(outcome, 0) == NULL);
    CHECK(starttls_outcome_json(outcome) && starttls_outcome_json(outcome)[0] == '{');
    CHECK(starttls_outcome_json(outcome) == starttls_outcome_json(outcome));
    CHECK(starttls_session_outcome(session) == outcome && starttls_session_fd(session) == fd);
    CHECK(starttls_session_heard(session, &n) && n > 20);
    CHECK(!memcmp(starttls_session_heard(session, &n), "220 peer", 8));

    n = 4;
    CHECK(!starttls_channel_binding(session, "tls-exporter", buf, &n, &error) && n == 32);
    FAILS(error, "invalid");
    CHECK(starttls_channel_binding(session, "tls-exporter", buf, &n, &error) && n == 32);
    n = sizeof buf;
    CHECK(starttls_channel_binding(session, "tls-server-end-point", buf, &n, &error) && n == 32);
    CHECK(!starttls_channel_binding(session, "tls-unique", buf, &n, &error));
    FAILS(error, "invalid");

    CHECK(echoes(session, "hello"));
    CHECK(starttls_write(session, "abc", 3, &error));
    CHECK(starttls_read(session, buf, 1, &n, &error) && n == 1 && buf[0] == 'a');
    CHECK(starttls_session_pending(session) == 2);
    CHECK(starttls_read(session, buf, sizeof buf, &n, &error) && n == 2);
    CHECK(starttls_session_pending(session) == 0);
    NONE(error);

    /* A time-out ends a read, not the session. */
    CHECK(starttls_session_set_timeout(session, 30, &error));
    CHECK(!starttls_read(session, buf, sizeof buf, &n, &error) && starttls_error_temporary(error));
    FAILS(error, "timeout");
    CHECK(starttls_session_set_timeout(session, 0, &error) && echoes(session, "again"));

    CHECK(starttls_close(session, &error) && starttls_close(session, &error));
    CHECK(!starttls_write(session, "x", 1, &error));
    FAILS(error, "invalid");
    starttls_session_free(session);
    CHECK(fcntl(fd, F_GETFL) == flags && fcntl(fd, F_GETFD) == fd_flags);
    close(fd);
    peer_wait(peer);
}

static void ends(void) {
    static const struct script end = {"good", "220 go\r\n", false, END};
    static const struct script broken = {"good", "220 go\r\n", false, BREAK};
    char buf[8];
    size_t n = 7;
    int fd, i;
    pid_t peer = peer_pair(&end, &fd);
    starttls_session *session = upgrade(fd, "encrypt");
    CHECK(starttls_read(session, buf, sizeof buf, &n, &error) && n == 0);
    CHECK(starttls_read(session, buf, sizeof buf, &n, &error) && n == 0);
    CHECK(starttls_close(session, &error));
    NONE(error);
    starttls_session_free(session);
    close(fd);
    peer_wait(peer);

    /* No close_notify: what came may be cut short. And writing raises no SIGPIPE, whose default
     * disposition would end this program. */
    peer = peer_pair(&broken, &fd);
    session = upgrade(fd, "encrypt");
    peer_wait(peer);
    n = 7;
    CHECK(!starttls_read(session, buf, sizeof buf, &n, &error) && n == 0);
    CHECK(starttls_error_temporary(error));
    FAILS(error, "closed");
    for (i = 0; i < 3; i++) {
        CHECK(!starttls_write(session, "x", 1, &error));
        starttls_error_free(error);
        error = NULL;
    }
    starttls_close(session, NULL);
    starttls_session_free(session);
    close(fd);

    {
        int pair[2];
        CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
        session = upgrade(pair[0], "none");
        CHECK(starttls_write(session, "x", 1, &error));
        close(pair[1]);
        CHECK(!starttls_write(session, "x", 1, &error));
        FAILS(error, "closed");
        starttls_session_free(session);
        close(pair[0]);
    }
}

static void in_clear(void) {
    static const struct script no = {"good", "454 not now\r\n", false, ECHO};
    static const char said[] = "220 said before\r\n";
    char buf[64];
    size_t n = sizeof buf;
    int fd, pair[2];
    pid_t peer = peer_pair(&no, &fd);
    starttls_session *session = upgrade(fd, "may");
    const starttls_outcome *outcome = starttls_session_outcome(session);
    NONE(error);
    CHECK(!starttls_outcome_encrypted(outcome) && same(starttls_outcome_because(outcome), "refused"));
    CHECK(!starttls_outcome_identity(outcome) && !starttls_outcome_identity_name(outcome));
    CHECK(!starttls_outcome_tls_version(outcome) && !starttls_outcome_cipher(outcome));
    CHECK(!starttls_channel_binding(session, "tls-exporter", buf, &n, &error));
    FAILS(error, "invalid");
    CHECK(starttls_write(session, "QUIT\r\n", 6, &error));
    CHECK(starttls_read(session, buf, sizeof buf, &n, &error) && n == 9 && !memcmp(buf, "221", 3));
    NONE(error);
    starttls_session_free(session);
    close(fd);
    peer_wait(peer);

    /* A level that needs TLS says no, and leaves the connection fit for a good-bye. */
    peer = peer_pair(&no, &fd);
    CHECK(upgrade(fd, "encrypt") == NULL && starttls_error_temporary(error));
    outcome = starttls_error_outcome(error);
    CHECK(!starttls_outcome_encrypted(outcome) && starttls_outcome_json(outcome));
    CHECK(!starttls_outcome_because(outcome));
    FAILS(error, "refused");
    CHECK(peer_say(fd, "QUIT\r\n") && recv(fd, buf, sizeof buf, 0) == 9);
    close(fd);
    peer_wait(peer);

    /* What the caller had read comes out first. */
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    {
        starttls_policy *policy = policy_of("none");
        session = starttls_upgrade("smtp", pair[0], HOST, "greeting", said, strlen(said), policy, &error);
        starttls_policy_free(policy);
    }
    CHECK(starttls_session_pending(session) == strlen(said));
    CHECK(starttls_read(session, buf, sizeof buf, &n, &error) && n == strlen(said));
    CHECK(memcmp(buf, said, n) == 0);
    NONE(error);
    starttls_session_free(session);
    close(pair[0]);
    close(pair[1]);
}

static void go_ahead(void) {
    static const struct script at_once = {"good", "", true, ECHO};
    starttls_policy *policy = policy_of("strict");
    int fd;
    pid_t peer = peer_pair(&at_once, &fd);
    starttls_session *session =
        starttls_upgrade("smtp", fd, HOST, "go-ahead", NULL, 0, policy, &error);
    CHECK(session && echoes(session, "hello"));
    NONE(error);
    starttls_session_free(session);
    close(fd);
    peer_wait(peer);

    peer = peer_pair(&at_once, &fd);
    CHECK(!starttls_upgrade("smtp", fd, HOST, "go-ahead", "250 hi\r\n", 8, policy, &error));
    FAILS(error, "injected");
    CHECK(is_shut_down(fd));
    close(fd);
    peer_wait(peer);
    starttls_policy_free(policy);
}

static void nobody_goes_on_in_clear(void) {
    static const struct {
        struct script script;
        const char *level, *word;
    } cases[] = {
        {{"good", "220 go\r\n250 hello\r\n", false, ECHO}, "may", "injected"},
        {{"good", "220 go\r\nx", false, ECHO}, "strict", "injected"},
        {{"self-signed", "220 go\r\n", false, ECHO}, "strict", "untrusted"},
        {{"wrong-name", "220 go\r\n", false, ECHO}, "verify", "name-mismatch"},
        {{"expired", "220 go\r\n", false, ECHO}, "strict", "expired"},
    };
    size_t i;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        int fd;
        pid_t peer = peer_pair(&cases[i].script, &fd);
        CHECK(upgrade(fd, cases[i].level) == NULL && !starttls_error_temporary(error));
        CHECK(starttls_outcome_json(starttls_error_outcome(error)));
        FAILS(error, cases[i].word);
        CHECK(is_shut_down(fd) && fcntl(fd, F_GETFD) != -1);
        close(fd);
        peer_wait(peer);
    }
}

static void fingerprints(void) {
    static const char *const names[] = {"good", "self-signed", "good-rsa"};
    size_t i;
    for (i = 0; i < 3; i++) {
        unsigned char sha256[32];
        unsigned int length;
        char path[600], hex[65];
        int fd, j;
        pid_t peer;
        FILE *file;
        X509 *certificate;
        starttls_session *session;
        starttls_policy *policy = policy_of("fingerprint");
        snprintf(path, sizeof path, "%s/%s.crt", peer_certs, names[i]);
        file = fopen(path, "r");
        certificate = PEM_read_X509(file, NULL, NULL, NULL);
        fclose(file);
        CHECK(X509_digest(certificate, EVP_sha256(), sha256, &length) == 1);
        X509_free(certificate);
        for (j = 0; j < 32; j++)
            snprintf(hex + 2 * j, 3, "%02x", sha256[j]);
        starttls_policy_add_fingerprint(policy, hex, &error);

        /* The third certificate is not the one that the peer shows. */
        {
            struct script script = echo;
            script.certificate = i == 2 ? "good" : names[i];
            peer = peer_pair(&script, &fd);
        }
        session = starttls_upgrade("smtp", fd, HOST, "greeting", NULL, 0, policy, &error);
        if (i < 2) {
            NONE(error);
            CHECK(same(starttls_outcome_identity(starttls_session_outcome(session)), "fingerprint"));
        } else {
            CHECK(session == NULL);
            FAILS(error, "fingerprint-mismatch");
        }
        starttls_session_free(session);
        starttls_policy_free(policy);
        close(fd);
        peer_wait(peer);
    }
}

/* In a child the session can only be freed, and that sends nothing: the parent's goes on. */
static void child_and_parent(starttls_session *session) {
    int status = -1;
    pid_t child;
    fflush(NULL);
    child = fork();
    if (child == 0) {
        char buf[8];
        size_t n;
        checks_failed = 0;
        CHECK(!starttls_read(session, buf, sizeof buf, &n, &error));
        FAILS(error, "invalid");
        CHECK(!starttls_write(session, "x", 1, &error));
        FAILS(error, "invalid");
        CHECK(!starttls_close(session, &error));
        FAILS(error, "invalid");
        starttls_session_free(session);
        _exit(checks_failed > 0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(echoes(session, "still here") && echoes(session, "and still"));
    CHECK(starttls_close(session, &error));
    NONE(error);
    starttls_session_free(session);
}

static void forks(void) {
    starttls_policy *policy, *one;
    int fd, status = -1;
    uint16_t port;
    pid_t peer = peer_pair(&echo, &fd), child;
    child_and_parent(upgrade(fd, "strict"));
    close(fd);
    peer_wait(peer);

    peer = peer_port(&echo, 3, &port);
    policy = policy_of("strict");
    CHECK(starttls_policy_ready(policy, &error));
    one = starttls_policy_derive(policy, &error);
    CHECK(starttls_policy_set_address(one, "127.0.0.1", &error));
    child_and_parent(starttls_connect("smtp", HOST, port, one, &error));

    /* A policy made before fork serves the child, resumed or not, and the parent after it. */
    fflush(NULL);
    child = fork();
    if (child == 0) {
        starttls_session *session = starttls_connect("smtp", HOST, port, one, &error);
        bool good = session != NULL && echoes(session, "from the child");
        starttls_close(session, &error);
        starttls_session_free(session);
        starttls_policy_free(one);
        starttls_policy_free(policy);
        _exit(!good || error != NULL);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    {
        starttls_session *session = starttls_connect("smtp", HOST, port, one, &error);
        CHECK(session != NULL && echoes(session, "from the parent"));
        NONE(error);
        starttls_session_free(session);
    }
    starttls_policy_free(one);
    starttls_policy_free(policy);
    peer_wait(peer);
}

static void *write_all(void *session) {
    char *block = malloc(BULK);
    bool done;
    memset(block, 'w', BULK);
    done = starttls_write(session, block, BULK, NULL);
    free(block);
    return done ? session : NULL;
}

static void *read_to_the_end(void *session) {
    char c;
    size_t n;
    while (starttls_read(session, &c, 1, &n, NULL) && n > 0)
        ;
    return session;
}

static void threads(void) {
    int fd;
    pid_t peer = peer_pair(&echo, &fd);
    starttls_session *session = upgrade(fd, "strict");
    pthread_t thread;
    void *result = NULL;
    size_t have = 0, n;
    char block[10000];
    struct timespec moment = {0, 50000000};

    /* One writes, another reads what comes back. */
    CHECK(pthread_create(&thread, NULL, write_all, session) == 0);
    while (have < BULK && starttls_read(session, block, sizeof block, &n, &error) && n > 0)
        have += n;
    NONE(error);
    CHECK(have == BULK && memchr(block, 'w', 1) == block);
    CHECK(pthread_join(thread, &result) == 0 && result == session);

    /* close wakes who reads. */
    CHECK(pthread_create(&thread, NULL, read_to_the_end, session) == 0);
    nanosleep(&moment, NULL);
    CHECK(starttls_close(session, &error));
    NONE(error);
    CHECK(pthread_join(thread, &result) == 0 && result == session);
    starttls_session_free(session);
    close(fd);
    peer_wait(peer);
}

static void dialled(void) {
    static const struct script silence = {"good", "220 go\r\n", false, SILENCE};
    starttls_policy *policy = policy_of("strict");
    starttls_session *session;
    uint16_t port;
    int fd;
    pid_t peer = peer_port(&silence, 1, &port);

    session = starttls_connect("smtp", "127.0.0.1", port, policy, &error);
    NONE(error);
    fd = starttls_session_fd(session);
    CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);
    CHECK(starttls_close(session, &error));
    starttls_session_free(session);
    CHECK(fcntl(fd, F_GETFD) == -1 && errno == EBADF);
    peer_wait(peer);

    /* Nobody listens there any more. */
    CHECK(starttls_connect("smtp", "127.0.0.1", port, policy, &error) == NULL);
    CHECK(starttls_error_temporary(error) && starttls_error_outcome(error));
    FAILS(error, "io");
    starttls_policy_free(policy);
}

int main(int argc, char **argv) {
    if (argc != 2)
        return 2;
    peer_certs = argv[1];
    snprintf(ca, sizeof ca, "%s/ca.crt", argv[1]);
    signal(SIGPIPE, SIG_DFL);
    a_session(true);
    a_session(false);
    ends();
    in_clear();
    go_ahead();
    nobody_goes_on_in_clear();
    fingerprints();
    forks();
    threads();
    dialled();
    CHECK(signal(SIGPIPE, SIG_DFL) == SIG_DFL);
    return checks_report();
}
