/* One upgrade, told in one line: `tls`, `plain BECAUSE`, or `error WORD temporary|permanent`. The exit
 * status is 0 for each of them. The peer is at 127.0.0.1:PORT, HOST is the name that is checked.
 *
 *     dialog PROTOCOL PORT HOST STAGE LEVEL CA_FILE PENDING_HEX connect|upgrade|poll
 *
 * CA_FILE and PENDING_HEX may be empty. `connect` dials itself and knows only the stage greeting. `poll`
 * is `upgrade` by the step machine, on a socket that does not block, and sends a line back and forth.
 */
#define _POSIX_C_SOURCE 200809L
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <starttls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The bytes that pairs of hex digits stand for. */
static size_t from_hex(const char *hex, unsigned char *bytes, size_t room) {
    size_t n = 0;
    unsigned int byte;
    for (; n < room && sscanf(hex, "%2x", &byte) == 1; hex += strlen(hex) > 1 ? 2 : 1)
        bytes[n++] = (unsigned char)byte;
    return n;
}

static int dial(uint16_t port) {
    struct sockaddr_in address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        perror("dialog: connect");
        exit(1);
    }
    return fd;
}

static void wait_for(int fd, short events, int ms) {
    struct pollfd one;
    one.fd = fd;
    one.events = events;
    if (poll(&one, 1, ms) == -1 && errno != EINTR)
        exit(1);
}

/* One thing that the negotiation wants, and what is there is read before it. */
static void step(starttls_negotiation *n, int fd, starttls_error **error) {
    char buf[100];
    size_t length;
    ssize_t moved;
    int want;
    while ((moved = recv(fd, buf, sizeof buf, 0)) > 0)
        if (!starttls_negotiation_receive(n, buf, (size_t)moved, error))
            return;
    want = starttls_negotiation_want(n);
    if (moved == 0 || errno != EAGAIN) {
        if (want == STARTTLS_WANT_READ)
            starttls_negotiation_closed(n, error);
    } else if (starttls_negotiation_wait_ms(n) == 0) {
        starttls_negotiation_timed_out(n, error);
    } else if (want == STARTTLS_WANT_READ) {
        wait_for(fd, POLLIN, starttls_negotiation_wait_ms(n));
    }
    if (want == STARTTLS_WANT_WRITE && *error == NULL) {
        const void *output = starttls_negotiation_output(n, &length);
        moved = send(fd, output, length, MSG_NOSIGNAL);
        if (moved >= 0)
            starttls_negotiation_sent(n, (size_t)moved, error);
        else if (errno == EAGAIN)
            wait_for(fd, POLLOUT | POLLIN, starttls_negotiation_wait_ms(n));
        else
            starttls_negotiation_closed(n, error);
    }
}

/* The peer sends back what it is sent; in clear something else may come before. */
static void use(starttls_session *session, int fd, starttls_error **error) {
    static const char ping[] = "ping\r\n";
    char heard[8192];
    size_t sent = 0, have = 0, n;
    int result;
    while (*error == NULL && (have < 6 || memcmp(heard + have - 6, ping, 6) != 0)) {
        if (sent < 6) {
            result = starttls_try_write(session, ping + sent, 6 - sent, &n, error);
            sent += n;
        } else {
            result = starttls_try_read(session, heard + have, sizeof heard - have, &n, error);
            have += n;
        }
        if (result == STARTTLS_CLOSED || have == sizeof heard)
            exit(1);
        if (result == STARTTLS_WANT_READ || result == STARTTLS_WANT_WRITE)
            wait_for(fd, result == STARTTLS_WANT_READ ? POLLIN : POLLOUT, 10000);
        if (starttls_session_wants_write(session))
            starttls_try_flush(session, error);
    }
    while ((result = starttls_try_close(session, error)) == STARTTLS_WANT_WRITE)
        wait_for(fd, POLLOUT, 10000);
}

static starttls_session *by_poll(char **argv, int fd, const void *pending, size_t n,
                                 const starttls_policy *policy, starttls_error **error) {
    starttls_negotiation *negotiation =
        starttls_negotiation_new(argv[1], argv[3], argv[4], policy, error);
    starttls_session *session;
    int want, result = STARTTLS_WANT_READ;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    if (n > 0)
        starttls_negotiation_receive(negotiation, pending, n, error);
    while (*error == NULL && ((want = starttls_negotiation_want(negotiation)) == STARTTLS_WANT_READ ||
                              want == STARTTLS_WANT_WRITE))
        step(negotiation, fd, error);
    session = starttls_negotiation_session(negotiation, fd, error);
    starttls_negotiation_free(negotiation);
    while (*error == NULL && (result = starttls_try_handshake(session, error)) > STARTTLS_DONE)
        wait_for(fd, result == STARTTLS_WANT_WRITE             ? POLLOUT
                     : starttls_session_wants_write(session) ? POLLIN | POLLOUT
                                                             : POLLIN,
                 starttls_session_wait_ms(session));
    if (*error != NULL) {
        starttls_session_free(session);
        return NULL;
    }
    use(session, fd, error);
    return session;
}

int main(int argc, char **argv) {
    starttls_error *error = NULL;
    starttls_policy *policy;
    starttls_session *session;
    const char *time_out = getenv("DIALOG_TIMEOUT_MS");
    unsigned char *pending;
    uint16_t port;
    size_t n;
    int fd = -1;

    if (argc != 9 || (strcmp(argv[8], "connect") != 0 && strcmp(argv[8], "upgrade") != 0 &&
                      strcmp(argv[8], "poll") != 0)) {
        fprintf(stderr,
                "usage: %s PROTOCOL PORT HOST STAGE LEVEL CA_FILE PENDING_HEX connect|upgrade|poll\n",
                argv[0]);
        return 2;
    }
    port = (uint16_t)strtoul(argv[2], NULL, 10);
    pending = malloc(strlen(argv[7]) + 1);
    n = from_hex(argv[7], pending, strlen(argv[7]));

    policy = starttls_policy_new(argv[5], &error);
    if (argv[6][0] != '\0')
        starttls_policy_set_ca_file(policy, argv[6], &error);
    starttls_policy_set_timeout(policy, time_out ? (uint32_t)strtoul(time_out, NULL, 10) : 10000, &error);
    if (strcmp(argv[8], "connect") == 0) {
        starttls_policy_set_address(policy, "127.0.0.1", &error);
        session = starttls_connect(argv[1], argv[3], port, policy, &error);
    } else if (strcmp(argv[8], "poll") == 0) {
        starttls_policy_set_client_name(policy, "[127.0.0.1]", &error);
        fd = dial(port);
        session = by_poll(argv, fd, pending, n, policy, &error);
    } else {
        fd = dial(port);
        session = starttls_upgrade(argv[1], fd, argv[3], argv[4], pending, n, policy, &error);
    }
    free(pending);
    starttls_policy_free(policy);

    if (session == NULL) {
        printf("error %s %s\n", starttls_error_word(error),
               starttls_error_temporary(error) ? "temporary" : "permanent");
        fprintf(stderr, "%s\n", starttls_error_message(error));
    } else if (starttls_outcome_encrypted(starttls_session_outcome(session))) {
        printf("tls\n");
    } else {
        printf("plain %s\n", starttls_outcome_because(starttls_session_outcome(session)));
    }
    starttls_close(session, NULL);
    starttls_session_free(session);
    starttls_error_free(error);
    if (fd >= 0)
        close(fd);
    return 0;
}
