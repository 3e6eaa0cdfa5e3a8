/* The server's side, protocol by protocol: go-ahead, refusal, and what is sent behind a command.
 * usage: accept CERTS_DIR */
#define _POSIX_C_SOURCE 200809L
#include <stdbool.h>

#include "serve.h"

struct bytes {
    const char *text;
    size_t n;
};
#define B(text) { text, sizeof(text) - 1 }
#define TLS_NS "urn:ietf:params:xml:ns:xmpp-tls"
#define LDAP_OID "1.3.6.1.4.1.1466.20037"
#define NOT_NOW "TLS is not available"

/* Every protocol that upgrades; an empty refusal: it has none. Those that this library does not know are
 * skipped, and one that is missing here is a failure. */
static const struct row {
    const char *word;
    struct bytes command, go_ahead, refusal, wrong;
} rows[] = {
    {"smtp", B("STARTTLS\r\n"), B("220 2.0.0 Ready to start TLS\r\n"),
     B("454 4.7.0 TLS not available due to temporary reason\r\n"), B("STARTTLS now\r\n")},
    {"submission", B("starttls\r\n"), B("220 2.0.0 Ready to start TLS\r\n"),
     B("454 4.7.0 TLS not available due to temporary reason\r\n"), B("NOOP\r\n")},
    {"lmtp", B("STARTTLS\n"), B("220 2.0.0 Ready to start TLS\r\n"),
     B("454 4.7.0 TLS not available due to temporary reason\r\n"), B("QUIT\r\n")},
    {"imap", B("a.7 starttls\r\n"), B("a.7 OK Begin TLS negotiation now\r\n"),
     B("a.7 NO [UNAVAILABLE] TLS is not available\r\n"), B("* STARTTLS\r\n")},
    {"pop3", B("STLS\r\n"), B("+OK Begin TLS negotiation\r\n"),
     B("-ERR [SYS/TEMP] TLS is not available\r\n"), B("STARTTLS\r\n")},
    {"sieve", B("STARTTLS\r\n"), B("OK \"Begin TLS negotiation now.\"\r\n"),
     B("NO (TRYLATER) \"TLS is not available.\"\r\n"), B("NOOP\r\n")},
    {"nntp", B("STARTTLS\r\n"), B("382 Continue with TLS negotiation\r\n"),
     B("580 Can not initiate TLS negotiation\r\n"), B("CAPABILITIES\r\n")},
    {"xmpp", B("<starttls xmlns='" TLS_NS "'/>"), B("<proceed xmlns='" TLS_NS "'/>"),
     B("<failure xmlns='" TLS_NS "'/></stream:stream>"), B("<presence/>")},
    {"xmpp-server", B("<starttls xmlns=\"" TLS_NS "\"></starttls>"), B("<proceed xmlns='" TLS_NS "'/>"),
     B("<failure xmlns='" TLS_NS "'/></stream:stream>"), B("<starttls/>")},
    {"irc", B("STARTTLS\r\n"), B(":localhost 670 * :STARTTLS successful, proceed with TLS handshake\r\n"),
     B(":localhost 691 * :STARTTLS failed (TLS is not available)\r\n"), B("NICK me\r\n")},
    {"ftp", B("AUTH TLS\r\n"), B("234 AUTH TLS successful\r\n"), B("431 TLS is not available\r\n"),
     B("AUTH SSL\r\n")},
    {"http", B("OPTIONS * HTTP/1.1\r\nHost: a\r\nUpgrade: TLS/1.0\r\nConnection: Upgrade\r\n\r\n"),
     B("HTTP/1.1 101 Switching Protocols\r\nUpgrade: TLS/1.0, HTTP/1.1\r\nConnection: Upgrade\r\n\r\n"),
     B(""), B("GET / HTTP/1.1\r\nHost: a\r\n\r\n")},
    {"ldap", B("\x30\x1d\x02\x01\x09\x77\x18\x80\x16" LDAP_OID),
     B("\x30\x24\x02\x01\x09\x78\x1f\x0a\x01\x00\x04\x00\x04\x00\x8a\x16" LDAP_OID),
     B("\x30\x38\x02\x01\x09\x78\x33\x0a\x01\x34\x04\x00\x04\x14" NOT_NOW "\x8a\x16" LDAP_OID),
     B("\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00")},
    {"postgres", B("\0\0\0\x08\x04\xd2\x16\x2f"), B("S"), B("N"), B("\0\0\0\x08\x04\xd2\x16\x30")},
    {"mysql", B("\x20\0\0\x01\x05\xaa\x08\0\0\0\0\x01\x2d\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
     B(""), B(""), B("\x01\0\0\x01\x0e")},
    {"telnet", B("\xff\xfa\x2e\x01\xff\xf0"), B("\xff\xfa\x2e\x01\xff\xf0"), B("\xff\xfe\x2e"),
     B("\xff\xfc\x2e")},
};
enum { ROWS = sizeof rows / sizeof *rows };

static bool is_known(const char *word) {
    size_t i;
    for (i = 0; starttls_protocol_name(i) != NULL; i++)
        if (strcmp(starttls_protocol_name(i), word) == 0)
            return true;
    return false;
}

static const struct row *row_of(const char *word) {
    size_t i;
    for (i = 0; i < ROWS; i++)
        if (strcmp(rows[i].word, word) == 0)
            return &rows[i];
    return NULL;
}

static void pair_of(int ends[2]) {
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
}

static void put(int fd, struct bytes bytes) {
    CHECK(send(fd, bytes.text, bytes.n, MSG_NOSIGNAL) == (ssize_t)bytes.n);
}

/* Exactly this has come, and then nothing more. */
static bool came(int fd, struct bytes bytes) {
    char got[300];
    ssize_t n = recv(fd, got, sizeof got, MSG_DONTWAIT);
    return n == (ssize_t)bytes.n && memcmp(got, bytes.text, bytes.n) == 0;
}

static struct client client_of(const struct row *row) {
    struct client client;
    memset(&client, 0, sizeof client);
    client.said = row->command.text;
    client.said_n = row->command.n;
    client.heard = row->go_ahead.text;
    client.heard_n = row->go_ahead.n;
    return client;
}

/* The command is handed over up to so many bytes; the library reads the rest. */
static void goes_ahead(const struct row *row, size_t handed, const starttls_policy *policy) {
    struct client client = client_of(row);
    starttls_session *session;
    const char *json;
    pid_t pid;
    int fd;
    client.said += handed;
    client.said_n -= handed;
    if (client.said_n == 0)
        client.said = "";
    pid = client_start(&client, &fd);
    session = starttls_accept(row->word, fd, row->command.text, handed, policy, &error);
    json = starttls_outcome_json(starttls_session_outcome(session));
    CHECK(json && strstr(json, "\"role\":\"server\"") && strstr(json, "\"channel\":\"tls\""));
    CHECK(starttls_outcome_encrypted(starttls_session_outcome(session)));
    CHECK(session && echo_once(session));
    NONE(error);
    starttls_session_free(session);
    close(fd);
    if (!check(client_wait(pid) == FINE, row->word, __FILE__, __LINE__))
        fprintf(stderr, "    %lu bytes were handed over\n", (unsigned long)handed);
}

/* An event loop's way, whose turns are played here one after the other. */
static void by_steps(const struct row *row, const starttls_policy *policy) {
    struct client client = client_of(row);
    starttls_negotiation *n = starttls_negotiation_accept(row->word, policy, &error);
    starttls_session *session;
    struct pollfd one;
    size_t length, moved;
    char buf[7];
    int result, fd;
    pid_t pid = client_start(&client, &fd);
    CHECK(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    one.fd = fd;
    one.events = POLLIN;
    while (starttls_negotiation_want(n) == STARTTLS_WANT_READ && poll(&one, 1, 10000) == 1) {
        ssize_t some = recv(fd, buf, sizeof buf, 0);
        if (!CHECK(some > 0 && starttls_negotiation_receive(n, buf, (size_t)some, &error)))
            break;
    }
    NONE(error);
    while (starttls_negotiation_want(n) == STARTTLS_WANT_WRITE) {
        const char *output = starttls_negotiation_output(n, &length);
        CHECK(length > 0 && send(fd, output, 1, MSG_NOSIGNAL) == 1);
        CHECK(starttls_negotiation_sent(n, 1, &error));
    }
    /* Bytes of the ClientHello that the loop has read, too, belong to the handshake. */
    if (CHECK(starttls_negotiation_want(n) == STARTTLS_WANT_HANDSHAKE) && poll(&one, 1, 10000) == 1)
        CHECK(recv(fd, buf, 3, 0) == 3 && starttls_negotiation_receive(n, buf, 3, &error));
    session = starttls_negotiation_session(n, fd, &error);
    CHECK(starttls_session_outcome(session) == NULL);
    while ((result = starttls_try_handshake(session, &error)) == STARTTLS_WANT_READ)
        CHECK(poll(&one, 1, 10000) == 1);
    CHECK(result == STARTTLS_DONE && starttls_session_wait_ms(session) == -1);
    NONE(error);
    while ((result = starttls_try_read(session, buf, sizeof buf, &length, &error)) == STARTTLS_WANT_READ)
        CHECK(poll(&one, 1, 10000) == 1);
    CHECK(result == STARTTLS_DONE && length == 6);
    CHECK(starttls_try_write(session, buf, 6, &moved, &error) == STARTTLS_DONE && moved == 6);
    while ((result = starttls_try_read(session, buf, sizeof buf, &length, &error)) == STARTTLS_WANT_READ)
        CHECK(poll(&one, 1, 10000) == 1);
    CHECK(result == STARTTLS_CLOSED && starttls_try_close(session, &error) == STARTTLS_DONE);
    NONE(error);
    starttls_session_free(session);
    starttls_negotiation_free(n);
    close(fd);
    CHECK(client_wait(pid) == FINE);
}

/* What comes behind the command is never obeyed, however it comes (CVE-2011-0411). */
static void injections(const struct row *row, const starttls_policy *policy) {
    static const struct bytes evil = B("RSET\r\nMAIL FROM:<evil@example.test>\r\n");
    struct client client = client_of(row);
    char both[400];
    int ends[2], fd, i;
    pid_t pid;
    size_t n = row->command.n;
    memcpy(both, row->command.text, n);
    memcpy(both + n, evil.text, evil.n);
    for (i = 0; i < 5; i++) {
        bool refused;
        pair_of(ends);
        /* In one send; in the next; handed over; refused, in both ways. */
        if (i == 0 || i == 3)
            CHECK(send(ends[1], both, n + evil.n, 0) > 0);
        if (i == 1 || i == 4)
            put(ends[1], evil);
        refused = i >= 3 && row->refusal.n > 0;
        if (i < 3)
            CHECK(!starttls_accept(row->word, ends[0], both, i == 1 ? n : i == 2 ? n + evil.n : 0,
                                   policy, &error));
        else
            CHECK(!starttls_refuse(row->word, ends[0], both, i == 4 ? n : 0, policy, &error));
        CHECK(starttls_error_temporary(error) == false);
        FAILS(error, i < 3 || refused ? "injected" : "unsupported");
        if (i < 3 || refused) {
            CHECK(is_shut_down(ends[0]) && fcntl(ends[0], F_GETFD) != -1);
            CHECK(recv(ends[1], both + n, 1, MSG_DONTWAIT) == 0); /* nothing was answered */
            memcpy(both + n, evil.text, 1);
        }
        close(ends[0]);
        close(ends[1]);
    }
    client.injected = evil.text;
    pid = client_start(&client, &fd);
    CHECK(!starttls_accept(row->word, fd, NULL, 0, policy, &error));
    FAILS(error, "injected");
    CHECK(is_shut_down(fd));
    close(fd);
    CHECK(client_wait(pid) == FINE);
}

static void refusals(const struct row *row, const starttls_policy *policy) {
    static const struct bytes next = B("QUIT\r\n"), bye = B("500 no\r\n");
    size_t handed;
    int ends[2];
    if (row->refusal.n == 0) {
        pair_of(ends);
        CHECK(!starttls_refuse(row->word, ends[0], NULL, 0, policy, &error));
        FAILS(error, "unsupported");
        put(ends[0], bye);
        CHECK(came(ends[1], bye));
        close(ends[0]);
        close(ends[1]);
        return;
    }
    for (handed = 0; handed <= row->command.n; handed += row->command.n / 2) {
        struct bytes rest;
        rest.text = row->command.text + handed;
        rest.n = row->command.n - handed;
        pair_of(ends);
        put(ends[1], rest);
        CHECK(starttls_refuse(row->word, ends[0], row->command.text, handed, policy, &error));
        NONE(error);
        CHECK(came(ends[1], row->refusal));
        /* It stays the caller's, in clear. */
        put(ends[1], next);
        CHECK(came(ends[0], next));
        put(ends[0], bye);
        CHECK(came(ends[1], bye));
        close(ends[0]);
        close(ends[1]);
    }
}

/* Something else than the command, to which the caller can still answer. */
static void wrong_commands(const struct row *row, const starttls_policy *policy) {
    static const struct bytes bye = B("500 no\r\n");
    int ends[2], i;
    for (i = 0; i < 2; i++) {
        pair_of(ends);
        if (i == 0)
            put(ends[1], row->wrong);
        CHECK(!starttls_accept(row->word, ends[0], row->wrong.text, i == 0 ? 0 : row->wrong.n, policy,
                               &error));
        CHECK(starttls_error_outcome(error));
        FAILS(error, "malformed");
        put(ends[0], bye);
        CHECK(came(ends[1], bye));
        put(ends[1], bye);
        CHECK(came(ends[0], bye));
        close(ends[0]);
        close(ends[1]);
    }
    /* The end instead of the rest of the command. */
    pair_of(ends);
    close(ends[1]);
    CHECK(!starttls_accept(row->word, ends[0], row->command.text, 1, policy, &error));
    CHECK(starttls_error_temporary(error));
    FAILS(error, "closed");
    close(ends[0]);
}

/* TLS from the first byte: what the caller has read is the ClientHello. */
static void implicit(const char *word, const starttls_policy *policy) {
    static const size_t handed[] = {0, 1, 5, 60};
    static const struct bytes clear = B("EHLO client\r\n");
    struct client client;
    starttls_session *session;
    char hello[60];
    int fd, ends[2];
    size_t i;
    memset(&client, 0, sizeof client);
    client.said = client.heard = "";
    for (i = 0; i < sizeof handed / sizeof *handed; i++) {
        pid_t pid = client_start(&client, &fd);
        CHECK(recv(fd, hello, handed[i], MSG_WAITALL) == (ssize_t)handed[i]);
        session = starttls_accept(word, fd, hello, handed[i], policy, &error);
        CHECK(session && echo_once(session));
        NONE(error);
        starttls_session_free(session);
        close(fd);
        CHECK(client_wait(pid) == FINE);
    }
    for (i = 0; i < 2; i++) {
        pair_of(ends);
        if (i == 0)
            put(ends[1], clear);
        CHECK(!starttls_accept(word, ends[0], clear.text, i == 0 ? 0 : clear.n, policy, &error));
        FAILS(error, "malformed");
        CHECK(is_shut_down(ends[0]));
        close(ends[0]);
        close(ends[1]);
    }
    CHECK(!starttls_refuse(word, 0, NULL, 0, policy, &error));
    FAILS(error, "invalid");
}

static void every_protocol(const starttls_policy *policy) {
    size_t i;
    for (i = 0; starttls_protocol_name(i) != NULL; i++) {
        const char *word = starttls_protocol_name(i);
        const struct row *row = row_of(word);
        if (row == NULL) {
            /* What is not here upgrades nothing: `smtps` and so on. */
            implicit(word, policy);
            continue;
        }
        goes_ahead(row, 0, policy);
        goes_ahead(row, 1, policy);
        goes_ahead(row, row->command.n / 2, policy);
        goes_ahead(row, row->command.n, policy);
        by_steps(row, policy);
        injections(row, policy);
        refusals(row, policy);
        wrong_commands(row, policy);
    }
    for (i = 0; i < ROWS; i++)
        if (!is_known(rows[i].word))
            fprintf(stderr, "left out: %s, which this library does not know\n", rows[i].word);
}

int main(int argc, char **argv) {
    starttls_policy *policy;
    if (argc != 2)
        return 2;
    client_certs = argv[1];
    signal(SIGPIPE, SIG_DFL);
    policy = server_policy("encrypt", "good");
    CHECK(starttls_policy_ready(policy, &error));
    every_protocol(policy);
    starttls_policy_free(policy);
    return checks_report();
}
