/* The two clients that are compared: the floor, OpenSSL written by hand as well as we can, and
 * libstarttls. Both verify chain and name and end with close_notify. */
#ifndef CLIENTS_H
#define CLIENTS_H

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "starttls.h"

#define HOST "mail.example.test"

static void die(const char *what) {
    fprintf(stderr, "bench: %s\n", what);
    exit(1);
}

struct floor_client {
    SSL_CTX *ctx;
    SSL_SESSION *session; /* to resume; NULL: fresh */
    int resume;
};

static int floor_new_session(SSL *ssl, SSL_SESSION *session) {
    struct floor_client *f = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    SSL_SESSION_free(f->session);
    f->session = session;
    return 1;
}

/* ca: NULL for the system's trust store. */
static void floor_init(struct floor_client *f, const char *ca, int resume) {
    memset(f, 0, sizeof *f);
    f->resume = resume;
    f->ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(f->ctx, TLS1_2_VERSION);
    if (!(ca ? SSL_CTX_load_verify_locations(f->ctx, ca, NULL)
             : SSL_CTX_set_default_verify_paths(f->ctx)))
        die("no trust store");
    SSL_CTX_set_verify(f->ctx, SSL_VERIFY_PEER, NULL);
    if (resume) {
        SSL_CTX_set_app_data(f->ctx, f);
        SSL_CTX_set_session_cache_mode(f->ctx,
                                       SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(f->ctx, floor_new_session);
    }
}

/* Reads one SMTP reply and wants it to begin with this digit. */
static void floor_reply(int fd, char digit) {
    char buf[512];
    size_t have = 0;
    for (;;) {
        ssize_t n = read(fd, buf + have, sizeof buf - have);
        char *line;
        if (n <= 0)
            die("no reply");
        have += (size_t)n;
        if (buf[have - 1] != '\n')
            continue;
        for (line = buf + have - 1; line > buf && line[-1] != '\n'; line--)
            ;
        if (line[3] == ' ') {
            if (buf[0] != digit)
                die("unexpected reply");
            return;
        }
    }
}

static void floor_say(int fd, const char *text) {
    if (write(fd, text, strlen(text)) < 0)
        die("write");
}

static SSL *floor_open(struct floor_client *f, int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    SSL *ssl;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&a, sizeof a))
        die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    floor_reply(fd, '2');
    floor_say(fd, "EHLO [127.0.0.1]\r\n");
    floor_reply(fd, '2');
    floor_say(fd, "STARTTLS\r\n");
    floor_reply(fd, '2');
    ssl = SSL_new(f->ctx);
    SSL_set_tlsext_host_name(ssl, HOST);
    SSL_set1_host(ssl, HOST);
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (f->session)
        SSL_set_session(ssl, f->session);
    SSL_set_fd(ssl, fd);
    if (SSL_connect(ssl) != 1 || SSL_get_verify_result(ssl) != X509_V_OK)
        die("the floor's handshake failed");
    if (f->resume && f->session && !SSL_session_reused(ssl))
        die("the floor did not resume");
    return ssl;
}

static void floor_close(SSL *ssl) {
    int fd = SSL_get_fd(ssl);
    SSL_shutdown(ssl);
    SSL_free(ssl);
    close(fd);
}

/* ca: NULL for the system's trust store. */
static starttls_policy *ours_policy(const char *ca) {
    starttls_error *error = NULL;
    starttls_policy *policy = starttls_policy_new("strict", &error);
    if (ca)
        starttls_policy_set_ca_file(policy, ca, &error);
    starttls_policy_set_address(policy, "127.0.0.1", &error);
    if (error)
        die(starttls_error_message(error));
    return policy;
}

static starttls_session *ours_open(const starttls_policy *policy, int port) {
    starttls_error *error = NULL;
    starttls_session *s =
        starttls_connect("smtp", HOST, (unsigned short)port, policy, &error);
    if (!s)
        die(starttls_error_message(error));
    return s;
}

static void ours_close(starttls_session *s) {
    starttls_close(s, NULL);
    starttls_session_free(s);
}

#endif
