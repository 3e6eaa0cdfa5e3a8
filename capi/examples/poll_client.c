/* Upgrades connections to several servers at once, in one thread, by poll(2), and says good-bye over TLS.
 *
 *     cc -o poll_client poll_client.c $(pkg-config --cflags --libs starttls)
 *     poll_client PROTOCOL CA_FILE|- HOST PORT [HOST PORT]...    exit: 0 all done, 1 not all, 2 usage
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <poll.h>
#include <starttls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct peer {
    starttls_negotiation *talk; /* in clear, until it is made a session */
    starttls_session *session;
    starttls_error *error;
    const char *bye; /* what is still to be said over TLS */
    int fd;
    bool over;
};

/* To the first address that answers. This waits; a daemon would have its own way. */
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
    if (fd >= 0)
        fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd; /* that there is none is found out by reading */
}

/* The dialog in clear, as far as it goes now; the events to wait for. */
static short talk(struct peer *p, int fd) {
    char buf[4096];
    size_t length;
    ssize_t n;
    for (;;) {
        /* Always read before writing: that shows what the server has said before it was asked. */
        while ((n = recv(fd, buf, sizeof buf, 0)) > 0)
            if (!starttls_negotiation_receive(p->talk, buf, (size_t)n, &p->error))
                return 0;
        bool wait = n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
        int want = starttls_negotiation_want(p->talk);
        if (want == STARTTLS_WANT_HANDSHAKE || want == STARTTLS_PLAIN) {
            p->session = starttls_negotiation_session(p->talk, fd, &p->error);
            return POLLOUT;
        }
        if (!wait)
            return (short)starttls_negotiation_closed(p->talk, &p->error);
        if (starttls_negotiation_wait_ms(p->talk) == 0)
            return (short)starttls_negotiation_timed_out(p->talk, &p->error);
        if (want == STARTTLS_WANT_READ)
            return POLLIN;
        const void *output = starttls_negotiation_output(p->talk, &length);
        if ((n = send(fd, output, length, MSG_NOSIGNAL)) < 0)
            return POLLOUT;
        starttls_negotiation_sent(p->talk, (size_t)n, &p->error);
    }
}

/* The handshake, the good-bye and its answer; the events to wait for. */
static short use(struct peer *p) {
    char line[512];
    size_t n;
    int result = starttls_try_handshake(p->session, &p->error); /* once it is done it stays so */
    while (result == STARTTLS_DONE && *p->bye != '\0') {
        result = starttls_try_write(p->session, p->bye, strlen(p->bye), &n, &p->error);
        p->bye += n;
    }
    while (result == STARTTLS_DONE)
        if ((result = starttls_try_read(p->session, line, sizeof line, &n, &p->error)) == STARTTLS_DONE)
            printf("%.*s", (int)n, line);
    if (result == STARTTLS_CLOSED) {
        starttls_try_close(p->session, NULL); /* the server's own good-bye is what counts */
        p->over = true;
    }
    return starttls_session_wants_write(p->session) ? POLLIN | POLLOUT
           : result == STARTTLS_WANT_WRITE          ? POLLOUT
                                                    : POLLIN;
}

/* How long poll may wait for this one; INT_MAX where it is through. */
static int step(struct peer *p, struct pollfd *polled) {
    if (p->error == NULL && !p->over)
        polled->events = p->session ? use(p) : talk(p, p->fd);
    if (p->error != NULL || p->over) {
        polled->fd = -1; /* poll ignores it */
        return INT_MAX;
    }
    int ms = p->session ? starttls_session_wait_ms(p->session) : starttls_negotiation_wait_ms(p->talk);
    return ms < 0 ? 30000 : ms;
}

int main(int argc, char **argv) {
    int count = (argc - 3) / 2, wait = 0, status = 0;
    if (argc < 5 || argc % 2 == 0) {
        fprintf(stderr, "usage: %s PROTOCOL CA_FILE|- HOST PORT [HOST PORT]...\n", argv[0]);
        return 2;
    }
    struct peer *peers = calloc((size_t)count, sizeof *peers);
    struct pollfd *fds = calloc((size_t)count, sizeof *fds);
    starttls_policy *policy = starttls_policy_new("strict", NULL);
    if (strcmp(argv[2], "-") != 0)
        starttls_policy_set_ca_file(policy, argv[2], NULL); /* if that fails, so does each negotiation */
    for (int i = 0; i < count; i++) {
        char **at = argv + 3 + 2 * i;
        peers[i].bye = strncmp(argv[1], "imap", 4) == 0 ? "a LOGOUT\r\n" : "QUIT\r\n";
        peers[i].talk = starttls_negotiation_new(argv[1], at[0], "greeting", policy, &peers[i].error);
        fds[i].fd = peers[i].fd = dial(at[0], at[1]);
    }
    while (wait != INT_MAX && (poll(fds, (nfds_t)count, wait) >= 0 || errno == EINTR)) {
        wait = INT_MAX;
        for (int i = 0; i < count; i++) {
            int ms = step(&peers[i], &fds[i]);
            wait = ms < wait ? ms : wait;
        }
    }
    for (int i = 0; i < count; i++) {
        const starttls_error *e = peers[i].error;
        const starttls_outcome *outcome = starttls_session_outcome(peers[i].session);
        printf("%s %s: %s\n", argv[3 + 2 * i], argv[4 + 2 * i],
               e ? starttls_error_message(e) : starttls_outcome_tls_version(outcome));
        status |= e != NULL;
        starttls_error_free(peers[i].error);
        starttls_session_free(peers[i].session);
        starttls_negotiation_free(peers[i].talk);
        close(peers[i].fd);
    }
    starttls_policy_free(policy);
    free(peers);
    free(fds);
    return status;
}
