/* Many upgrades at once in one thread, by the step machine and poll(2): all are in their handshake at the
 * same time, none is lost, each peer is verified, and an idle session holds no more memory than it should.
 *
 *     many CERTS_DIR N [PORT CA_FILE]
 *
 * With a port: a real IMAP server's on 127.0.0.1. Without: a child's, made of the same step machine.
 */
#define _DEFAULT_SOURCE
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Heap of an idle session, in bytes: a fifth more than `make bench` shows, where a hand-written client has
 * twice as much. Tickets leave a buffer of 16 KiB behind in OpenSSL until something is written: so that each
 * client asks twice. */
#define MOST_HEAP 31000

enum stage { TALKING, SHAKING, ASKING, IDLE, LOST };

struct end {
    enum stage stage;
    bool client;
    starttls_negotiation *talk;
    starttls_session *session;
    starttls_error *error;
    char answer[200];
    size_t have;
    int asked;
};

static starttls_error *error;

static void lose(struct end *end, const char *why) {
    if (end->stage != LOST && end->client)
        fprintf(stderr, "lost: %s: %s\n", why, end->error ? starttls_error_message(end->error) : "");
    end->stage = LOST;
}

static short talk(struct end *end, int fd) {
    char buf[512];
    ssize_t n;
    for (;;) {
        int want;
        while ((n = recv(fd, buf, sizeof buf, 0)) > 0)
            if (!starttls_negotiation_receive(end->talk, buf, (size_t)n, &end->error))
                return 0;
        want = starttls_negotiation_want(end->talk);
        if (want == STARTTLS_WANT_HANDSHAKE) {
            end->session = starttls_negotiation_session(end->talk, fd, &end->error);
            starttls_negotiation_free(end->talk);
            end->talk = NULL;
            end->stage = SHAKING;
            return POLLOUT; /* at once */
        }
        if (n == 0 || errno != EAGAIN)
            return (short)starttls_negotiation_closed(end->talk, &end->error);
        if (want == STARTTLS_WANT_READ)
            return POLLIN;
        {
            size_t length;
            const void *output = starttls_negotiation_output(end->talk, &length);
            if ((n = send(fd, output, length, MSG_NOSIGNAL)) < 0)
                return POLLOUT;
            starttls_negotiation_sent(end->talk, (size_t)n, &end->error);
        }
    }
}

static const char ask[] = "a2 NOOP\r\n", yes[] = "a2 OK done\r\n";

static void say(struct end *end, const char *line) {
    size_t n, length = strlen(line);
    if (starttls_try_write(end->session, line, length, &n, &end->error) != STARTTLS_DONE || n != length)
        lose(end, "not written at once");
}

/* A line and its answer: the client asks, twice; the server answers. */
static short exchange(struct end *end) {
    size_t n;
    int result;
    while ((result = starttls_try_read(end->session, end->answer + end->have,
                                       sizeof end->answer - end->have, &n, &end->error)) == STARTTLS_DONE) {
        end->have += n;
        if (end->answer[end->have - 1] == '\n' || end->have == sizeof end->answer) {
            if (!end->client)
                say(end, yes);
            else if (memcmp(end->answer, "a2 OK", 5) != 0)
                lose(end, "another answer");
            else if (end->asked++ < 2)
                say(end, ask);
            else
                end->stage = IDLE;
            end->have = 0;
        }
    }
    if (result == STARTTLS_CLOSED)
        lose(end, "closed");
    return POLLIN;
}

static short step(struct end *end, int fd) {
    short events = 0;
    if (end->stage == TALKING)
        events = talk(end, fd);
    else if (end->stage == SHAKING) {
        int result = starttls_try_handshake(end->session, &end->error);
        events = result == STARTTLS_WANT_WRITE ? POLLOUT : POLLIN;
        if (result == STARTTLS_DONE) {
            end->stage = ASKING;
            if (end->client && end->asked++ == 0)
                say(end, ask);
            events = exchange(end);
        }
    } else {
        events = exchange(end);
    }
    if (end->error != NULL)
        lose(end, "failed");
    return end->stage == LOST ? 0 : starttls_session_wants_write(end->session) ? POLLIN | POLLOUT : events;
}

static void end_free(struct end *end, int fd) {
    starttls_negotiation_free(end->talk);
    starttls_session_free(end->session);
    starttls_error_free(end->error);
    close(fd);
}

/* --- the server, where there is no real one ----------------------------------------------------------- */

static void serve(int listener, const starttls_policy *policy, size_t room) {
    struct pollfd *fds = calloc(room + 1, sizeof *fds);
    struct end *ends = calloc(room + 1, sizeof *ends);
    size_t n = 1, i;
    fds[0].fd = listener;
    fds[0].events = POLLIN;
    while (poll(fds, (nfds_t)n, -1) > 0) {
        int fd;
        while (n <= room && (fd = accept(listener, NULL, NULL)) >= 0) {
            fcntl(fd, F_SETFL, O_NONBLOCK);
            send(fd, "* OK ready\r\n", 12, MSG_NOSIGNAL);
            ends[n].talk = starttls_negotiation_accept("imap", policy, &ends[n].error);
            fds[n].fd = fd;
            fds[n++].events = POLLIN;
        }
        for (i = 1; i < n; i++) {
            if (fds[i].revents == 0)
                continue;
            fds[i].events = step(&ends[i], fds[i].fd);
            if (ends[i].stage == LOST) {
                end_free(&ends[i], fds[i].fd);
                n--;
                ends[i] = ends[n];
                fds[i] = fds[n];
                memset(&ends[n], 0, sizeof ends[n]);
                i--;
            }
        }
    }
}

