/* A POP3 server that forks for each connection and knows CAPA, STLS and QUIT; over TLS the same again.
 *
 *     cc -o pop3_server pop3_server.c $(pkg-config --cflags --libs starttls)
 *     pop3_server PORT CERTIFICATE KEY     prints the port where it listens on 127.0.0.1; 0: any
 */
#define _POSIX_C_SOURCE 200809L
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <starttls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct client {
    int fd;
    starttls_session *session; /* NULL: in clear */
    char inbox[1024];
    size_t have;
};

static bool say(struct client *c, const char *text) {
    size_t n = strlen(text);
    if (c->session != NULL)
        return starttls_write(c->session, text, n, NULL);
    return send(c->fd, text, n, MSG_NOSIGNAL) == (ssize_t)n;
}

/* Waits until there is a line in the inbox; its length, 0 for the end. */
static size_t hear(struct client *c) {
    char *end;
    while ((end = memchr(c->inbox, '\n', c->have)) == NULL && c->have < sizeof c->inbox) {
        size_t n = 0;
        ssize_t came;
        if (c->session != NULL)
            starttls_read(c->session, c->inbox + c->have, sizeof c->inbox - c->have, &n, NULL);
        else if ((came = recv(c->fd, c->inbox + c->have, sizeof c->inbox - c->have, 0)) > 0)
            n = (size_t)came;
        if (n == 0)
            return 0;
        c->have += n;
    }
    return end ? (size_t)(end - c->inbox) + 1 : 0;
}

static void serve(struct client *c, const starttls_policy *policy) {
    size_t n;
    bool goes_on = say(c, "+OK ready\r\n");
    while (goes_on && (n = hear(c)) > 0) {
        if (strncmp(c->inbox, "STLS\r\n", n) == 0 && c->session == NULL) {
            /* All that came since the command began, so that what is behind it is found out. */
            starttls_error *error = NULL;
            c->session = starttls_accept("pop3", c->fd, c->inbox, c->have, policy, &error);
            if (c->session == NULL) {
                fprintf(stderr, "%s\n", starttls_error_message(error));
                starttls_error_free(error);
                return;
            }
            starttls_session_set_timeout(c->session, 600000, NULL);
            c->have = 0; /* nothing that was said in clear counts */
            continue;
        }
        if (strncmp(c->inbox, "CAPA\r\n", n) == 0)
            goes_on = say(c, c->session ? "+OK\r\nUSER\r\n.\r\n" : "+OK\r\nSTLS\r\n.\r\n");
        else if (strncmp(c->inbox, "QUIT\r\n", n) == 0)
            goes_on = say(c, "+OK bye\r\n") && false;
        else
            goes_on = say(c, c->session ? "-ERR not known here\r\n" : "-ERR STLS first\r\n");
        c->have -= n;
        memmove(c->inbox, c->inbox + n, c->have);
    }
    starttls_close(c->session, NULL);
}

int main(int argc, char **argv) {
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    starttls_error *error = NULL;
    starttls_policy *policy = starttls_policy_new("encrypt", &error);
    starttls_policy_set_server_cert(policy, argc == 4 ? argv[2] : NULL, argc == 4 ? argv[3] : NULL, &error);
    /* Before fork: the children share what is read here, and the keys of the tickets that they give. */
    if (!starttls_policy_ready(policy, &error)) {
        fprintf(stderr, "usage: %s PORT CERTIFICATE KEY\n%s\n", argv[0], starttls_error_message(error));
        return 2;
    }
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons((unsigned short)atoi(argv[1]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, 64) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) != 0) {
        perror(argv[0]);
        return 1;
    }
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    signal(SIGCHLD, SIG_IGN); /* nobody waits for the children */
    for (;;) {
        struct client client = {.fd = accept(listener, NULL, NULL)};
        if (client.fd >= 0 && fork() == 0) {
            close(listener);
            serve(&client, policy);
            starttls_session_free(client.session);
            starttls_policy_free(policy);
            return 0;
        }
        close(client.fd);
    }
}
