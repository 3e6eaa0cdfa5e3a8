/* For programs that know only /etc/resolv.conf and port 53: with this loaded first (LD_PRELOAD), the C library asks
   the name server at 127.0.0.1 port $STARTTLS_TESTS_DNS_PORT, and nobody else. It trusts its AD bit. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netinet/in.h>
#include <resolv.h>
#include <stdlib.h>
#include <string.h>

static void point(struct __res_state *state)
{
    const char *port = getenv("STARTTLS_TESTS_DNS_PORT");
    struct sockaddr_in *server = &state->nsaddr_list[0];

    memset(server, 0, sizeof *server);
    server->sin_family = AF_INET;
    server->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    server->sin_port = htons(port ? (unsigned short)atoi(port) : 0);
    state->nscount = 1;
    state->dnsrch[0] = NULL;
#ifdef RES_TRUSTAD
    state->options |= RES_TRUSTAD;
#endif
}

#undef res_ninit
int __res_ninit(struct __res_state *state);
int __res_ninit(struct __res_state *state)
{
    int (*real)(struct __res_state *);
    int result;

    *(void **)&real = dlsym(RTLD_NEXT, "__res_ninit");
    result = real ? real(state) : -1;
    if (result == 0)
        point(state);
    return result;
}

#undef res_init
int __res_init(void);
int __res_init(void)
{
    int (*real)(void);
    int result;

    *(void **)&real = dlsym(RTLD_NEXT, "__res_init");
    result = real ? real() : -1;
    if (result == 0)
        point(&_res);
    return result;
}
