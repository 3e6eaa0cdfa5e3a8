/* Functions of the program's own: a resolver and a cache that fail, return junk and call back; and a directory
 * that several processes share. usage: callbacks CERTS_DIR */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <pthread.h>
#include <time.h>

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
    NONE(error);
    return policy;
}

/* --- look-ups that go wrong -------------------------------------------------------------------------- */

static bool junk(const char *name, uint16_t type, int milliseconds, starttls_answer *answer, void *userdata) {
    static unsigned char block[40000];
    starttls_error *e = NULL;
    const char *how = userdata;
    (void)name;
    (void)type;
    (void)milliseconds;
    if (strcmp(how, "no idea") == 0)
        return false;
    if (strcmp(how, "says why") == 0)
        return starttls_answer_set_failure(answer, "the line\r\nis cut", NULL) && false;
    if (strcmp(how, "proof") == 0) {
        CHECK(!starttls_answer_set_proof(answer, "sceure", &e));
        FAILS(e, "invalid");
        CHECK(starttls_answer_set_proof(answer, "secure", &e)); /* does not mend it */
    } else if (strcmp(how, "no proof") == 0) {
        CHECK(!starttls_answer_set_proof(answer, NULL, NULL));
    } else if (strcmp(how, "data") == 0) {
        CHECK(!starttls_answer_add(answer, NULL, 4, &e));
        FAILS(e, "invalid");
    } else if (strcmp(how, "too large") == 0) {
        CHECK(starttls_answer_add(answer, block, sizeof block, NULL));
        CHECK(!starttls_answer_add(answer, block, sizeof block, NULL));
    } else if (strcmp(how, "name") == 0) {
        CHECK(!starttls_answer_set_name(answer, "a b\n", NULL));
    } else if (strcmp(how, "not UTF-8") == 0) {
        CHECK(!starttls_answer_set_name(answer, "\xff", NULL));
    } else if (strcmp(how, "malformed") == 0) {
        starttls_answer_add(answer, "x", 1, NULL);
        starttls_answer_set_proof(answer, "secure", NULL);
    }
    return true;
}

static void wrong_answers(void) {
    static const char *const ways[] = {"no idea", "says why",  "proof", "no proof", "data",
                                       "too large", "name", "not UTF-8", "malformed"};
    size_t i;
    for (i = 0; i < sizeof ways / sizeof *ways; i++) {
        starttls_policy *policy = policy_of("opportunistic");
        CHECK(starttls_policy_set_lookup(policy, junk, (void *)ways[i], &error));
        CHECK(!starttls_connect_domain("example.test", policy, &error));
        if (!CHECK(starttls_error_temporary(error)))
            fprintf(stderr, "    %s\n", ways[i]);
        CHECK(strpbrk(starttls_error_message(error), "\r\n") == NULL);
        if (i == 1)
            CHECK(strstr(starttls_error_message(error), "the line\\r\\nis cut"));
        FAILS(error, "lookup-failed");
        starttls_policy_free(policy);
    }
    /* Not a handle, or none. */
    CHECK(!starttls_answer_add(NULL, "x", 1, &error));
    FAILS(error, "invalid");
    CHECK(!starttls_answer_set_failure(NULL, "x", &error));
    FAILS(error, "invalid");
    {
        starttls_policy *policy = policy_of("may");
        CHECK(!starttls_answer_set_ttl((starttls_answer *)policy, 1, &error));
        FAILS(error, "invalid");
        CHECK(!starttls_value_set((starttls_value *)policy, "x", 1, &error));
        FAILS(error, "invalid");
        starttls_policy_free(policy);
    }
}

/* NXDOMAIN is an answer, and CNAMEs lead elsewhere. */
static bool aliases(const char *name, uint16_t type, int milliseconds, starttls_answer *answer, void *userdata) {
    static const unsigned char loopback[4] = {127, 0, 0, 1};
    unsigned char mx[300] = {0, 10};
    (void)milliseconds;
    starttls_answer_set_proof(answer, "secure", NULL);
    if (strcmp(name, "gone.example.test") == 0)
        return starttls_answer_set_no_such_name(answer, NULL);
    if (type == MX && strcmp(name, "alias.example.test") == 0) {
        starttls_answer_set_name(answer, "Real.Example.Test.", NULL);
        starttls_answer_add(answer, mx, 2 + zone_name("mail.example.test", mx + 2), NULL);
    }
    if (type == A && strcmp(name, "mail.example.test") == 0)
        starttls_answer_add(answer, loopback, 4, NULL);
    if (type == TLSA && strcmp(name, "_25._tcp.mail.example.test") == 0)
        starttls_answer_add(answer, userdata, 35, NULL);
    return true;
}

