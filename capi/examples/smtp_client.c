/* Connects to a mail server, with TLS or not at all, says EHLO and QUIT, and prints what was
 * obtained. It sends no mail.
 *
 *     cc -o smtp_client smtp_client.c $(pkg-config --cflags --libs starttls)
 *     smtp_client HOST PORT [CA_FILE]      exit: 0 done, 75 try again later, 1 failed, 2 usage
 */
#include <starttls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool say(starttls_session *session, const char *line, starttls_error **error) {
    printf("C: %s", line);
    return starttls_write(session, line, strlen(line), error);
}

/* Reads one reply, whose last line has a space behind its code, and wants it to be a yes. */
static bool hear(starttls_session *session, starttls_error **error) {
    char text[4096];
    size_t have = 0, n;
    const char *line = text;
    while (have + 1 < sizeof text) {
        if (!starttls_read(session, text + have, sizeof text - have - 1, &n, error) || n == 0)
            return false;
        have += n;
        text[have] = '\0';
        for (const char *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
            printf("S: %.*s\n", (int)strcspn(line, "\r\n"), line);
            if (end - line >= 4 && line[3] == ' ')
                return text[0] == '2';
        }
    }
    return false;
}

static void report(const starttls_outcome *outcome) {
    const char *name = starttls_outcome_identity_name(outcome);
    printf("%s with %s, to %s\n", starttls_outcome_tls_version(outcome),
           starttls_outcome_cipher(outcome), name ? name : "nobody we know");
    for (size_t i = 0; starttls_outcome_suspicion(outcome, i) != NULL; i++)
        printf("suspicious: %s\n", starttls_outcome_suspicion(outcome, i));
    printf("%s\n", starttls_outcome_json(outcome));
}

int main(int argc, char **argv) {
    if (argc < 3 || argc > 4) {
        fprintf(stderr, "usage: %s HOST PORT [CA_FILE]\n", argv[0]);
        return 2;
    }
    /* Each call does nothing once there is an error: one look at the end is enough. */
    starttls_error *error = NULL;
    int status = 1;

    starttls_policy *policy = starttls_policy_new("strict", &error);
    if (argc == 4)
        starttls_policy_set_ca_file(policy, argv[3], &error);
    starttls_session *session =
        starttls_connect("smtp", argv[1], (uint16_t)strtoul(argv[2], NULL, 10), policy, &error);
    starttls_policy_free(policy);

    if (session != NULL) {
        report(starttls_session_outcome(session));
        starttls_session_set_timeout(session, 30000, &error);
        /* What the server said in clear counts for nothing: EHLO again. */
        if (say(session, "EHLO localhost\r\n", &error) && hear(session, &error) &&
            say(session, "QUIT\r\n", &error) && hear(session, &error) &&
            starttls_close(session, &error))
            status = 0;
    }
    if (error != NULL) {
        fprintf(stderr, "%s: %s\n", starttls_error_word(error), starttls_error_message(error));
        status = starttls_error_temporary(error) ? 75 : 1;
    }
    starttls_session_free(session);
    starttls_error_free(error);
    return status;
}
