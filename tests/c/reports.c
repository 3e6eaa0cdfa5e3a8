/* TLS reports: events of a session to a collector, and into reports of one's own. usage: reports CERTS_DIR */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <sys/time.h>
#include <sys/un.h>

#include "peer.h"
#include "zone.h"

#define BEGIN 1700006400 /* 2023-11-15, midnight UTC */
#define END (BEGIN + 86399)

static starttls_error *error;

static starttls_reports *reports_of(void) {
    starttls_reports *reports = starttls_reports_new("Example", "tls@sender.test", BEGIN, END, &error);
    NONE(error);
    return reports;
}

static int collector_at(const char *path) {
    struct sockaddr_un address;
    struct timeval limit = {5, 0};
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    memset(&address, 0, sizeof address);
    address.sun_family = AF_UNIX;
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0)
        abort();
    return fd;
}

/* A delivery in clear to a domain that wants reports; its event. */
static char *an_event(const char *socket) {
    static const struct script plain = {"good", "502 what?\r\n", false, ECHO};
    starttls_policy *policy = starttls_policy_new("opportunistic", &error);
    starttls_session *session;
    const char *event;
    char *copy = NULL;
    uint16_t port;
    pid_t peer = peer_port(&plain, 1, &port);
    zone_empty();
    zone_denial = "insecure";
    zone_mx("example.test", "insecure", 10, "mx.example.test");
    zone_loopback("mx.example.test", "insecure");
    zone_txt("_smtp._tls.example.test", "insecure",
             "v=TLSRPTv1; rua=mailto:tls@example.test,https://example.test/tls");
    starttls_policy_set_lookup(policy, zone_look_up, zone, &error);
    starttls_policy_set_port(policy, port, &error);
    if (socket != NULL)
        starttls_policy_set_tlsrpt(policy, socket, &error);
    else
        starttls_policy_set_ask_tlsrpt(policy, &error);
    session = starttls_connect_domain("example.test", policy, &error);
    NONE(error);
    event = starttls_outcome_tlsrpt_event(starttls_session_outcome(session), 0);
    CHECK(event && strstr(event, "starttls-not-supported"));
    if (event)
        strcpy(copy = malloc(strlen(event) + 1), event);
    CHECK(!starttls_outcome_tlsrpt_event(starttls_session_outcome(session), 1));
    starttls_session_free(session);
    starttls_policy_free(policy);
    peer_wait(peer);
    return copy;
}

