/* A scripted client in a child process, on OpenSSL by hand: what it says in clear, what it must hear,
 * how it does its handshake. A code says how far it came. */
#ifndef CLIENT_H
#define CLIENT_H

#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* How far it came. */
enum { FINE, WRONG_ANSWER, NO_HANDSHAKE, NO_ECHO, NOT_RESUMED, RESUMED, NO_ALPN, RENEGOTIATED };

struct client {
    const char *said, *heard;   /* the command that it sends, and the go-ahead that must come */
    size_t said_n, heard_n;     /* 0: as strings */
    const char *injected;       /* sent in clear behind the go-ahead */
    const char *sni, *identity; /* NAME of CERTS_DIR/NAME.crt and .key */
    const char *alpn, *expects; /* as the wire has it; as chosen */
    const char *save, *resume;  /* files of TLS sessions */
    const char *shown;          /* CERTS_DIR/NAME.crt must be the server's certificate */
    int version;                /* the only TLS version */
    bool renegotiates, full;    /* full: it must not be resumed */
    bool stalls;                /* after the go-ahead: says nothing until the server has gone */
    bool drips;                 /* a byte of a record each 20 ms */
};

static const char *client_certs = ".";
static const char *client_file;
/* Not the exit code, which valgrind's is for a child that frees nothing. One client at a time. */
static int client_result[2] = {-1, -1};

static void client_pause(long ms) {
    struct timespec moment;
    moment.tv_sec = ms / 1000;
    moment.tv_nsec = ms % 1000 * 1000000;
    nanosleep(&moment, NULL);
}

static int client_keep(SSL *ssl, SSL_SESSION *session) {
    FILE *file = fopen(client_file, "w");
    (void)ssl;
    PEM_write_SSL_SESSION(file, session);
    fclose(file);
    return 0;
}

static void client_settings(SSL_CTX *ctx, const struct client *c) {
    char crt[600], key[600];
    if (c->version != 0) {
        SSL_CTX_set_security_level(ctx, c->version < TLS1_2_VERSION ? 0 : 1);
        SSL_CTX_set_min_proto_version(ctx, c->version);
        SSL_CTX_set_max_proto_version(ctx, c->version);
    }
    if (c->identity != NULL) {
        snprintf(crt, sizeof crt, "%s/%s.crt", client_certs, c->identity);
        snprintf(key, sizeof key, "%s/%s.key", client_certs, c->identity);
        if (SSL_CTX_use_certificate_chain_file(ctx, crt) != 1 ||
            SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
            abort();
    }
    if (c->save != NULL) {
        client_file = c->save;
        SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(ctx, client_keep);
    }
}

static bool client_is_shown(SSL *ssl, const char *name) {
    char crt[600];
    FILE *file;
    X509 *wanted, *shown = SSL_get_peer_certificate(ssl);
    bool same;
    snprintf(crt, sizeof crt, "%s/%s.crt", client_certs, name);
    file = fopen(crt, "r");
    wanted = PEM_read_X509(file, NULL, NULL, NULL);
    fclose(file);
    same = X509_cmp(wanted, shown) == 0;
    X509_free(wanted);
    X509_free(shown);
    return same;
}

static int client_over_tls(int fd, SSL *ssl, const struct client *c) {
    const unsigned char *alpn;
    unsigned int n = 0;
    char back[8];
    if (c->sni != NULL)
        SSL_set_tlsext_host_name(ssl, c->sni);
    if (c->alpn != NULL)
        SSL_set_alpn_protos(ssl, (const unsigned char *)c->alpn, (unsigned int)strlen(c->alpn));
    if (c->resume != NULL) {
        FILE *file = fopen(c->resume, "r");
        SSL_SESSION *session = file ? PEM_read_SSL_SESSION(file, NULL, NULL, NULL) : NULL;
        if (file != NULL)
            fclose(file);
        /* Without one nothing is resumed, which is looked at below. */
        if (session != NULL && SSL_set_session(ssl, session) != 1)
            abort();
        SSL_SESSION_free(session);
    }
    if (SSL_set_fd(ssl, fd) != 1 || SSL_connect(ssl) != 1)
        return NO_HANDSHAKE;
    /* With TLS 1.3 the server's no to a certificate comes behind our handshake. */
    if (SSL_write(ssl, "ping\r\n", 6) != 6 || SSL_read(ssl, back, sizeof back) != 6)
        return NO_ECHO;
    if (c->renegotiates) {
        if (SSL_renegotiate(ssl) == 1 && SSL_do_handshake(ssl) == 1)
            return RENEGOTIATED;
        return FINE;
    }
    if (c->resume != NULL && SSL_session_reused(ssl) == (int)c->full)
        return c->full ? RESUMED : NOT_RESUMED;
    SSL_get0_alpn_selected(ssl, &alpn, &n);
    if (n != (c->expects ? strlen(c->expects) : 0) || (n > 0 && memcmp(alpn, c->expects, n) != 0))
        return NO_ALPN;
    if (c->shown != NULL && !client_is_shown(ssl, c->shown))
        return WRONG_ANSWER;
    SSL_shutdown(ssl);
    return FINE;
}

static bool client_hears(int fd, const char *text, size_t n) {
    char got[300];
    size_t have = 0;
    while (have < n) {
        ssize_t more = recv(fd, got + have, n - have, 0);
        if (more <= 0)
            return false;
        have += (size_t)more;
    }
    return memcmp(got, text, n) == 0;
}

static int client_play(int fd, const struct client *c) {
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    size_t said = c->said_n ? c->said_n : c->said ? strlen(c->said) : 0;
    size_t heard = c->heard_n ? c->heard_n : c->heard ? strlen(c->heard) : 0;
    char byte;
    int result;
    if (send(fd, c->said, said, MSG_NOSIGNAL) != (ssize_t)said || !client_hears(fd, c->heard, heard))
        return WRONG_ANSWER;
    if (c->injected != NULL)
        send(fd, c->injected, strlen(c->injected), MSG_NOSIGNAL);
    if (c->injected != NULL || c->stalls) {
        /* Not even an alert may come in clear, but where TLS had begun. */
        while (recv(fd, &byte, 1, 0) == 1)
            ;
        return FINE;
    }
    if (c->drips) {
        /* The beginning of a record that goes on and on. */
        const char *hello = "\x16\x03\x01\x02";
        for (; send(fd, hello, 1, MSG_NOSIGNAL) == 1; client_pause(20))
            hello += *hello != '\x02';
        return FINE;
    }
    client_settings(ctx, c);
    result = client_over_tls(fd, SSL_new(ctx), c);
    return result;
}

/* Forks a client at one end of a socket pair; *fd is the other. */
static pid_t client_start(const struct client *c, int *fd) {
    int ends[2];
    pid_t pid;
    if (client_result[1] < 0 && (pipe(client_result) != 0 || fcntl(client_result[0], F_SETFL, O_NONBLOCK) != 0))
        abort();
    fflush(NULL);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0 || (pid = fork()) < 0)
        abort();
    if (pid == 0) {
        char code;
        close(ends[0]);
        signal(SIGPIPE, SIG_IGN);
        code = (char)client_play(ends[1], c);
        _exit(write(client_result[1], &code, 1) != 1);
    }
    close(ends[1]);
    *fd = ends[0];
    return pid;
}

static inline int client_wait(pid_t pid) {
    char code;
    while (waitpid(pid, NULL, 0) != pid)
        ;
    return read(client_result[0], &code, 1) == 1 ? code : -1;
}

#endif
