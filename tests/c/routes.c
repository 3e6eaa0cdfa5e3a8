/* The hosts of a domain, and connecting to it, with DNS from a table in this program.
 * usage: routes CERTS_DIR */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include "peer.h"
#include "tlsa.h"
#include "zone.h"

static starttls_error *error;
static char ca[600];

static starttls_policy *policy_of(const char *level) {
    starttls_policy *policy = starttls_policy_new(level, &error);
    starttls_policy_set_ca_file(policy, ca, &error);
    starttls_policy_set_timeout(policy, 20000, &error);
    starttls_policy_set_client_name(policy, "client.example.test", &error);
    starttls_policy_set_lookup(policy, zone_look_up, zone, &error);
    NONE(error);
    return policy;
}

/* A domain with two hosts in signed DNS: mx1 (10) and mx2 (20). */
static void two_hosts(const char *proof) {
    zone_empty();
    zone_mx("example.test", proof, 20, "mx2.example.test");
    zone_mx("example.test", proof, 10, "MX1.example.test");
    zone_loopback("mx1.example.test", "secure");
    zone_loopback("mx2.example.test", "secure");
}

static void walks(void) {
    starttls_policy *policy = policy_of("opportunistic");
    starttls_routes *routes;
    const starttls_policy *of_route;
    two_hosts("secure");
    routes = starttls_routes_find("example.test", policy, &error);
    NONE(error);
    CHECK(starttls_routes_left(routes) == 2 && zone_asked == 1);
    /* Nothing is looked up for a host before its turn. */
    CHECK(starttls_routes_host(routes) == NULL && starttls_routes_port(routes) == 0);
    CHECK(starttls_routes_address(routes, 0) == NULL && starttls_routes_policy(routes) == NULL);

    CHECK(starttls_routes_next(routes, &error));
    NONE(error);
    CHECK(same(starttls_routes_host(routes), "mx1.example.test") && starttls_routes_port(routes) == 25);
    CHECK(same(starttls_routes_address(routes, 0), "127.0.0.1") && !starttls_routes_address(routes, 1));
    CHECK(zone_last_time <= 20000);
    of_route = starttls_routes_policy(routes);
    CHECK(of_route == starttls_routes_policy(routes));
    /* It is lent: nobody else frees or changes it, and what is derived from it stays. */
    starttls_policy_free((starttls_policy *)of_route);
    CHECK(starttls_policy_ready(of_route, &error));
    {
        starttls_policy *mine = starttls_policy_derive(of_route, &error);
        CHECK(starttls_policy_set_timeout(mine, 1000, &error));
        CHECK(starttls_routes_next(routes, &error) && starttls_policy_ready(mine, &error));
        NONE(error);
        starttls_policy_free(mine);
    }
    CHECK(!starttls_policy_set_timeout((starttls_policy *)starttls_routes_policy(routes), 1, &error));
    FAILS(error, "invalid");
    CHECK(same(starttls_routes_host(routes), "mx2.example.test") && starttls_routes_left(routes) == 0);
    CHECK(!starttls_routes_next(routes, &error));
    NONE(error);
    CHECK(starttls_routes_host(routes) == NULL && !starttls_routes_next(routes, &error));
    NONE(error);
    starttls_policy_free(policy);
    starttls_routes_free(routes);
    starttls_routes_free(NULL);
}

/* A look-up that asks the routes for which it is made gets no answer, and does not wait for itself. */
static starttls_routes *asked_for;
static bool look_up_that_asks(const char *name, uint16_t type, int milliseconds, starttls_answer *answer,
                              void *userdata) {
    if (asked_for != NULL) {
        starttls_error *inner = NULL;
        CHECK(starttls_routes_left(asked_for) == 0 && starttls_routes_host(asked_for) == NULL);
        CHECK(!starttls_routes_next(asked_for, &inner));
        FAILS(inner, "invalid");
    }
    return zone_look_up(name, type, milliseconds, answer, userdata);
}

