/* The server's side of TLS: which certificate is shown, tickets, reloading, client certificates, versions,
 * ALPN. usage: server_tls CERTS_DIR */
#define _POSIX_C_SOURCE 200809L
#include <openssl/evp.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "serve.h"

static char place[] = "/tmp/starttls-c-XXXXXX", ticket[100];

/* Writes certificate and key of NAME, or one of both, into place/FILE. */
static void put_file(const char *file, const char *crt, const char *key) {
    char text[20000], path[200];
    size_t n = 0;
    FILE *out;
    if (crt)
        n += slurp(crt, text, sizeof text);
    if (key)
        n += slurp(key, text + n, sizeof text - n);
    snprintf(path, sizeof path, "%s/%s", place, file);
    out = fopen(path, "w");
    CHECK(out && fwrite(text, 1, n, out) == n);
    fclose(out);
}

static void remove_file(const char *file) {
    char path[200];
    snprintf(path, sizeof path, "%s/%s", place, file);
    CHECK(remove(path) == 0);
}

/* Each of these names is shown the certificate behind it. */
static void shows(const starttls_policy *policy, const char *const pairs[][2], size_t n) {
    size_t i;
    for (i = 0; i < n; i++) {
        struct client client = plain_client();
        client.sni = pairs[i][0];
        client.shown = pairs[i][1];
        if (!check(serve("smtp", &client, policy) == FINE, "the certificate", __FILE__, __LINE__))
            fprintf(stderr, "    %s\n", client.sni ? client.sni : "no name");
        NONE(error);
    }
}

static void names(void) {
    static const char *const list[][2] = {
        {"mail.example.test", "good"},        {"other.example.test", "wrong-name"},
        {"OTHER.Example.Test", "wrong-name"}, {"third.example.test", "wildcard"},
        {"a.b.example.test", "good"},         {"elsewhere.test", "good"},
        {NULL, "good"},
    };
    static const char *const directory[][2] = {
        {"mail.example.test", "good"},     {"other.example.test", "wrong-name"},
        {"third.example.test", "wildcard"}, {"elsewhere.test", "cn-only"},
        {NULL, "cn-only"},
    };
    static const char *const later[][2] = {{"mail.example.test", "good-rsa"}, {"new.example.net", "idn"}};
    char crt[10000], key[10000], path[600], key_path[600];
    size_t n, m;
    starttls_policy *policy = server_policy("encrypt", "good");
    snprintf(path, sizeof path, "%s/wrong-name.crt", client_certs);
    snprintf(key_path, sizeof key_path, "%s/wrong-name.key", client_certs);
    CHECK(starttls_policy_set_server_cert(policy, path, key_path, &error));
    n = slurp("wildcard.crt", crt, sizeof crt);
    m = slurp("wildcard.key", key, sizeof key);
    CHECK(starttls_policy_set_server_cert_pem(policy, crt, n, key, m, &error));
    NONE(error);
    shows(policy, list, sizeof list / sizeof *list);
    starttls_policy_free(policy);

    put_file("mail.example.test.pem", "good.crt", "good.key");
    put_file("other.example.test.crt", "wrong-name.crt", NULL);
    put_file("other.example.test.key", NULL, "wrong-name.key");
    put_file("_.example.test.pem", "wildcard.crt", "wildcard.key");
    put_file("README", "ca.crt", NULL);
    policy = server_policy("encrypt", "cn-only");
    CHECK(starttls_policy_set_server_cert_dir(policy, place, &error));
    shows(policy, directory, sizeof directory / sizeof *directory);
    put_file("mail.example.test.pem", "good-rsa.crt", "good-rsa.key");
    put_file("new.example.net.pem", "idn.crt", "idn.key");
    shows(policy, directory, 1);
    CHECK(starttls_policy_reload(policy, &error));
    shows(policy, later, 2);

    /* What cannot be read leaves what was read. */
    put_file("mail.example.test.pem", "good.crt", "client.key");
    CHECK(!starttls_policy_reload(policy, &error));
    FAILS(error, "invalid");
    shows(policy, later, 2);
    starttls_policy_free(policy);

    remove_file("mail.example.test.pem");
    remove_file("other.example.test.crt");
    remove_file("other.example.test.key");
    remove_file("new.example.net.pem");
    remove_file("_.example.test.pem");
    policy = server_policy("encrypt", NULL);
    CHECK(starttls_policy_set_server_cert_dir(policy, place, &error));
    CHECK(!starttls_policy_ready(policy, &error));
    FAILS(error, "invalid");
    remove_file("README");
    starttls_policy_free(policy);
}

