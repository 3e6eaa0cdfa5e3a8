/* One run of a mail queue for a domain: connects to whichever of its hosts will do, by what the domain asks of
 * its senders (DANE, MTA-STS), prints what became of each host, and says EHLO and QUIT. It sends no mail.
 *
 *     cc -o deliver deliver.c $(pkg-config --cflags --libs starttls)
 *     deliver DOMAIN [CACHE_DIR]           exit: 0 done, 75 keep the mail and try later, 1 failed, 2 usage
 *
 * Where the system's resolver is not the one to ask: RESOLVER=ADDRESS:PORT. PORT, CA_FILE and LEVEL (opportunistic)
 * are for tests.
 */
#include <starttls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sends a line and reads its reply, whose last line has a space behind its code; false if it is no yes. */
static bool ask(starttls_session *session, const char *line, starttls_error **error) {
    char text[4096];
    size_t have = 0, n;
    const char *start = text;
    if (!starttls_write(session, line, strlen(line), error))
        return false;
    while (have + 1 < sizeof text) {
        if (!starttls_read(session, text + have, sizeof text - have - 1, &n, error) || n == 0)
            return false;
        have += n;
        text[have] = '\0';
        for (const char *end; (end = strchr(start, '\n')) != NULL; start = end + 1)
            if (end - start >= 4 && start[3] == ' ')
                return text[0] == '2';
    }
    return false;
}

static const char *or_dash(const char *text) { return text ? text : "-"; }

/* One line for each host that was tried, in their order, for the log. */
static void tell(const starttls_outcome *outcome) {
    if (outcome == NULL)
        return;
    for (size_t i = 0; starttls_outcome_attempt(outcome, i) != NULL; i++)
        tell(starttls_outcome_attempt(outcome, i));
    printf("host=%s name-from=%s asked-for=%s", or_dash(starttls_outcome_host(outcome)),
           or_dash(starttls_outcome_name_from(outcome)), or_dash(starttls_outcome_effective(outcome)));
    if (starttls_outcome_error_word(outcome) != NULL)
        printf(" error=%s\n", starttls_outcome_error_word(outcome));
    else if (starttls_outcome_encrypted(outcome))
        printf(" %s proven-by=%s\n", or_dash(starttls_outcome_tls_version(outcome)),
               or_dash(starttls_outcome_identity(outcome)));
    else
        printf(" in-clear=%s\n", or_dash(starttls_outcome_because(outcome)));
    for (size_t i = 0; starttls_outcome_note(outcome, i) != NULL; i++)
        printf("    note: %s\n", starttls_outcome_note(outcome, i));
    for (size_t i = 0; starttls_outcome_suspicion(outcome, i) != NULL; i++)
        printf("    suspicious: %s\n", starttls_outcome_suspicion(outcome, i));
}

/* What a daemon makes once, from its configuration. */
static starttls_policy *configured(const char *cache, starttls_error **error) {
    const char *level = getenv("LEVEL"), *resolver = getenv("RESOLVER");
    const char *port = getenv("PORT"), *ca_file = getenv("CA_FILE");
    starttls_policy *policy = starttls_policy_new(level ? level : "opportunistic", error);
    if (cache != NULL)
        starttls_policy_set_cache(policy, cache, error); /* remembers who did TLS, and MTA-STS policies */
    if (resolver != NULL)
        starttls_policy_set_resolver(policy, resolver, error);
    if (ca_file != NULL)
        starttls_policy_set_ca_file(policy, ca_file, error);
    if (port != NULL)
        starttls_policy_set_port(policy, (uint16_t)atoi(port), error);
    starttls_policy_ready(policy, error); /* and here it may fork, or drop its privileges */
    return policy;
}

/* Nothing that somebody on the path could cause may bounce the mail: a certificate that does not match, or an offer of
 * TLS that is gone, is "not now" for as long as the queue keeps the message (RFC 7672 2.2, RFC 8461 5). */
static bool is_for_good(const starttls_error *error) {
    const char *word = starttls_error_word(error);
    return !starttls_error_temporary(error) &&
           (!strcmp(word, "null-mx") || !strcmp(word, "lookup-failed") || !strcmp(word, "invalid"));
}

int main(int argc, char **argv) {
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: %s DOMAIN [CACHE_DIR]\n", argv[0]);
        return 2;
    }
    starttls_error *error = NULL;
    int status = 75; /* what is not known to have failed for good is tried again */
    char cache[4096];
    snprintf(cache, sizeof cache, "directory:%s", argc == 3 ? argv[2] : "");

    starttls_policy *policy = configured(argc == 3 ? cache : NULL, &error);
    if (error != NULL) { /* our own mistake is no reason to send anybody's mail back */
        fprintf(stderr, "configuration: %s\n", starttls_error_message(error));
        starttls_policy_free(policy);
        starttls_error_free(error);
        return 78;
    }
    starttls_session *session = starttls_connect_domain(argv[1], policy, &error);
    starttls_policy_free(policy);
    if (session != NULL) {
        tell(starttls_session_outcome(session));
        starttls_session_set_timeout(session, 300000, &error);
        /* MAIL, RCPT and DATA would come between these. */
        if (ask(session, "EHLO localhost\r\n", &error) && ask(session, "QUIT\r\n", &error)) {
            starttls_close(session, NULL); /* the mail is gone; how the connection ends does not matter */
            status = 0;
        }
    } else {
        tell(starttls_error_outcome(error));
    }
    if (error != NULL) {
        fprintf(stderr, "%s: %s\n", starttls_error_word(error), starttls_error_message(error));
        status = is_for_good(error) ? 1 : 75;
    } else if (status != 0) {
        fprintf(stderr, "the server would not say EHLO or QUIT\n");
    }
    starttls_session_free(session);
    starttls_error_free(error);
    return status;
}