static void other_answers(const char *certs) {
    static const struct script script = {"self-signed", "220 go\r\n", false, ECHO};
    unsigned char record[35] = {3, 1, 1};
    starttls_policy *policy = policy_of("dane-only");
    starttls_session *session;
    uint16_t port;
    pid_t peer = peer_port(&script, 1, &port);
    tlsa_of(certs, "self-signed", record + 3);
    starttls_policy_set_lookup(policy, aliases, record, &error);
    starttls_policy_set_port(policy, port, &error);
    starttls_policy_set_tlsa_port(policy, 25, &error);
    CHECK(!starttls_connect_domain("gone.example.test", policy, &error) && !starttls_error_temporary(error));
    FAILS(error, "lookup-failed");
    session = starttls_connect_domain("alias.example.test", policy, &error);
    NONE(error);
    CHECK(same(starttls_outcome_identity(starttls_session_outcome(session)), "dane"));
    starttls_session_free(session);
    starttls_policy_free(policy);
    peer_wait(peer);
}

/* --- caches ------------------------------------------------------------------------------------------- */

struct store {
    char key[64][600];
    unsigned char value[64][4096];
    size_t n[64];
    int count, gets, puts, removes;
    const char *how; /* it goes wrong */
    pthread_mutex_t lock;
};

static bool store_get(const char *key, starttls_value *value, void *userdata) {
    struct store *store = userdata;
    static unsigned char block[1 << 18];
    bool good = true;
    int i;
    pthread_mutex_lock(&store->lock);
    store->gets++;
    for (i = 0; good && i < store->count; i++)
        if (strcmp(store->key[i], key) == 0)
            good = starttls_value_set(value, store->value[i], store->n[i], NULL);
    if (same(store->how, "away"))
        good = false;
    if (same(store->how, "junk"))
        good = starttls_value_set(value, "{\"junk\":", 8, NULL);
    if (same(store->how, "nothing at all"))
        good = starttls_value_set(value, NULL, 0, NULL);
    if (same(store->how, "too large"))
        good = !starttls_value_set(value, block, sizeof block, NULL);
    if (same(store->how, "calls back")) {
        starttls_policy *inner = starttls_policy_new("may", NULL);
        CHECK(!starttls_connect_domain("a b", inner, NULL));
        starttls_policy_free(inner);
    }
    pthread_mutex_unlock(&store->lock);
    return good;
}

static bool store_put(const char *key, const void *value, size_t n, int64_t expires, void *userdata) {
    struct store *store = userdata;
    int i;
    pthread_mutex_lock(&store->lock);
    store->puts++;
    CHECK(n > 0 && n < sizeof *store->value && strlen(key) < sizeof *store->key);
    CHECK(expires > (int64_t)time(NULL));
    for (i = 0; i < store->count && strcmp(store->key[i], key) != 0; i++)
        ;
    if (i < 64 && !same(store->how, "away")) {
        strcpy(store->key[i], key);
        memcpy(store->value[i], value, n);
        store->n[i] = n;
        store->count += i == store->count;
    }
    pthread_mutex_unlock(&store->lock);
    return !same(store->how, "away");
}

static bool store_remove(const char *key, void *userdata) {
    struct store *store = userdata;
    int i;
    pthread_mutex_lock(&store->lock);
    store->removes++;
    for (i = 0; i < store->count; i++)
        if (strcmp(store->key[i], key) == 0)
            store->key[i][0] = '\0';
    pthread_mutex_unlock(&store->lock);
    return !same(store->how, "away");
}

static starttls_session *upgrade(const starttls_policy *policy, const struct script *script) {
    int fd;
    pid_t peer = peer_pair(script, &fd);
    starttls_session *session =
        starttls_upgrade("smtp", fd, "mail.example.test", "greeting", NULL, 0, policy, &error);
    close(fd); /* which ends the peer; what is looked at is what was found out */
    peer_wait(peer);
    return session;
}

static const struct script with_tls = {"good", "220 go\r\n", false, ECHO};
static const struct script stripped = {"good", "502 what?\r\n", false, ECHO};

static bool is_noted(const starttls_outcome *outcome, const char *what) {
    size_t i;
    for (i = 0; starttls_outcome_note(outcome, i) != NULL; i++)
        if (strstr(starttls_outcome_note(outcome, i), what))
            return true;
    return false;
}

