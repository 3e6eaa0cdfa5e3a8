/* The floor of a scan: so many upgrades, by so many threads, with OpenSSL written by hand.
 * Usage: scan PORT CA_FILE THREADS COUNT */
#define _GNU_SOURCE
#include "clients.h"

#include <pthread.h>
#include <stdatomic.h>

static struct floor_client client;
static int port;
static atomic_int left;

static void *work(void *unused) {
    while (atomic_fetch_sub(&left, 1) > 0)
        floor_close(floor_open(&client, port));
    return unused;
}

int main(int argc, char **argv) {
    pthread_t threads[256];
    int i, n;
    if (argc != 5 || (n = atoi(argv[3])) < 1 || n > 256)
        die("usage: scan PORT CA_FILE THREADS COUNT");
    port = atoi(argv[1]);
    left = atoi(argv[4]);
    floor_init(&client, argv[2], 0);
    for (i = 0; i < n; i++)
        if (pthread_create(&threads[i], NULL, work, NULL))
            die("pthread_create");
    for (i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    /* ours is in the header that the other programs use */
    (void)ours_open, (void)ours_close, (void)ours_policy;
    return 0;
}
