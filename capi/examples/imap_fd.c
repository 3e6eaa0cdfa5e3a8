/* Connects to an IMAP server with its own socket, has that upgraded, asks for the capabilities over
 * TLS and logs out. The socket stays this program's.
 *
 *     cc -o imap_fd imap_fd.c $(pkg-config --cflags --libs starttls)
 *     imap_fd HOST PORT [CA_FILE]          exit: 0 done, 75 try again later, 1 failed, 2 usage
 */
#define _POSIX_C_SOURCE 200809L
#include <netdb.h>
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
    for (struct addrinfo *a = found; a != NULL && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype, a->ai_protocol);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) != 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(found);
    return fd;
}

/* Sends a command that begins with "TAG " and prints the answer up to the line with that tag. */
static bool ask(starttls_session *session, const char *command, starttls_error **error) {
    char text[8192];
    const char *line = text;
    size_t have = 0, tag = strcspn(command, " ") + 1, n;
    starttls_write(session, command, strlen(command), error);
    while (have + 1 < sizeof text &&
           starttls_read(session, text + have, sizeof text - have - 1, &n, error) && n > 0) {
        have += n;
        text[have] = '\0';
        for (const char *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
            printf("S: %.*s\n", (int)strcspn(line, "\r\n"), line);
            if (strncmp(line, command, tag) == 0)
                return strncmp(line + tag, "OK", 2) == 0;
        }
    }
    return false;
}

int main(int argc, char **argv) {
    int status = 1, fd = argc == 3 || argc == 4 ? dial(argv[1], argv[2]) : -1;
    if (fd < 0) {
        fprintf(stderr, "usage: %s HOST PORT [CA_FILE], or no connection there\n", argv[0]);
        return 2;
    }
    /* Each call does nothing once there is an error: one look at the end is enough. */
    starttls_error *error = NULL;
    starttls_policy *policy = starttls_policy_new("strict", &error);
    if (argc == 4)
        starttls_policy_set_ca_file(policy, argv[3], &error);
    /* Nothing was read from the socket yet, not even the greeting. */
    starttls_session *session =
        starttls_upgrade("imap", fd, argv[1], "greeting", NULL, 0, policy, &error);
    starttls_policy_free(policy);
    starttls_session_set_timeout(session, 30000, &error);
    if (ask(session, "a1 CAPABILITY\r\n", &error) && ask(session, "a2 LOGOUT\r\n", &error) &&
        starttls_close(session, &error))
        status = 0;
    if (error != NULL) {
        fprintf(stderr, "%s: %s\n", starttls_error_word(error), starttls_error_message(error));
        status = starttls_error_temporary(error) ? 75 : 1;
    }
    starttls_session_free(session);
    starttls_error_free(error);
    close(fd);
    return status;
}
