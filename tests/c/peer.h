/* A scripted SMTP server in a child process, on OpenSSL by hand, at the other end of a socket pair or
 * behind a port. It knows one thing to do after the handshake: what its script says. */
#ifndef PEER_H
#define PEER_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct script {
    const char *certificate; /* NAME of CERTS_DIR/NAME.crt and .key */
    const char *answer;      /* to STARTTLS; what begins with 220 goes on */
    bool tls_at_once;        /* no dialog: as if the go-ahead were given */
    enum { ECHO, END, BREAK, SILENCE } then; /* end with close_notify; without; say nothing */
};

static const char *peer_certs = ".";

/* Reads up to a line end; false at the end of the connection. */
static bool peer_line(int fd) {
    char c = 0;
    while (c != '\n')
        if (recv(fd, &c, 1, 0) != 1)
            return false;
    return true;
}

static bool peer_say(int fd, const char *text) {
    return send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text);
}

static void peer_in_clear(int fd) {
    while (peer_line(fd) && peer_say(fd, "221 bye\r\n"))
        ;
}

static void peer_over_tls(int fd, SSL *ssl, const struct script *script) {
    char crt[512], key[512], block[16384];
    int n;
    snprintf(crt, sizeof crt, "%s/%s.crt", peer_certs, script->certificate);
    snprintf(key, sizeof key, "%s/%s.key", peer_certs, script->certificate);
    if (SSL_use_certificate_file(ssl, crt, SSL_FILETYPE_PEM) != 1 ||
        SSL_use_PrivateKey_file(ssl, key, SSL_FILETYPE_PEM) != 1 || SSL_set_fd(ssl, fd) != 1 ||
        SSL_accept(ssl) != 1 || script->then == BREAK)
        return;
    while (script->then != END && (n = SSL_read(ssl, block, sizeof block)) > 0)
        if (script->then == ECHO)
            SSL_write(ssl, block, n);
    SSL_shutdown(ssl);
    /* What came and was not read would make the end a reset. */
    while (recv(fd, block, sizeof block, 0) > 0)
        ;
}

static void peer_play(int fd, const struct script *script) {
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    SSL *ssl = SSL_new(ctx);
    if (script->tls_at_once)
        peer_over_tls(fd, ssl, script);
    else if (peer_say(fd, "220 peer ESMTP\r\n") && peer_line(fd) &&
             peer_say(fd, "250-peer\r\n250 STARTTLS\r\n") && peer_line(fd) &&
             peer_say(fd, script->answer)) {
        if (strncmp(script->answer, "220", 3) == 0)
            peer_over_tls(fd, ssl, script);
        else
            peer_in_clear(fd);
    }
    SSL_free(ssl);
    SSL_CTX_free(ctx);
}

/* Forks a peer that plays the script on one end of a socket pair; *fd is the other. */
static inline pid_t peer_pair(const struct script *script, int *fd) {
    int ends[2];
    pid_t pid;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0 || (pid = fork()) < 0)
        abort();
    if (pid == 0) {
        signal(SIGPIPE, SIG_IGN);
        close(ends[0]);
        peer_play(ends[1], script);
        _exit(0);
    }
    close(ends[1]);
    *fd = ends[0];
    return pid;
}

/* The same on a port of loopback, for so many connections in turn. */
static inline pid_t peer_port(const struct script *script, int connections, uint16_t *port) {
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    pid_t pid;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 5) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) != 0 || (pid = fork()) < 0)
        abort();
    if (pid == 0) {
        signal(SIGPIPE, SIG_IGN);
        for (; connections > 0; connections--) {
            int fd = accept(listener, NULL, NULL);
            peer_play(fd, script);
            close(fd);
        }
        _exit(0);
    }
    close(listener);
    *port = ntohs(address.sin_port);
    return pid;
}

static void peer_wait(pid_t pid) {
    while (waitpid(pid, NULL, 0) != pid)
        ;
}

#endif