/* Who proved its name over TLS and does not offer it now is stripped: if the cache keeps that. */
static void memory_of(struct store *store, const char *how) {
    starttls_policy *policy = policy_of("opportunistic");
    starttls_session *session;
    bool works = how == NULL || strcmp(how, "calls back") == 0;
    store->count = store->gets = store->puts = store->removes = 0;
    store->how = how;
    zone_empty();
    starttls_policy_set_lookup(policy, zone_look_up, zone, &error);
    CHECK(starttls_policy_set_cache_callbacks(policy, store_get, store_put, store_remove, store, &error));
    session = upgrade(policy, &with_tls);
    NONE(error);
    CHECK(store->puts > 0);
    /* A value that was refused is as if nothing were there. */
    CHECK(is_noted(starttls_session_outcome(session), "cache") == (!works && strcmp(how, "too large") != 0));
    starttls_session_free(session);
    session = upgrade(policy, &stripped);
    CHECK(store->gets > 0);
    if (works) {
        CHECK(session == NULL && starttls_error_temporary(error));
        FAILS(error, "stripped");
        CHECK(starttls_policy_forget(policy, "mail.example.test", &error));
        session = upgrade(policy, &stripped);
    }
    NONE(error);
    CHECK(same(starttls_outcome_because(starttls_session_outcome(session)), "refused"));
    starttls_session_free(session);
    if (how && strcmp(how, "away") == 0) {
        CHECK(!starttls_policy_forget(policy, "mail.example.test", &error) && starttls_error_temporary(error));
        FAILS(error, "io");
    }
    starttls_policy_free(policy);
}

static void caches(void) {
    static const char *const ways[] = {"away", "junk", "nothing at all", "too large", "calls back"};
    static struct store store;
    size_t i;
    pthread_mutex_init(&store.lock, NULL);
    memory_of(&store, NULL);
    for (i = 0; i < sizeof ways / sizeof *ways; i++)
        memory_of(&store, ways[i]);
}

/* A policy with a directory, made before fork: what a child learns, its parent and its brothers know. */
static void over_fork(const char *out) {
    char place[700];
    int i, status = -1;
    starttls_policy *policy = policy_of("opportunistic");
    starttls_session *session;
    pid_t child[4];
    snprintf(place, sizeof place, "directory:%s/cache-%ld", out, (long)getpid());
    zone_empty();
    starttls_policy_set_lookup(policy, zone_look_up, zone, &error);
    CHECK(starttls_policy_set_cache(policy, place, &error) && starttls_policy_ready(policy, &error));
    NONE(error);
    for (i = 0; i < 4; i++) {
        fflush(NULL);
        child[i] = fork();
        if (child[i] == 0) {
            session = upgrade(policy, &with_tls);
            starttls_session_free(session);
            starttls_policy_free(policy);
            _exit(session == NULL || error != NULL);
        }
    }
    for (i = 0; i < 4; i++)
        CHECK(waitpid(child[i], &status, 0) == child[i] && status == 0);
    CHECK(upgrade(policy, &stripped) == NULL);
    FAILS(error, "stripped");
    child[0] = fork();
    if (child[0] == 0)
        _exit(!starttls_policy_forget(policy, "mail.example.test", NULL));
    CHECK(waitpid(child[0], &status, 0) == child[0] && status == 0);
    session = upgrade(policy, &stripped);
    NONE(error);
    starttls_session_free(session);
    starttls_policy_free(policy);
}

/* Several threads at once, each with its own answers. */
static void *finds(void *policy) {
    int i;
    for (i = 0; i < 20; i++) {
        starttls_routes *routes = starttls_routes_find("alias.example.test", policy, NULL);
        bool good = starttls_routes_next(routes, NULL) &&
                    same(starttls_routes_host(routes), "mail.example.test");
        starttls_routes_free(routes);
        if (!good)
            return NULL;
    }
    return policy;
}

static void threads(void) {
    unsigned char record[35] = {3, 1, 1};
    starttls_policy *policy = policy_of("opportunistic");
    pthread_t thread[4];
    int i;
    starttls_policy_set_lookup(policy, aliases, record, &error);
    for (i = 0; i < 4; i++)
        CHECK(pthread_create(&thread[i], NULL, finds, policy) == 0);
    for (i = 0; i < 4; i++) {
        void *result = NULL;
        CHECK(pthread_join(thread[i], &result) == 0 && result == policy);
    }
    starttls_policy_free(policy);
}

int main(int argc, char **argv) {
    if (argc != 2)
        return 2;
    peer_certs = argv[1];
    snprintf(ca, sizeof ca, "%s/ca.crt", argv[1]);
    wrong_answers();
    other_answers(argv[1]);
    caches();
    over_fork(argv[1]);
    threads();
    return checks_report();
}