static pid_t server(const char *certs, size_t room, uint16_t *port) {
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    char crt[600], key[600];
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    starttls_policy *policy = starttls_policy_new("encrypt", &error);
    pid_t pid;
    snprintf(crt, sizeof crt, "%s/good.crt", certs);
    snprintf(key, sizeof key, "%s/good.key", certs);
    starttls_policy_set_server_cert(policy, crt, key, &error);
    CHECK(starttls_policy_ready(policy, &error));
    NONE(error);
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, 4096) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) != 0 || (pid = fork()) < 0)
        abort();
    if (pid == 0) {
        alarm(120);
        fcntl(listener, F_SETFL, O_NONBLOCK);
        serve(listener, policy, room);
        _exit(0);
    }
    starttls_policy_free(policy);
    close(listener);
    *port = ntohs(address.sin_port);
    return pid;
}

/* --- the clients ------------------------------------------------------------------------------------- */

static int dial(uint16_t port) {
    struct sockaddr_in address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0 && errno != EINPROGRESS)
        return -1;
    return fd;
}

static size_t heap(void) {
    return mallinfo2().uordblks;
}

static long milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Goes on with all of them until each has come to this stage or is lost. */
static size_t all_to(enum stage stage, struct end *ends, struct pollfd *fds, size_t count) {
    size_t i, there = 0;
    long give_up = milliseconds() + 60000;
    do {
        for (i = there = 0; i < count; i++) {
            if (ends[i].stage < stage && fds[i].revents != 0)
                fds[i].events = step(&ends[i], fds[i].fd);
            if (ends[i].stage >= stage)
                fds[i].events = 0;
            there += ends[i].stage >= stage;
        }
    } while (there < count && milliseconds() < give_up && poll(fds, (nfds_t)count, 1000) >= 0);
    for (i = there = 0; i < count; i++) {
        there += ends[i].stage == stage;
        fds[i].events = POLLIN;
    }
    return there;
}

static void many(uint16_t port, const char *ca, size_t count) {
    struct pollfd *fds = calloc(count, sizeof *fds);
    struct end *ends = calloc(count, sizeof *ends);
    starttls_policy *policy = starttls_policy_new("strict", &error);
    size_t before = 0, i, verified = 0, each;
    long began, in_clear, shaken;
    starttls_policy_set_ca_file(policy, ca, &error);
    starttls_policy_set_timeout(policy, 60000, &error);
    CHECK(starttls_policy_ready(policy, &error));
    NONE(error);
    began = milliseconds();
    for (i = 0; i < count; i++) {
        if (i == 1) { /* the first has made what all share */
            CHECK(all_to(IDLE, ends, fds, 1) == 1);
            before = heap();
            began = milliseconds();
        }
        ends[i].client = true;
        ends[i].talk = starttls_negotiation_new("imap", "mail.example.test", "greeting", policy, &error);
        fds[i].fd = dial(port);
        fds[i].events = fds[i].revents = POLLIN;
        CHECK(fds[i].fd >= 0);
    }
    NONE(error);
    CHECK(all_to(SHAKING, ends + 1, fds + 1, count - 1) == count - 1);
    in_clear = milliseconds() - began;

    /* Every ClientHello leaves before any answer is read. */
    for (i = 1; i < count; i++) {
        CHECK(starttls_session_outcome(ends[i].session) == NULL);
        CHECK(starttls_try_handshake(ends[i].session, &ends[i].error) == STARTTLS_WANT_READ);
        fds[i].revents = 0;
    }
    CHECK(all_to(IDLE, ends + 1, fds + 1, count - 1) == count - 1);
    shaken = milliseconds() - began - in_clear;
    each = (heap() - before) / (count - 1);
    for (i = 0; i < count; i++) {
        const starttls_outcome *outcome = starttls_session_outcome(ends[i].session);
        verified += same(starttls_outcome_identity(outcome), "pkix") &&
                    same(starttls_outcome_identity_name(outcome), "mail.example.test");
    }
    CHECK(verified == count);
    CHECK(each < MOST_HEAP);
    for (i = 0; i < count; i++) {
        CHECK(starttls_try_close(ends[i].session, &ends[i].error) == STARTTLS_DONE);
        end_free(&ends[i], fds[i].fd);
    }
    starttls_policy_free(policy);
    free(fds);
    free(ends);
    printf("%lu verified at once: %ld ms in clear, %ld ms to shake hands, %lu bytes each; ", (unsigned long)count,
           in_clear, shaken, (unsigned long)each);
}

int main(int argc, char **argv) {
    struct rlimit files;
    size_t count;
    if (argc != 3 && argc != 5)
        return 2;
    count = (size_t)strtoul(argv[2], NULL, 10);
    getrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur < count + 50 && files.rlim_max >= count + 50) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    if (argc == 5) {
        many((uint16_t)strtoul(argv[3], NULL, 10), argv[4], count);
    } else {
        char ca[600];
        uint16_t port = 0;
        pid_t pid = server(argv[1], count + 10, &port);
        snprintf(ca, sizeof ca, "%s/ca.crt", argv[1]);
        many(port, ca, count);
        kill(pid, SIGTERM);
        while (waitpid(pid, NULL, 0) != pid)
            ;
    }
    return checks_report();
}
