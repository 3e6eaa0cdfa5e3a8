/* A cold process: from its start to one verified session with the system's trust store.
 * Usage: cold floor|ours PORT. */
#define _GNU_SOURCE
#include "clients.h"

int main(int argc, char **argv) {
    if (argc != 3)
        die("usage: cold floor|ours PORT");
    if (!strcmp(argv[1], "floor")) {
        struct floor_client f;
        floor_init(&f, NULL, 0);
        floor_close(floor_open(&f, atoi(argv[2])));
    } else {
        starttls_policy *policy = ours_policy(NULL);
        ours_close(ours_open(policy, atoi(argv[2])));
        starttls_policy_free(policy);
    }
    return 0;
}