/* A child serves this client, with the policy that the parent has made. */
static int serve_in_a_child(const struct client *client, const starttls_policy *policy) {
    int fd, status = -1;
    pid_t pid = client_start(client, &fd), child = fork();
    if (child == 0) {
        starttls_session *session = starttls_accept("smtp", fd, NULL, 0, policy, NULL);
        bool fine = session != NULL && echo_once(session);
        starttls_session_free(session);
        _exit(!fine);
    }
    close(fd);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    return client_wait(pid);
}

static void tickets(int version) {
    struct client first = plain_client(), again = plain_client(), live = plain_client();
    starttls_policy *policy, *other;
    starttls_session *session;
    char crt[100], key[100];
    int fd, child;
    pid_t pid;
    put_file("cert", "good.crt", NULL);
    put_file("key", NULL, "good.key");
    snprintf(crt, sizeof crt, "%s/cert", place);
    snprintf(key, sizeof key, "%s/key", place);
    policy = starttls_policy_new("encrypt", &error);
    CHECK(starttls_policy_set_server_cert(policy, crt, key, &error));
    CHECK(starttls_policy_ready(policy, &error));
    first.version = again.version = live.version = version;
    first.save = again.resume = ticket;
    /* A ticket of TLS 1.2 would be the end of forward secrecy: none is given out. */
    again.full = version != TLS1_3_VERSION;

    /* One child gives the ticket out, others take it. */
    CHECK(serve_in_a_child(&first, policy) == FINE);
    for (child = 0; child < 2; child++)
        CHECK(serve_in_a_child(&again, policy) == FINE);

    /* A session that lives while the certificate becomes another, of other names even. */
    live.shown = "good";
    pid = client_start(&live, &fd);
    session = starttls_accept("smtp", fd, NULL, 0, policy, &error);
    put_file("cert", "wildcard.crt", NULL);
    put_file("key", NULL, "wildcard.key");
    CHECK(starttls_policy_reload(policy, &error));
    CHECK(session && echo_once(session));
    starttls_session_free(session);
    close(fd);
    CHECK(client_wait(pid) == FINE);
    CHECK(serve_in_a_child(&again, policy) == FINE);
    live.shown = "wildcard";
    CHECK(serve("smtp", &live, policy) == FINE);
    NONE(error);

    /* But none is good for another policy, and none is given out where a certificate is asked for. */
    other = server_policy("encrypt", "good");
    again.full = true;
    CHECK(serve("smtp", &again, other) == FINE);
    starttls_policy_free(other);
    remove(ticket);
    other = server_policy("encrypt", "good");
    CHECK(starttls_policy_set_ask_client_cert(other, &error));
    CHECK(serve("smtp", &first, other) == FINE);
    {
        FILE *file = fopen(ticket, "r");
        SSL_SESSION *kept = file ? PEM_read_SSL_SESSION(file, NULL, NULL, NULL) : NULL;
        CHECK(kept == NULL || version != TLS1_3_VERSION);
        SSL_SESSION_free(kept);
        if (file)
            fclose(file);
        if (kept)
            CHECK(serve("smtp", &again, other) == FINE);
    }
    NONE(error);
    starttls_policy_free(other);
    starttls_policy_free(policy);
    remove(ticket);
    remove_file("cert");
    remove_file("key");
}

