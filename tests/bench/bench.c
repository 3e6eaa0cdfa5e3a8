/* Compares libstarttls with the floor in one process, batch by batch: the machine's noise hits
 * both. Usage: bench FRESH_PORT RESUMING_PORT CA_FILE. Prints a line a measurement: the median of
 * the pair ratios (ours to the floor's speed; above 1 is faster) with quartiles. */
#define _GNU_SOURCE
#include <malloc.h>
#include <sys/resource.h>
#include <time.h>

#include "clients.h"

enum { PAIRS = 40, BATCH = 25, BULK_PAIRS = 40, IDLE = 300 };
#define BULK (8L << 20)

struct cost {
    double wall, cpu;
};

static struct cost now(void) {
    struct timespec t;
    struct rusage u;
    struct cost c;
    clock_gettime(CLOCK_MONOTONIC, &t);
    getrusage(RUSAGE_SELF, &u);
    c.wall = (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
    c.cpu = (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
            1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
    return c;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print(const char *what, const char *of, double *ratio, int n, double goal) {
    qsort(ratio, (size_t)n, sizeof *ratio, by_value);
    printf("%-34s %-5s %5.2f  [%.2f .. %.2f]  goal %.2f\n", what, of, ratio[n / 2], ratio[n / 4],
           ratio[3 * n / 4], goal);
}

typedef void work(void *with);

static void compare(const char *what, int pairs, work *floor, void *f, work *ours, void *o) {
    static double wall[256], cpu[256];
    double speed = 0;
    floor(f); /* warm both */
    ours(o);
    for (int i = 0; i < pairs; i++) {
        struct cost a, b, c;
        int floor_first = i % 2;
        a = now();
        floor_first ? floor(f) : ours(o);
        b = now();
        floor_first ? ours(o) : floor(f);
        c = now();
        {
            struct cost x = {b.wall - a.wall, b.cpu - a.cpu}, y = {c.wall - b.wall, c.cpu - b.cpu};
            struct cost fl = floor_first ? x : y, us = floor_first ? y : x;
            wall[i] = fl.wall / us.wall;
            cpu[i] = fl.cpu / us.cpu;
            speed += us.wall / pairs;
        }
    }
    print(what, "wall", wall, pairs, 0.95);
    print(what, "cpu", cpu, pairs, 0.95);
    printf("%-34s ours: %.1f ms a batch\n", "", speed * 1e3);
}

struct floor_at {
    struct floor_client client;
    int port;
    SSL *open;
};
struct ours_at {
    starttls_policy *policy;
    int port;
    starttls_session *open;
};

static void floor_upgrades(void *with) {
    struct floor_at *f = with;
    char buf[512];
    for (int i = 0; i < BATCH; i++) {
        SSL *ssl = floor_open(&f->client, f->port);
        SSL_write(ssl, "EHLO me\r\n", 9);
        if (SSL_read(ssl, buf, sizeof buf) <= 0)
            die("no answer over TLS");
        floor_close(ssl);
    }
}

static void ours_upgrades(void *with) {
    struct ours_at *o = with;
    char buf[512];
    size_t n;
    for (int i = 0; i < BATCH; i++) {
        starttls_session *s = ours_open(o->policy, o->port);
        if (!starttls_write(s, "EHLO me\r\n", 9, NULL) ||
            !starttls_read(s, buf, sizeof buf, &n, NULL) || n == 0)
            die("no answer over TLS");
        ours_close(s);
    }
}

static char block[16384];

static void floor_writes(void *with) {
    struct floor_at *f = with;
    char buf[64];
    int n = snprintf(buf, sizeof buf, "SINK %ld\r\n", BULK);
    SSL_write(f->open, buf, n);
    for (long left = BULK; left > 0; left -= (long)sizeof block)
        SSL_write(f->open, block, sizeof block);
    if (SSL_read(f->open, buf, sizeof buf) <= 0)
        die("bulk");
}

static void ours_writes(void *with) {
    struct ours_at *o = with;
    char buf[64];
    size_t got;
    int n = snprintf(buf, sizeof buf, "SINK %ld\r\n", BULK);
    starttls_write(o->open, buf, (size_t)n, NULL);
    for (long left = BULK; left > 0; left -= (long)sizeof block)
        if (!starttls_write(o->open, block, sizeof block, NULL))
            die("bulk");
    if (!starttls_read(o->open, buf, sizeof buf, &got, NULL))
        die("bulk");
}

static void floor_reads(void *with) {
    struct floor_at *f = with;
    char buf[64];
    int n = snprintf(buf, sizeof buf, "SOURCE %ld\r\n", BULK);
    SSL_write(f->open, buf, n);
    for (long left = BULK; left > 0; left -= n)
        if ((n = SSL_read(f->open, block, sizeof block)) <= 0)
            die("bulk");
}

static void ours_reads(void *with) {
    struct ours_at *o = with;
    char buf[64];
    size_t got;
    int n = snprintf(buf, sizeof buf, "SOURCE %ld\r\n", BULK);
    starttls_write(o->open, buf, (size_t)n, NULL);
    for (long left = BULK; left > 0; left -= (long)got)
        if (!starttls_read(o->open, block, sizeof block, &got, NULL) || got == 0)
            die("bulk");
}

/* Bytes of heap that one idle session holds, both after an exchange over TLS. */
static void memory(int port, const char *ca) {
    static SSL *floors[IDLE];
    static starttls_session *sessions[IDLE];
    struct floor_client f;
    starttls_policy *policy = ours_policy(ca);
    size_t before, of_floor, of_ours;
    char buf[512];
    size_t n;
    floor_init(&f, ca, 0);
    floor_close(floor_open(&f, port));
    ours_close(ours_open(policy, port));
    before = mallinfo2().uordblks;
    for (int i = 0; i < IDLE; i++) {
        floors[i] = floor_open(&f, port);
        SSL_write(floors[i], "EHLO me\r\n", 9);
        SSL_read(floors[i], buf, sizeof buf);
    }
    of_floor = (mallinfo2().uordblks - before) / IDLE;
    for (int i = 0; i < IDLE; i++)
        floor_close(floors[i]);
    before = mallinfo2().uordblks;
    for (int i = 0; i < IDLE; i++) {
        sessions[i] = ours_open(policy, port);
        starttls_write(sessions[i], "EHLO me\r\n", 9, NULL);
        starttls_read(sessions[i], buf, sizeof buf, &n, NULL);
    }
    of_ours = (mallinfo2().uordblks - before) / IDLE;
    for (int i = 0; i < IDLE; i++)
        ours_close(sessions[i]);
    printf("%-34s %-5s %5.2f  (%zu and %zu bytes)  goal at most 1.20\n", "memory per idle session",
           "heap", (double)of_ours / (double)of_floor, of_ours, of_floor);
    starttls_policy_free(policy);
    SSL_CTX_free(f.ctx);
}

int main(int argc, char **argv) {
    struct floor_at f = {0};
    struct ours_at o = {0};
    if (argc != 4)
        die("usage: bench FRESH_PORT RESUMING_PORT CA_FILE");
    floor_init(&f.client, argv[3], 0);
    o.policy = ours_policy(argv[3]);
    f.port = o.port = atoi(argv[1]);
    compare("fresh upgrades, 25 a batch", PAIRS, floor_upgrades, &f, ours_upgrades, &o);
    f.open = floor_open(&f.client, f.port);
    o.open = ours_open(o.policy, o.port);
    compare("bulk write, 16 KiB each", BULK_PAIRS, floor_writes, &f, ours_writes, &o);
    compare("bulk read, 16 KiB each", BULK_PAIRS, floor_reads, &f, ours_reads, &o);
    floor_close(f.open);
    ours_close(o.open);
    floor_init(&f.client, argv[3], 1);
    f.port = o.port = atoi(argv[2]);
    compare("resumed upgrades, 25 a batch", PAIRS, floor_upgrades, &f, ours_upgrades, &o);
    memory(atoi(argv[1]), argv[3]);
    return 0;
}
