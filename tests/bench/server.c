/* The server of the bench: SMTP with STARTTLS, one thread a connection, no policy of its own.
 * Usage: server CERT KEY. Prints two ports: one that never resumes, one that hands out tickets.
 * Over TLS it knows EHLO, SINK n (reads n bytes), SOURCE n (sends n bytes) and QUIT. It ends when
 * its standard input does. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct listener {
    int fd;
    SSL_CTX *ctx;
};

struct client {
    int fd;
    SSL *ssl; /* NULL while in clear */
    SSL_CTX *ctx;
};

static int get(struct client *c, void *buf, int n) {
    return c->ssl ? SSL_read(c->ssl, buf, n) : (int)read(c->fd, buf, (size_t)n);
}

static void put(struct client *c, const void *buf, int n) {
    if (c->ssl)
        SSL_write(c->ssl, buf, n);
    else if (write(c->fd, buf, (size_t)n) < 0)
        return;
}

static void say(struct client *c, const char *text) { put(c, text, (int)strlen(text)); }

static void talk(struct client *c) {
    static const char zero[16384];
    char buf[16384];
    say(c, "220 bench.test ESMTP\r\n");
    for (;;) {
        int n = get(c, buf, (int)sizeof buf - 1);
        if (n <= 0)
            return;
        buf[n] = 0;
        if (!strncmp(buf, "STARTTLS", 8)) {
            say(c, "220 go ahead\r\n");
            c->ssl = SSL_new(c->ctx);
            SSL_set_fd(c->ssl, c->fd);
            if (SSL_accept(c->ssl) != 1)
                return;
        } else if (!strncmp(buf, "SINK ", 5)) {
            long left = atol(buf + 5);
            while (left > 0 && (n = get(c, buf, (int)sizeof buf)) > 0)
                left -= n;
            say(c, "250 ok\r\n");
        } else if (!strncmp(buf, "SOURCE ", 7)) {
            for (long left = atol(buf + 7); left > 0; left -= (long)sizeof zero)
                put(c, zero, (int)sizeof zero);
        } else if (!strncmp(buf, "QUIT", 4)) {
            say(c, "221 bye\r\n");
            return;
        } else {
            say(c, c->ssl ? "250-bench.test\r\n250 8BITMIME\r\n"
                          : "250-bench.test\r\n250-8BITMIME\r\n250 STARTTLS\r\n");
        }
    }
}

static void *serve(void *arg) {
    struct client *c = arg;
    talk(c);
    if (c->ssl)
        SSL_shutdown(c->ssl);
    SSL_free(c->ssl);
    close(c->fd);
    free(c);
    return NULL;
}

static void *listen_on(void *arg) {
    struct listener *l = arg;
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setdetachstate(&small, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&small, 128 * 1024);
    for (;;) {
        int one = 1;
        struct client *c = calloc(1, sizeof *c);
        pthread_t t;
        c->fd = accept(l->fd, NULL, NULL);
        c->ctx = l->ctx;
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (c->fd < 0 || pthread_create(&t, &small, serve, c))
            abort();
    }
}

static int open_listener(struct listener *l, char **argv, int tickets) {
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t len = sizeof a;
    pthread_t t;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    l->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(l->fd, (struct sockaddr *)&a, len) || listen(l->fd, 1024) ||
        getsockname(l->fd, (struct sockaddr *)&a, &len))
        return -1;
    l->ctx = SSL_CTX_new(TLS_server_method());
    if (SSL_CTX_use_certificate_chain_file(l->ctx, argv[1]) != 1 ||
        SSL_CTX_use_PrivateKey_file(l->ctx, argv[2], SSL_FILETYPE_PEM) != 1)
        return -1;
    SSL_CTX_set_mode(l->ctx, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(l->ctx, SSL_SESS_CACHE_OFF);
    if (!tickets) {
        SSL_CTX_set_options(l->ctx, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(l->ctx, 0);
    }
    if (pthread_create(&t, NULL, listen_on, l))
        return -1;
    return ntohs(a.sin_port);
}

int main(int argc, char **argv) {
    static struct listener fresh, resuming;
    char end;
    if (argc != 3)
        return 2;
    signal(SIGPIPE, SIG_IGN);
    printf("%d %d\n", open_listener(&fresh, argv, 0), open_listener(&resuming, argv, 1));
    fflush(stdout);
    while (read(0, &end, 1) > 0)
        ;
    return 0;
}