static void fingerprint_of(const char *name, char hex[65]) {
    unsigned char sha256[32];
    unsigned int n = 0;
    char path[600];
    int i;
    FILE *file;
    X509 *certificate;
    snprintf(path, sizeof path, "%s/%s.crt", client_certs, name);
    file = fopen(path, "r");
    certificate = PEM_read_X509(file, NULL, NULL, NULL);
    fclose(file);
    CHECK(X509_digest(certificate, EVP_sha256(), sha256, &n) == 1);
    X509_free(certificate);
    for (i = 0; i < 32; i++)
        snprintf(hex + 2 * i, 3, "%02x", sha256[i]);
}

static void client_certificates(int version) {
    /* In the outcome: what must be in its JSON. */
    static const struct {
        const char *level, *identity, *word, *json;
    } cases[] = {
        {"encrypt", "client", NULL, "\"check\":\"chain\",\"ok\":true"},
        {"encrypt", "client", NULL, "\"subject\":\"O=starttls tests, CN=client.example.test\""},
        {"encrypt", NULL, NULL, "\"certificate\":null"},
        {"encrypt", "unknown-client", NULL, "\"check\":\"chain\",\"ok\":false"},
        {"encrypt", "expired-client", NULL, "\"check\":\"time\",\"ok\":false"},
        {"verify", "client", NULL, "\"proven_by\":\"pkix\""},
        {"verify", NULL, "untrusted", "\"channel\":null"},
        {"verify", "unknown-client", "untrusted", "\"check\":\"chain\",\"ok\":false"},
        {"verify", "expired-client", "expired", "\"check\":\"time\",\"ok\":false"},
        {"verify", "good", "untrusted", "\"check\":\"chain\",\"ok\":false"},
        {"fingerprint", "client", NULL, "\"proven_by\":\"fingerprint\""},
        {"fingerprint", NULL, "fingerprint-mismatch", "\"channel\":null"},
        {"fingerprint", "good", "fingerprint-mismatch", "\"check\":\"fingerprint\",\"ok\":false"},
    };
    char ca[600], hex[65];
    size_t i;
    snprintf(ca, sizeof ca, "%s/ca.crt", client_certs);
    fingerprint_of("client", hex);
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        starttls_policy *policy = server_policy(cases[i].level, "good");
        struct client client = plain_client();
        starttls_session *session;
        const char *json;
        int fd;
        pid_t pid;
        CHECK(starttls_policy_set_ca_file(policy, ca, &error));
        CHECK(starttls_policy_set_ask_client_cert(policy, &error));
        if (strcmp(cases[i].level, "fingerprint") == 0)
            CHECK(starttls_policy_add_fingerprint(policy, hex, &error));
        client.identity = cases[i].identity;
        client.version = version;
        pid = client_start(&client, &fd);
        session = starttls_accept("smtp", fd, NULL, 0, policy, &error);
        json = starttls_outcome_json(session ? starttls_session_outcome(session)
                                             : starttls_error_outcome(error));
        if (!CHECK(json && strstr(json, cases[i].json)))
            fprintf(stderr, "    case %lu: %s\n", (unsigned long)i, json ? json : "");
        CHECK(json && strstr(json, "\"name_from\":null"));
        if (cases[i].word == NULL) {
            CHECK(session && echo_once(session));
            NONE(error);
        } else {
            CHECK(session == NULL && !starttls_error_temporary(error));
            FAILS(error, cases[i].word);
            CHECK(is_shut_down(fd));
        }
        starttls_session_free(session);
        starttls_policy_free(policy);
        close(fd);
        CHECK(client_wait(pid) ==
              (cases[i].word == NULL ? FINE : version == TLS1_3_VERSION ? NO_ECHO : NO_HANDSHAKE));
    }
}