static void asked_by_itself(void) {
    starttls_policy *policy = policy_of("opportunistic");
    two_hosts("secure");
    starttls_policy_set_lookup(policy, look_up_that_asks, zone, &error);
    asked_for = NULL;
    asked_for = starttls_routes_find("example.test", policy, &error);
    CHECK(starttls_routes_next(asked_for, &error));
    NONE(error);
    CHECK(same(starttls_routes_host(asked_for), "mx1.example.test"));
    starttls_routes_free(asked_for);
    starttls_policy_free(policy);
}

/* A host whose TLSA records cannot be had is skipped, and told of; the next one has its turn. */
static void skipped(void) {
    starttls_policy *policy = policy_of("opportunistic");
    starttls_routes *routes;
    starttls_error *before;
    two_hosts("secure");
    zone_add("_25._tcp.mx1.example.test", TLSA, "fails", "", 0);
    routes = starttls_routes_find("example.test", policy, &error);
    CHECK(!starttls_routes_next(routes, &error) && error != NULL);
    CHECK(starttls_error_temporary(error) && starttls_routes_host(routes) == NULL);
    CHECK(strstr(starttls_error_message(error), "SERVFAIL \\u{1} of the script"));
    CHECK(same(starttls_outcome_host(starttls_error_outcome(error)), "mx1.example.test"));
    CHECK(starttls_routes_left(routes) == 1);
    before = error;
    CHECK(!starttls_routes_next(routes, &error) && error == before); /* as everywhere */
    CHECK(starttls_routes_left(routes) == 1);
    FAILS(error, "lookup-failed");
    CHECK(starttls_routes_next(routes, &error));
    NONE(error);
    CHECK(same(starttls_routes_host(routes), "mx2.example.test"));
    starttls_routes_free(routes);

    /* Who does not ask gets the next that will do. */
    routes = starttls_routes_find("example.test", policy, &error);
    CHECK(starttls_routes_next(routes, NULL) && same(starttls_routes_host(routes), "mx2.example.test"));
    CHECK(!starttls_routes_next(routes, NULL));
    starttls_routes_free(routes);
    starttls_policy_free(policy);
}