static void collected(const char *event) {
    char path[100], datagram[4096];
    ssize_t n;
    int fd;
    snprintf(path, sizeof path, "/tmp/starttls-c-%ld", (long)getpid());
    remove(path);
    CHECK(!starttls_tlsrpt_send(path, event, &error));
    FAILS(error, "io");
    fd = collector_at(path);
    CHECK(starttls_tlsrpt_send(path, event, &error));
    NONE(error);
    n = recv(fd, datagram, sizeof datagram - 1, 0);
    CHECK(n > 0);
    datagram[n > 0 ? n : 0] = '\0';
    CHECK(strstr(datagram, "\"dpv\":\"1\",\"d\":\"example.test\""));
    /* connect_domain tells it by itself. */
    free(an_event(path));
    CHECK(recv(fd, datagram, sizeof datagram, 0) > 0);
    close(fd);
    remove(path);
    /* Nobody there is no reason to hold the mail back. */
    free(an_event(path));

    CHECK(!starttls_tlsrpt_send(NULL, event, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_tlsrpt_send(path, "{}", &error));
    FAILS(error, "invalid");
}

static void folded(const char *event) {
    starttls_reports *reports = reports_of();
    size_t n = 7, i;
    const unsigned char *gzip;
    CHECK(starttls_reports_set_unique_id(reports, "mta1", &error));
    CHECK(starttls_reports_set_limit(reports, 1 << 20, &error));
    for (i = 0; i < 3; i++)
        CHECK(starttls_reports_add(reports, event, &error));
    NONE(error);
    /* A line that was cut off, and others; nothing is lost by them. */
    CHECK(!starttls_reports_add(reports, "{\"domain\":\"exa", &error));
    FAILS(error, "invalid");
    CHECK(!starttls_reports_add(reports, NULL, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_reports_set_unique_id(reports, "too late", &error));
    FAILS(error, "invalid");
    CHECK(starttls_reports_domain(reports) == NULL && starttls_reports_json(reports) == NULL);
    CHECK(starttls_reports_gzip(reports, &n) == NULL && n == 0 && starttls_reports_rua(reports, 0) == NULL);

    CHECK(starttls_reports_next(reports, &error));
    NONE(error);
    CHECK(same(starttls_reports_domain(reports), "example.test"));
    CHECK(same(starttls_reports_file_name(reports),
               "sender.test!example.test!1700006400!1700092799!mta1.json.gz"));
    CHECK(strstr(starttls_reports_json(reports), "\"total-failure-session-count\":3"));
    CHECK(strstr(starttls_reports_json(reports), "2023-11-15T00:00:00Z"));
    gzip = starttls_reports_gzip(reports, &n);
    CHECK(gzip && n > 20 && gzip[0] == 0x1f && gzip[1] == 0x8b);
    CHECK(starttls_reports_gzip(reports, NULL) == NULL);
    CHECK(same(starttls_reports_rua(reports, 0), "mailto:tls@example.test"));
    CHECK(same(starttls_reports_rua(reports, 1), "https://example.test/tls"));
    CHECK(starttls_reports_rua(reports, 2) == NULL);
    CHECK(starttls_reports_header(reports, 0) && starttls_reports_header(reports, 3) == NULL);
    CHECK(same(starttls_reports_header(reports, 1), "TLS-Report-Domain: example.test"));
    CHECK(!starttls_reports_add(reports, event, &error)); /* too late */
    FAILS(error, "invalid");
    CHECK(!starttls_reports_next(reports, &error) && starttls_reports_domain(reports) == NULL);
    NONE(error);
    CHECK(!starttls_reports_next(reports, &error) && starttls_reports_dropped(reports) == 0);
    NONE(error);
    starttls_reports_free(reports);

    /* No room. */
    reports = reports_of();
    CHECK(starttls_reports_set_limit(reports, 1, &error) && starttls_reports_add(reports, event, &error));
    CHECK(starttls_reports_dropped(reports) == 1 && !starttls_reports_next(reports, &error));
    CHECK(starttls_reports_dropped(reports) == 1);
    starttls_reports_free(reports);
}

static void wrong(void) {
    CHECK(!starttls_reports_new("", "tls@sender.test", BEGIN, END, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_reports_new("Example", "sender.test", BEGIN, END, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_reports_new("Example", "tls@sender.test", END, BEGIN, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_reports_new("Example", "tls@sender.test", -1, END, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_reports_new("Example", "tls@sender.test", BEGIN, INT64_MAX, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_reports_new(NULL, NULL, BEGIN, END, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_reports_next(NULL, &error) && starttls_reports_dropped(NULL) == 0);
    FAILS(error, "invalid");
    CHECK(!starttls_reports_add(NULL, "{}", &error));
    FAILS(error, "invalid");
    starttls_reports_free(NULL);
    CHECK(starttls_outcome_tlsrpt_event(NULL, 0) == NULL && starttls_outcome_effective(NULL) == NULL);
    CHECK(starttls_outcome_attempt(NULL, 0) == NULL && starttls_outcome_note(NULL, 0) == NULL);
}

int main(int argc, char **argv) {
    char *event;
    if (argc != 2)
        return 2;
    peer_certs = argv[1];
    wrong();
    event = an_event(NULL);
    if (event != NULL) {
        collected(event);
        folded(event);
    }
    free(event);
    return checks_report();
}
