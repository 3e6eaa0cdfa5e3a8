/* DNS from a table in this program, as one with its own resolver would hand it over. */
#ifndef ZONE_H
#define ZONE_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

enum { A = 1, MX = 15, TXT = 16, AAAA = 28, SRV = 33, TLSA = 52 };

struct record {
    const char *name, *proof; /* the proof of the whole answer; "fails": nobody knows now */
    int type;
    unsigned char data[512];
    size_t n;
};

static struct record zone[64];
static size_t zone_records;
static int zone_asked, zone_asked_tlsa, zone_last_time;
/* What is not there: proven or not. */
static const char *zone_denial = "secure";

static void zone_add(const char *name, int type, const char *proof, const void *data, size_t n) {
    struct record *record = &zone[zone_records++];
    if (zone_records > sizeof zone / sizeof *zone || n > sizeof record->data)
        abort();
    record->name = name;
    record->type = type;
    record->proof = proof;
    record->n = n;
    memcpy(record->data, data, n);
}

/* A name as on the wire, without compression; its length. */
static inline size_t zone_name(const char *name, unsigned char *wire) {
    size_t n = 0;
    while (*name != '\0') {
        size_t label = strcspn(name, ".");
        wire[n++] = (unsigned char)label;
        memcpy(wire + n, name, label);
        n += label;
        name += label + (name[label] == '.');
    }
    wire[n++] = 0;
    return n;
}

static inline void zone_mx(const char *name, const char *proof, unsigned int preference, const char *host) {
    unsigned char data[300] = {0};
    data[0] = (unsigned char)(preference >> 8);
    data[1] = (unsigned char)preference;
    zone_add(name, MX, proof, data, 2 + zone_name(host, data + 2));
}

static inline void zone_srv(const char *name, const char *proof, uint16_t port, const char *host) {
    unsigned char data[300] = {0, 0, 0, 0};
    data[4] = (unsigned char)(port >> 8);
    data[5] = (unsigned char)port;
    zone_add(name, SRV, proof, data, 6 + zone_name(host, data + 6));
}

static inline void zone_loopback(const char *name, const char *proof) {
    static const unsigned char loopback[4] = {127, 0, 0, 1};
    zone_add(name, A, proof, loopback, sizeof loopback);
}

static inline void zone_tlsa(const char *name, const char *proof, const unsigned char sha256[32]) {
    unsigned char data[35] = {3, 1, 1};
    memcpy(data + 3, sha256, 32);
    zone_add(name, TLSA, proof, data, sizeof data);
}

static inline void zone_txt(const char *name, const char *proof, const char *text) {
    unsigned char data[256];
    data[0] = (unsigned char)strlen(text);
    memcpy(data + 1, text, strlen(text));
    zone_add(name, TXT, proof, data, 1 + strlen(text));
}

static bool zone_look_up(const char *name, uint16_t type, int milliseconds, starttls_answer *answer,
                         void *userdata) {
    const char *proof = zone_denial;
    size_t i;
    CHECK(userdata == zone && milliseconds > 0);
    zone_asked++;
    zone_asked_tlsa += type == TLSA;
    zone_last_time = milliseconds;
    for (i = 0; i < zone_records; i++) {
        if (zone[i].type != type || strcmp(zone[i].name, name) != 0)
            continue;
        if (strcmp(zone[i].proof, "fails") == 0) {
            starttls_answer_set_failure(answer, "SERVFAIL \001 of the script", NULL);
            return true; /* that was said already */
        }
        starttls_answer_add(answer, zone[i].data, zone[i].n, NULL);
        proof = zone[i].proof;
    }
    starttls_answer_set_proof(answer, proof, NULL);
    starttls_answer_set_ttl(answer, 300, NULL);
    return true;
}

static void zone_empty(void) {
    zone_records = 0;
    zone_asked = zone_asked_tlsa = 0;
    zone_denial = "secure";
}

#endif
