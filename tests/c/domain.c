/* What a policy is told of the peer's domain: TLSA records against a scripted server, at all levels, and every
 * setter with what it must refuse. usage: domain CERTS_DIR */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <sys/stat.h>

#include "peer.h"
#include "tlsa.h"

#define HOST "mail.example.test"

static starttls_error *error;
static char ca[600];

static starttls_policy *policy_of(const char *level) {
    starttls_policy *policy = starttls_policy_new(level, &error);
    starttls_policy_set_ca_file(policy, ca, &error);
    starttls_policy_set_timeout(policy, 20000, &error);
    NONE(error);
    return policy;
}

/* A setter that is refused: with this word, which then is what the policy is good for. */
#define SPOILS(call, word)                                                                                 \
    do {                                                                                                   \
        starttls_policy *p = policy_of("dane");                                                            \
        CHECK(!(call));                                                                                    \
        FAILS(error, word);                                                                                \
        CHECK(!starttls_policy_ready(p, &error));                                                          \
        FAILS(error, word);                                                                                \
        CHECK(!starttls_policy_set_port(p, 25, &error));                                                   \
        FAILS(error, word);                                                                                \
        starttls_policy_free(p);                                                                           \
    } while (0)

static void refused(const char *certs) {
    char path[700];
    SPOILS(starttls_policy_add_tlsa(p, 259, 1, 1, "x", 1, &error), "invalid");
    SPOILS(starttls_policy_add_tlsa(p, 3, 256, 1, "x", 1, &error), "invalid");
    SPOILS(starttls_policy_add_tlsa(p, 3, 1, 1u << 31, "x", 1, &error), "invalid");
    SPOILS(starttls_policy_add_tlsa(p, 3, 1, 1, NULL, 1, &error), "invalid");
    SPOILS(starttls_policy_set_tlsa_proof(p, "sceure", &error), "invalid");
    SPOILS(starttls_policy_set_tlsa_proof(p, "", &error), "invalid");
    SPOILS(starttls_policy_set_tlsa_proof(p, NULL, &error), "invalid");
    SPOILS(starttls_policy_set_tlsa_port(p, 0, &error), "invalid");
    SPOILS(starttls_policy_set_port(p, 0, &error), "invalid");
    SPOILS(starttls_policy_set_sts_port(p, 0, &error), "invalid");
    SPOILS(starttls_policy_set_resolver(p, "", &error), "invalid");
    SPOILS(starttls_policy_set_resolver(p, "dns.example.test", &error), "invalid");
    SPOILS(starttls_policy_set_resolver(p, "127.0.0.1 trust", &error), "invalid");
    SPOILS(starttls_policy_set_resolver(p, NULL, &error), "invalid");
    SPOILS(starttls_policy_set_lookup(p, NULL, NULL, &error), "invalid");
    SPOILS(starttls_policy_set_cache(p, "memroy", &error), "invalid");
    SPOILS(starttls_policy_set_cache(p, NULL, &error), "invalid");
    SPOILS(starttls_policy_set_cache_callbacks(p, NULL, NULL, NULL, NULL, &error), "invalid");
    SPOILS(starttls_policy_set_destinations(p, "/nowhere/at/all", &error), "invalid");
    SPOILS(starttls_policy_set_destinations(p, NULL, &error), "invalid");
    snprintf(path, sizeof path, "%s/ca.crt", certs); /* no table */
    SPOILS(starttls_policy_set_destinations(p, path, &error), "invalid");
    memset(path, 'x', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    SPOILS(starttls_policy_set_tlsrpt(p, path, &error), "invalid");
    SPOILS(starttls_policy_set_tlsrpt(p, NULL, &error), "invalid");
}

/* Where a NULL is, and a policy that is in use. */
static void nobody_there(void) {
    starttls_policy *policy = policy_of("opportunistic"), *spoiled;
    CHECK(!starttls_policy_add_tlsa(NULL, 3, 1, 1, "x", 1, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_policy_set_ask_tlsrpt(NULL, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_policy_forget(NULL, HOST, &error));
    FAILS(error, "invalid");
    CHECK(starttls_policy_set_ask_tlsrpt(policy, &error) && starttls_policy_ready(policy, &error));
    NONE(error);
    CHECK(!starttls_policy_set_cache(policy, "memory", &error)); /* frozen, and now spoiled */
    FAILS(error, "invalid");
    CHECK(!starttls_policy_ready(policy, &error));
    FAILS(error, "invalid");
    starttls_policy_free(policy);

    /* Nobody heard of the first error. */
    spoiled = policy_of("dane");
    CHECK(!starttls_policy_set_tlsa_proof(spoiled, "sceure", NULL));
    CHECK(starttls_policy_derive(spoiled, &error) == NULL);
    CHECK(strstr(starttls_error_message(error), "indeterminate"));
    FAILS(error, "invalid");
    starttls_policy_free(spoiled);

    policy = policy_of("strict");
    CHECK(!starttls_policy_forget(policy, HOST, &error)); /* it has no cache */
    FAILS(error, "invalid");
    CHECK(!starttls_policy_forget(policy, "a b", &error));
    FAILS(error, "invalid");
    starttls_policy_free(policy);
}

/* A table of destinations, with a fault in its second line, and without. */
static void destinations(const char *out) {
    char path[700];
    FILE *file;
    starttls_policy *policy = policy_of("may");
    snprintf(path, sizeof path, "%s/destinations-%ld", out, (long)getpid());
    file = fopen(path, "w");
    fputs("# a comment\nexample.org vreify\n", file);
    fclose(file);
    CHECK(!starttls_policy_set_destinations(policy, path, &error));
    CHECK(error && strstr(starttls_error_message(error), "2") && strstr(starttls_error_message(error), "vreify"));
    FAILS(error, "invalid");
    starttls_policy_free(policy);

    /* What the row of a host says replaces the level. */
    file = fopen(path, "w");
    fputs("[" HOST "] verify\n", file);
    fclose(file);
    {
        static const struct script plain = {"good", "502 no\r\n", false, ECHO};
        int fd;
        pid_t peer = peer_pair(&plain, &fd);
        policy = policy_of("may");
        CHECK(starttls_policy_set_destinations(policy, path, &error));
        CHECK(!starttls_upgrade("smtp", fd, HOST, "greeting", NULL, 0, policy, &error));
        CHECK(same(starttls_outcome_effective(starttls_error_outcome(error)), "verify"));
        FAILS(error, "refused");
        starttls_policy_free(policy);
        close(fd);
        peer_wait(peer);
    }
    remove(path);
}

/* --- TLSA records against a server ------------------------------------------------------------------ */

struct with_records {
    const char *certificate, *level, *proof;
    const char *record; /* 3 1 1 of this certificate; NULL: none */
    unsigned int usage;
    const char *word; /* of the error */
    const char *effective, *proven_by, *dane;
};

static void one(const char *certs, const struct with_records *c) {
    struct script script = {"", "220 go\r\n", false, ECHO};
    unsigned char sha256[32];
    starttls_policy *all = policy_of(c->level), *policy = starttls_policy_derive(all, &error);
    const starttls_outcome *outcome;
    starttls_session *session;
    int fd;
    pid_t peer;
    starttls_policy_free(all);
    if (c->record != NULL) {
        tlsa_of(certs, c->record, sha256);
        CHECK(starttls_policy_add_tlsa(policy, c->usage, 1, 1, sha256, sizeof sha256, &error));
    }
    if (c->proof != NULL)
        CHECK(starttls_policy_set_tlsa_proof(policy, c->proof, &error));
    NONE(error);
    script.certificate = c->certificate;
    peer = peer_pair(&script, &fd);
    session = starttls_upgrade("smtp", fd, HOST, "greeting", NULL, 0, policy, &error);
    if (!CHECK((session == NULL) == (c->word != NULL)))
        fprintf(stderr, "    %s at %s, %s, record of %s\n", c->certificate, c->level, c->proof ? c->proof : "-",
                c->record ? c->record : "none");
    outcome = session ? starttls_session_outcome(session) : starttls_error_outcome(error);
    if (c->effective != NULL && !CHECK(same(starttls_outcome_effective(outcome), c->effective)))
        fprintf(stderr, "    %s: %s\n", c->level, starttls_outcome_effective(outcome));
    if (c->dane != NULL)
        CHECK(same(starttls_outcome_check(outcome, "dane"), c->dane));
    if (c->word != NULL) {
        CHECK(same(starttls_outcome_error_word(outcome), c->word) || outcome == NULL);
        FAILS(error, c->word);
    } else {
        NONE(error);
        CHECK(c->proven_by ? same(starttls_outcome_identity(outcome), c->proven_by)
                           : starttls_outcome_identity(outcome) == NULL);
        CHECK(same(starttls_outcome_host(outcome), HOST));
        CHECK(same(starttls_outcome_name_from(outcome), "caller"));
        CHECK(starttls_outcome_check(outcome, "fingerprint") == NULL);
        CHECK(starttls_outcome_check(outcome, "sts") == NULL);
        CHECK(starttls_outcome_error_word(outcome) == NULL && starttls_outcome_error_message(outcome) == NULL);
    }
    starttls_session_free(session);
    starttls_policy_free(policy);
    close(fd);
    peer_wait(peer);
}

static void records(const char *certs) {
    static const struct with_records cases[] = {
        {"good", "dane", "secure", "good", 3, NULL, "dane", "dane", "ok"},
        {"good", "dane-only", "secure", "good", 3, NULL, "dane", "dane", "ok"},
        {"good", "opportunistic", "secure", "good", 3, NULL, "dane", "dane", "ok"},
        {"good", "strict", "secure", "good", 3, NULL, "dane", "dane", "ok"},
        /* DANE-EE asks for no name, no date and no CA (RFC 7672 section 3.1.1). */
        {"self-signed", "dane-only", "secure", "self-signed", 3, NULL, "dane", "dane", "ok"},
        {"expired", "strict", "secure", "expired", 3, NULL, "dane", "dane", "ok"},
        {"wrong-name", "dane", "secure", "wrong-name", 3, NULL, "dane", "dane", "ok"},
        /* The wrong key. */
        {"good", "dane", "secure", "self-signed", 3, "dane-mismatch", "dane", NULL, "failed"},
        {"good", "dane-only", "secure", "self-signed", 3, "dane-mismatch", "dane", NULL, "failed"},
        {"good", "opportunistic", "secure", "self-signed", 3, "dane-mismatch", "dane", NULL, "failed"},
        {"good", "strict", "secure", "self-signed", 3, "dane-mismatch", "dane", NULL, "failed"},
        /* None can be used. */
        {"unknown-ca", "dane", "secure", "good", 1, NULL, "encrypt", NULL, NULL},
        {"unknown-ca", "opportunistic", "secure", "good", 1, NULL, "encrypt", NULL, NULL},
        {"good", "dane-only", "secure", "good", 1, "no-dane", NULL, NULL, NULL},
        {"good", "strict", "secure", "good", 1, NULL, "verify", "pkix", NULL},
        {"unknown-ca", "strict", "secure", "good", 1, "untrusted", "verify", NULL, NULL},
        /* There are none, or nobody proves them. */
        {"good", "dane", "secure", NULL, 0, NULL, "may", "pkix", NULL},
        {"good", "dane-only", "secure", NULL, 0, "no-dane", NULL, NULL, NULL},
        {"self-signed", "dane", "insecure", "good", 3, NULL, "may", NULL, NULL},
        {"self-signed", "opportunistic", "indeterminate", "good", 3, NULL, "may", NULL, NULL},
        {"good", "strict", "insecure", "self-signed", 3, NULL, "verify", "pkix", NULL},
        {"good", "dane-only", "insecure", "good", 3, "no-dane", NULL, NULL, NULL},
        /* A look-up that fails is never "there are none". */
        {"good", "dane", "failed", NULL, 0, "lookup-failed", NULL, NULL, NULL},
        {"good", "opportunistic", "failed", NULL, 0, "lookup-failed", NULL, NULL, NULL},
        {"good", "strict", "bogus", "good", 3, "dns-bogus", NULL, NULL, NULL},
        /* They make no sense there, or want their proof. */
        {"good", "verify", "secure", "good", 3, "invalid", NULL, NULL, NULL},
        {"good", "may", "secure", "good", 3, "invalid", NULL, NULL, NULL},
        {"good", "dane", NULL, "good", 3, "invalid", NULL, NULL, NULL},
    };
    size_t i;
    for (i = 0; i < sizeof cases / sizeof *cases; i++)
        one(certs, &cases[i]);
}

/* Event loops look nothing up: they are handed what the level needs, or say so. */
static void event_loops(const char *certs) {
    starttls_policy *policy = policy_of("dane"), *one = starttls_policy_derive(policy, &error);
    starttls_negotiation *n;
    unsigned char sha256[32];
    CHECK(!starttls_negotiation_new("smtp", HOST, "greeting", policy, &error));
    FAILS(error, "invalid");
    tlsa_of(certs, "good", sha256);
    starttls_policy_add_tlsa(one, 3, 1, 1, sha256, sizeof sha256, &error);
    starttls_policy_set_tlsa_proof(one, "secure", &error);
    n = starttls_negotiation_new("smtp", HOST, "greeting", one, &error);
    NONE(error);
    CHECK(n != NULL);
    starttls_negotiation_free(n);
    starttls_policy_free(one);
    one = starttls_policy_derive(policy, &error);
    starttls_policy_set_tlsa_proof(one, "failed", &error);
    CHECK(!starttls_negotiation_new("smtp", HOST, "greeting", one, &error) && starttls_error_temporary(error));
    FAILS(error, "lookup-failed");
    starttls_policy_free(one);
    starttls_policy_free(policy);
}

int main(int argc, char **argv) {
    if (argc != 2)
        return 2;
    peer_certs = argv[1];
    snprintf(ca, sizeof ca, "%s/ca.crt", argv[1]);
    refused(argv[1]);
    nobody_there();
    destinations(argv[1]);
    records(argv[1]);
    event_loops(argv[1]);
    return checks_report();
}