static void versions(void) {
    static const struct {
        int version;
        const char *min, *word;
    } cases[] = {
        {TLS1_1_VERSION, NULL, "handshake"}, {TLS1_2_VERSION, NULL, NULL},
        {TLS1_3_VERSION, NULL, NULL},        {TLS1_2_VERSION, "1.3", "handshake"},
        {TLS1_1_VERSION, "1.0", NULL},
    };
    size_t i;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        starttls_policy *policy = server_policy("encrypt", "good");
        struct client client = plain_client();
        client.version = cases[i].version;
        if (cases[i].min)
            CHECK(starttls_policy_set_min_tls(policy, cases[i].min, &error));
        CHECK(serve("smtp", &client, policy) == (cases[i].word ? NO_HANDSHAKE : FINE));
        if (cases[i].word)
            FAILS(error, cases[i].word);
        NONE(error);
        starttls_policy_free(policy);
    }
}

static void renegotiation(const starttls_policy *policy) {
    struct client client = plain_client();
    starttls_session *session;
    char line[16];
    size_t n;
    int fd;
    pid_t pid;
    client.version = TLS1_2_VERSION;
    client.renegotiates = true;
    pid = client_start(&client, &fd);
    session = starttls_accept("smtp", fd, NULL, 0, policy, &error);
    CHECK(starttls_read(session, line, sizeof line, &n, &error) && n == 6);
    CHECK(starttls_write(session, line, n, &error));
    CHECK(!starttls_read(session, line, sizeof line, &n, &error));
    FAILS(error, "closed"); /* by the client, whom we have told that we do not */
    starttls_session_free(session);
    close(fd);
    CHECK(client_wait(pid) == FINE);
}

static void alpn(const starttls_policy *policy) {
    static const struct {
        const char *word, *said, *heard, *offered, *chosen;
    } cases[] = {
        {"imap", "a STARTTLS\r\n", "a OK Begin TLS negotiation now\r\n", "\4imap", "imap"},
        {"imap", "a STARTTLS\r\n", "a OK Begin TLS negotiation now\r\n", "\2h2\4imap", "imap"},
        {"imap", "a STARTTLS\r\n", "a OK Begin TLS negotiation now\r\n", NULL, NULL},
        {"imap", "a STARTTLS\r\n", "a OK Begin TLS negotiation now\r\n", "\4pop3", "alert"},
        {"imap", "a STARTTLS\r\n", "a OK Begin TLS negotiation now\r\n", "\2h2\10http/1.1", "alert"},
        {"imaps", "", "", "\4imap", "imap"},
        {"imaps", "", "", "\2h2", "alert"},
        {"smtp", "STARTTLS\r\n", "220 2.0.0 Ready to start TLS\r\n", "\2h2", NULL},
    };
    size_t i;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool alert = same(cases[i].chosen, "alert");
        struct client client = plain_client();
        client.said = cases[i].said;
        client.heard = cases[i].heard;
        client.alpn = cases[i].offered;
        client.expects = cases[i].chosen;
        CHECK(serve(cases[i].word, &client, policy) == (alert ? NO_HANDSHAKE : FINE));
        if (alert)
            FAILS(error, "handshake");
        NONE(error);
    }
}

int main(int argc, char **argv) {
    starttls_policy *policy;
    if (argc != 2 || mkdtemp(place) == NULL)
        return 2;
    client_certs = argv[1];
    snprintf(ticket, sizeof ticket, "%s/ticket", place);
    signal(SIGPIPE, SIG_DFL);
    policy = server_policy("encrypt", "good");
    names();
    tickets(TLS1_2_VERSION);
    tickets(TLS1_3_VERSION);
    client_certificates(TLS1_2_VERSION);
    client_certificates(TLS1_3_VERSION);
    versions();
    renegotiation(policy);
    alpn(policy);
    starttls_policy_free(policy);
    rmdir(place);
    return checks_report();
}
