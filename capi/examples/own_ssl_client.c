/* A program with a socket, an SMTP dialog and an SSL of its own: the library prepares the SSL, checks the
 * peer in its handshake and tells the outcome; the rest stays as it is.
 *
 *     cc -o own_ssl_client own_ssl_client.c $(pkg-config --cflags --libs starttls openssl)
 *     own_ssl_client HOST PORT [CA_FILE]      exit: 0 done, 75 try again later, 1 failed, 2 usage
 */
#define _POSIX_C_SOURCE 200809L
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <starttls.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int dial(const char *host, const char *port) {
    struct addrinfo want, *found;
    int fd = -1;
    memset(&want, 0, sizeof want);
    want.ai_socktype = SOCK_STREAM;
    if (getaddrinfo(host, port, &want, &found) != 0)
        return -1;
    for (struct addrinfo *a = found; a != NULL && fd < 0; a = a->ai_next)
        if ((fd = socket(a->ai_family, SOCK_STREAM, 0)) >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) != 0) {
            close(fd);
            fd = -1;
        }
    freeaddrinfo(found);
    return fd;
}

/* One reply in clear, byte by byte so that nothing behind it is taken; whether it is a yes. */
static bool hear(int fd) {
    char line[1024];
    size_t n = 0;
    while (n < sizeof line && recv(fd, line + n, 1, 0) == 1) {
        if (line[n++] != '\n')
            continue;
        printf("S: %.*s", (int)n, line);
        if (n > 4 && line[3] == ' ')
            return line[0] == '2';
        n = 0;
    }
    return false;
}

static bool ask(int fd, const char *line) {
    printf("C: %s", line);
    return send(fd, line, strlen(line), MSG_NOSIGNAL) == (ssize_t)strlen(line) && hear(fd);
}

/* The handshake; before it, nothing may have come behind the go-ahead (CVE-2011-0411). */
static starttls_outcome *handshake(SSL *ssl, int fd, starttls_error **error) {
    char byte;
    if (recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0) {
        fprintf(stderr, "plaintext behind the go-ahead, or the end\n");
        return NULL;
    }
    SSL_set_fd(ssl, fd);
    if (SSL_connect(ssl) != 1)
        ERR_print_errors_fp(stderr); /* starttls_check says it in one word */
    return starttls_check(ssl, OPENSSL_VERSION_NUMBER, error);
}

int main(int argc, char **argv) {
    int status = 1, fd = argc == 3 || argc == 4 ? dial(argv[1], argv[2]) : -1;
    char line[512];
    int n;
    if (fd < 0) {
        fprintf(stderr, "usage: %s HOST PORT [CA_FILE], or no connection there\n", argv[0]);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN); /* OpenSSL's own sockets raise it */
    starttls_error *error = NULL;
    starttls_policy *policy = starttls_policy_new("strict", &error);
    if (argc == 4)
        starttls_policy_set_ca_file(policy, argv[3], &error);
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = NULL;
    starttls_outcome *outcome = NULL;
    if (starttls_prepare_ctx(ctx, OPENSSL_VERSION_NUMBER, &error) && (ssl = SSL_new(ctx)) != NULL &&
        starttls_prepare(policy, "smtp", argv[1], ssl, OPENSSL_VERSION_NUMBER, &error) && hear(fd) &&
        ask(fd, "EHLO localhost\r\n") && ask(fd, "STARTTLS\r\n"))
        outcome = handshake(ssl, fd, &error);
    if (outcome != NULL) {
        printf("%s\n", starttls_outcome_json(outcome));
        if (SSL_write(ssl, "QUIT\r\n", 6) == 6 && (n = SSL_read(ssl, line, sizeof line)) > 0) {
            printf("S: %.*s", n, line);
            status = 0;
        }
        SSL_shutdown(ssl);
    } else if (error != NULL) {
        fprintf(stderr, "%s: %s\n", starttls_error_word(error), starttls_error_message(error));
        status = starttls_error_temporary(error) ? 75 : 1;
    }
    starttls_outcome_free(outcome);
    starttls_error_free(error);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    starttls_policy_free(policy);
    close(fd);
    return status;
}
