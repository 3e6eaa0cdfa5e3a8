/* What the tests of the server's side share. */
#ifndef SERVE_H
#define SERVE_H

#include <errno.h>

#include "check.h"
#include "client.h"

static starttls_error *error;

/* A policy with CERTS_DIR/NAME.crt and .key; none if NULL. */
static starttls_policy *server_policy(const char *level, const char *name) {
    char crt[600], key[600];
    starttls_policy *policy = starttls_policy_new(level, &error);
    if (name != NULL) {
        snprintf(crt, sizeof crt, "%s/%s.crt", client_certs, name);
        snprintf(key, sizeof key, "%s/%s.key", client_certs, name);
        starttls_policy_set_server_cert(policy, crt, key, &error);
    }
    starttls_policy_set_timeout(policy, 20000, &error);
    NONE(error);
    return policy;
}

static inline struct client plain_client(void) {
    struct client client;
    memset(&client, 0, sizeof client);
    client.said = "STARTTLS\r\n";
    client.heard = "220 2.0.0 Ready to start TLS\r\n";
    return client;
}

/* Reads CERTS_DIR/NAME into `text`; its length. */
static inline size_t slurp(const char *name, char *text, size_t room) {
    char path[600];
    size_t n;
    FILE *file;
    snprintf(path, sizeof path, "%s/%s", client_certs, name);
    file = fopen(path, "r");
    n = file ? fread(text, 1, room, file) : 0;
    CHECK(n > 0 && n < room);
    if (file)
        fclose(file);
    return n;
}

/* Sends one line back and reads to the end. */
static inline bool echo_once(starttls_session *session) {
    char line[64];
    size_t n;
    return starttls_read(session, line, sizeof line, &n, &error) && n > 0 &&
           starttls_write(session, line, n, &error) &&
           starttls_read(session, line, sizeof line, &n, &error) && n == 0 &&
           starttls_close(session, &error);
}

/* Behind what had already come there is the end, and nothing more can be said. */
static inline bool is_shut_down(int fd) {
    char block[4096];
    ssize_t n;
    while ((n = recv(fd, block, sizeof block, MSG_DONTWAIT)) > 0)
        ;
    return (n == 0 || errno != EAGAIN) && send(fd, "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE;
}

/* One client, served by this policy; how far it came. The error, if any, is left in `error`. */
static inline int serve(const char *word, const struct client *client, const starttls_policy *policy) {
    int fd, code;
    pid_t pid = client_start(client, &fd);
    starttls_session *session = starttls_accept(word, fd, NULL, 0, policy, &error);
    if (session != NULL)
        CHECK(echo_once(session));
    else
        CHECK(is_shut_down(fd));
    starttls_session_free(session);
    close(fd);
    code = client_wait(pid);
    return code;
}

#endif
