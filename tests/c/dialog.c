/* One upgrade, told in one line: `tls`, `plain BECAUSE`, or `error WORD temporary|permanent`. The exit
 * status is 0 for each of them. The peer is at 127.0.0.1:PORT, HOST is the name that is checked.
 *
 *     dialog PROTOCOL PORT HOST STAGE LEVEL CA_FILE PENDING_HEX connect|upgrade
 *
 * CA_FILE and PENDING_HEX may be empty. `connect` dials itself and knows only the stage greeting.
 */
#define _POSIX_C_SOURCE 200809L
#include <arpa/inet.h>
#include <netinet/in.h>
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

int main(int argc, char **argv) {
    starttls_error *error = NULL;
    starttls_policy *policy;
    starttls_session *session;
    const char *time_out = getenv("DIALOG_TIMEOUT_MS");
    unsigned char *pending;
    uint16_t port;
    size_t n;
    int fd = -1;

    if (argc != 9 || (strcmp(argv[8], "connect") != 0 && strcmp(argv[8], "upgrade") != 0)) {
        fprintf(stderr,
                "usage: %s PROTOCOL PORT HOST STAGE LEVEL CA_FILE PENDING_HEX connect|upgrade\n", argv[0]);
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