static void no_routes(void) {
    starttls_policy *policy = policy_of("opportunistic"), *one = starttls_policy_derive(policy, &error);
    zone_empty();
    zone_mx("null.example.test", "secure", 0, "");
    zone_add("broken.example.test", MX, "fails", "", 0);
    zone_add("forged.example.test", MX, "bogus", "\0\12\0", 3);
    zone_add("malformed.example.test", MX, "secure", "\0", 1);
    CHECK(!starttls_routes_find("null.example.test", policy, &error) && !starttls_error_temporary(error));
    FAILS(error, "null-mx");
    CHECK(!starttls_connect_domain("null.example.test", policy, &error));
    FAILS(error, "null-mx");
    CHECK(!starttls_routes_find("broken.example.test", policy, &error) && starttls_error_temporary(error));
    FAILS(error, "lookup-failed");
    CHECK(!starttls_routes_find("forged.example.test", policy, &error));
    FAILS(error, "dns-bogus");
    CHECK(!starttls_routes_find("malformed.example.test", policy, &error));
    FAILS(error, "lookup-failed");
    CHECK(!starttls_routes_find("a b", policy, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_routes_find(NULL, policy, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_routes_find("example.test", NULL, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_routes_find_service("nonsense", "example.test", policy, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_connect_service(NULL, "example.test", policy, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_routes_next(NULL, &error) && starttls_routes_left(NULL) == 0);
    FAILS(error, "invalid");
    CHECK(!starttls_routes_host(NULL) && !starttls_routes_policy(NULL));
    CHECK(!starttls_routes_next((starttls_routes *)policy, &error));
    FAILS(error, "invalid");
    /* What is one host's. */
    starttls_policy_set_address(one, "127.0.0.1", &error);
    CHECK(!starttls_connect_domain("example.test", one, &error));
    FAILS(error, "invalid");
    starttls_policy_free(one);
    starttls_policy_free(policy);
}

/* --- connections ------------------------------------------------------------------------------------- */

/* By DANE: mx1 shows the wrong key, mx2 the right one. Both are the same server. */
static void second_host(const char *certs) {
    static const struct script script = {"self-signed", "220 go\r\n", false, ECHO};
    unsigned char right[32], wrong[32];
    starttls_policy *policy = policy_of("dane-only");
    const starttls_outcome *outcome, *first;
    starttls_session *session;
    uint16_t port;
    pid_t peer = peer_port(&script, 2, &port);
    tlsa_of(certs, "self-signed", right);
    tlsa_of(certs, "good", wrong);
    two_hosts("secure");
    zone_tlsa("_25._tcp.mx1.example.test", "secure", wrong);
    zone_tlsa("_25._tcp.mx2.example.test", "secure", right);
    zone_txt("_smtp._tls.example.test", "secure", "v=TLSRPTv1; rua=mailto:tls@example.test");
    starttls_policy_set_port(policy, port, &error);
    starttls_policy_set_tlsa_port(policy, 25, &error);
    starttls_policy_set_ask_tlsrpt(policy, &error);
    session = starttls_connect_domain("example.test", policy, &error);
    NONE(error);
    outcome = starttls_session_outcome(session);
    CHECK(same(starttls_outcome_host(outcome), "mx2.example.test"));
    CHECK(same(starttls_outcome_identity(outcome), "dane"));
    CHECK(same(starttls_outcome_name_from(outcome), "dnssec"));
    CHECK(same(starttls_outcome_check(outcome, "dane"), "ok"));
    CHECK(same(starttls_outcome_check(outcome, "chain"), "failed"));
    CHECK(!starttls_outcome_check(outcome, "Dane") && !starttls_outcome_check(outcome, NULL));
    first = starttls_outcome_attempt(outcome, 0);
    CHECK(first == starttls_outcome_attempt(outcome, 0) && !starttls_outcome_attempt(outcome, 1));
    CHECK(same(starttls_outcome_host(first), "mx1.example.test"));
    CHECK(same(starttls_outcome_error_word(first), "dane-mismatch"));
    CHECK(same(starttls_outcome_check(first, "dane"), "failed"));
    CHECK(starttls_outcome_json(first) && strstr(starttls_outcome_json(outcome), starttls_outcome_json(first)));
    CHECK(!starttls_outcome_attempt(first, 0));
    starttls_outcome_free((starttls_outcome *)first); /* is not the caller's */
    CHECK(same(starttls_outcome_error_word(first), "dane-mismatch"));
    /* One event for each session. */
    CHECK(starttls_outcome_tlsrpt_event(outcome, 0) &&
          strstr(starttls_outcome_tlsrpt_event(outcome, 0), "certificate-host-mismatch"));
    CHECK(starttls_outcome_tlsrpt_event(outcome, 1) &&
          strstr(starttls_outcome_tlsrpt_event(outcome, 1), "mx2.example.test"));
    CHECK(starttls_outcome_tlsrpt_event(outcome, 2) == NULL);
    starttls_session_free(session);
    starttls_policy_free(policy);
    peer_wait(peer);
}

/* A route's policy with a socket of one's own, by the host's records. */
static void own_socket(const char *certs) {
    static const struct script script = {"wrong-name", "220 go\r\n", false, ECHO};
    unsigned char key[32];
    starttls_policy *policy = policy_of("dane-only");
    starttls_routes *routes;
    starttls_session *session;
    starttls_negotiation *n;
    int fd;
    pid_t peer = peer_pair(&script, &fd);
    tlsa_of(certs, "wrong-name", key);
    two_hosts("secure");
    zone_tlsa("_25._tcp.mx1.example.test", "secure", key);
    routes = starttls_routes_find("example.test", policy, &error);
    starttls_policy_free(policy);
    CHECK(starttls_routes_next(routes, &error));
    zone_asked = 0;
    n = starttls_negotiation_new("smtp", starttls_routes_host(routes), "greeting",
                                 starttls_routes_policy(routes), &error);
    NONE(error);
    starttls_negotiation_free(n);
    session = starttls_upgrade("smtp", fd, starttls_routes_host(routes), "greeting", NULL, 0,
                               starttls_routes_policy(routes), &error);
    NONE(error);
    CHECK(zone_asked == 0); /* all of it was done */
    starttls_routes_free(routes);
    CHECK(same(starttls_outcome_identity(starttls_session_outcome(session)), "dane"));
    CHECK(strstr(starttls_outcome_json(starttls_session_outcome(session)), "\"tlsa\""));
    starttls_session_free(session);
    close(fd);
    peer_wait(peer);
}

/* All hosts fail: the error tells of all, and is one that may mend itself if any may. */
static void all_fail(void) {
    static const struct script no = {"good", "454 later\r\n", false, ECHO};
    static const struct script good = {"good", "220 go\r\n", false, ECHO};
    starttls_policy *policy = policy_of("strict");
    uint16_t port;
    pid_t peer = peer_port(&no, 2, &port);
    two_hosts("secure");
    starttls_policy_set_port(policy, port, &error);
    CHECK(!starttls_connect_domain("example.test", policy, &error) && starttls_error_temporary(error));
    CHECK(strstr(starttls_error_message(error), "mx1.example.test"));
    CHECK(strstr(starttls_error_message(error), "mx2.example.test"));
    CHECK(starttls_outcome_attempt(starttls_error_outcome(error), 0));
    FAILS(error, "refused");
    starttls_policy_free(policy);
    peer_wait(peer);

    /* Unsigned MX records: strict does not believe them, whatever certificate the host has. */
    policy = policy_of("strict");
    zone_empty();
    zone_mx("example.test", "insecure", 10, "mail.example.test");
    zone_loopback("mail.example.test", "secure");
    peer = peer_port(&good, 1, &port);
    starttls_policy_set_port(policy, port, &error);
    CHECK(!starttls_connect_domain("example.test", policy, &error));
    CHECK(same(starttls_outcome_check(starttls_error_outcome(error), "name"), "ok"));
    CHECK(same(starttls_outcome_name_from(starttls_error_outcome(error)), "insecure-dns"));
    FAILS(error, "name-insecure");
    starttls_policy_free(policy);
    peer_wait(peer);
}

static void services(const char *certs) {
    static const struct script script = {"good", "220 go\r\n", false, ECHO};
    starttls_policy *policy = policy_of("verify");
    starttls_session *session;
    starttls_routes *routes;
    uint16_t port;
    pid_t peer = peer_port(&script, 1, &port);
    (void)certs;
    zone_empty();
    /* The certificate is for the domain, whatever the host is called. */
    zone_srv("_submission._tcp.mail.example.test", "insecure", port, "host.example.test");
    zone_loopback("host.example.test", "insecure");
    routes = starttls_routes_find_service("submission", "mail.example.test", policy, &error);
    CHECK(starttls_routes_next(routes, &error) && starttls_routes_port(routes) == port);
    NONE(error);
    CHECK(same(starttls_routes_host(routes), "mail.example.test"));
    starttls_routes_free(routes);
    session = starttls_connect_service("submission", "mail.example.test", policy, &error);
    NONE(error);
    CHECK(same(starttls_outcome_identity_name(starttls_session_outcome(session)), "mail.example.test"));
    starttls_session_free(session);
    starttls_policy_free(policy);
    peer_wait(peer);
}

static void surveys(void) {
    starttls_policy *policy = policy_of("may");
    starttls_survey *survey;
    two_hosts("secure");
    zone_txt("_smtp._tls.example.test", "secure", "v=TLSRPTv1; rua=mailto:tls@example.test");
    zone_add("_mta-sts.example.test", TXT, "fails", "", 0);
    survey = starttls_survey_of("example.test", policy, &error);
    NONE(error);
    CHECK(starttls_survey_json(survey) && strstr(starttls_survey_json(survey), "mx2.example.test"));
    CHECK(strstr(starttls_survey_json(survey), "mailto:tls@example.test"));
    starttls_survey_free(survey);
    starttls_survey_free(NULL);
    CHECK(starttls_survey_json(NULL) == NULL);
    CHECK(!starttls_survey_of(NULL, policy, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_survey_of("..", policy, &error));
    FAILS(error, "invalid");
    starttls_policy_free(policy);
}

int main(int argc, char **argv) {
    if (argc != 2)
        return 2;
    peer_certs = argv[1];
    snprintf(ca, sizeof ca, "%s/ca.crt", argv[1]);
    walks();
    asked_by_itself();
    skipped();
    no_routes();
    second_host(argv[1]);
    own_socket(argv[1]);
    all_fail();
    services(argv[1]);
    surveys();
    return checks_report();
}
