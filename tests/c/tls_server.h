/* Servers in child processes with TLS from the first byte, on OpenSSL by hand: they show NAME's certificate
 * and send a line back. */
#ifndef TLS_SERVER_H
#define TLS_SERVER_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *server_certs = ".";

struct server {
    pid_t pid;
    uint16_t port;
};

static void serve_one(SSL_CTX *ctx, int fd) {
    SSL *ssl = SSL_new(ctx);
    char line[64];
    int n;
    SSL_set_fd(ssl, fd);
    if (SSL_accept(ssl) == 1)
        while ((n = SSL_read(ssl, line, sizeof line)) > 0)
            SSL_write(ssl, line, n);
    SSL_shutdown(ssl);
    SSL_free(ssl);
}

/* One SSL_CTX for all connections, so that its tickets are good. It ends with the test. */
static struct server server_of(const char *name, int version) {
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    struct server server;
    int listener = socket(AF_INET, SOCK_STREAM, 0), fd;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 5) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) != 0 || (server.pid = fork()) < 0)
        abort();
    if (server.pid == 0) {
        char crt[600], key[600];
        SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
        signal(SIGPIPE, SIG_IGN);
        alarm(120);
        snprintf(crt, sizeof crt, "%s/%s.crt", server_certs, name);
        snprintf(key, sizeof key, "%s/%s.key", server_certs, name);
        SSL_CTX_use_certificate_chain_file(ctx, crt);
        SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM);
        SSL_CTX_set_max_proto_version(ctx, version);
        while ((fd = accept(listener, NULL, NULL)) >= 0) {
            serve_one(ctx, fd);
            close(fd);
        }
        _exit(0);
    }
    close(listener);
    server.port = ntohs(address.sin_port);
    return server;
}

static void server_end(struct server server) {
    kill(server.pid, SIGKILL);
    while (waitpid(server.pid, NULL, 0) != server.pid)
        ;
}

static int dial(uint16_t port) {
    struct sockaddr_in address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        abort();
    return fd;
}

#endif
