/*
 * starttls.h - libstarttls: from a plaintext mail connection to a TLS one (STARTTLS, STLS, or TLS
 * from the first byte), every check made, and an honest word about what was obtained.
 *
 *     starttls_error *error = NULL;
 *     starttls_policy *policy = starttls_policy_new("strict", &error);
 *     starttls_session *session = starttls_connect("smtp", "mail.example.org", 587, policy, &error);
 *     starttls_write(session, "QUIT\r\n", 6, &error);
 *     if (error)
 *         fprintf(stderr, "%s\n", starttls_error_message(error));
 *     starttls_session_free(session);
 *     starttls_policy_free(policy);
 *     starttls_error_free(error);
 *
 * A policy is what must hold, an outcome is what did; there is a session only where the outcome meets
 * the policy. starttls_connect dials, starttls_upgrade takes a socket, starttls_accept is the server's
 * side; all wait. Event loops use starttls_negotiation_new and starttls_try_..., programs with an SSL
 * of their own starttls_prepare and starttls_check. Mail to a domain, by what it asks of its senders:
 * starttls_connect_domain, or starttls_routes_find for daemons that dial themselves. Link with `pkg-config --cflags --libs starttls`;
 * add --static for the archive.
 *
 * FUNCTIONS take inputs, then outputs, then `starttls_error **error`. What makes something returns it
 * or NULL; what does something returns true or false. Choices are words and numbers, never enums.
 * A function that takes a const pointer only reads through it. Strings are UTF-8 and end in NUL;
 * names of files may have any encoding.
 *
 * ERRORS. `error` is NULL, or points to a variable that was set to NULL. When a call fails it puts an
 * error there, to be freed with starttls_error_free. Errors fail closed: a call that finds an error
 * there does nothing and returns NULL or false, so calls can be chained and checked once. A setter
 * that fails spoils its policy: every later use of it fails with the same error, even where `error`
 * was NULL. NULL arguments, bad descriptors and unknown words are `invalid`, never a crash; any
 * function may fail so, and what else is to be expected is said with it.
 *
 * The words of errors, which never change; other words may be added:
 *     not-offered refused malformed injected too-long closed stripped             the dialog
 *     handshake                                                                   TLS
 *     fingerprint-mismatch dane-mismatch no-dane untrusted expired name-mismatch
 *     name-insecure                                                               the peer
 *     lookup-failed dns-bogus null-mx sts-unavailable sts-mismatch                the domain
 *     timeout io                                                                  the network
 *     invalid (the caller's input) unsupported bug (a fault in this library; it never aborts)
 *
 * OWNERSHIP. What a function makes, and a failed call's `error`, is the caller's, who frees it with the
 * type's _free; NULL is then a no-op. Strings and outcomes are borrowed from the session or error they
 * were asked of and end with it (but the outcome of starttls_check is the caller's). Arguments are
 * copied. A policy is frozen by its first use (connect, derive, ready and so on): later setters fail
 * with `invalid`. Sessions keep what they need of it, so it may be freed first.
 *
 * CALLBACKS. A policy may be given functions of the program's, for DNS and for a cache. They are called on the
 * thread, and in the process, that made the call which needs them; they return false where they cannot say, and
 * never leave by longjmp or an exception. What they are handed (names, answers, values) ends when they return;
 * what they find they hand over by calls, which copy it. They may call this library.
 *
 * THREADS. A policy can be used by many threads at once. Of one session, one thread may read while
 * another writes; starttls_close may be called by any. Setters and _free want the object to themselves.
 *
 * PROCESSES. The library starts no threads, touches no signal handlers and never raises SIGPIPE. A
 * policy may be made before fork and used by the children of a single-threaded parent. A session
 * belongs to one process: in a child it may only be freed, which sends nothing and leaves the parent's
 * alone; to read, write or close it there is `invalid`.
 */


#ifndef STARTTLS_H
#define STARTTLS_H

/* Generated from the library's source (`make header`): changes made here are lost. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
/* OpenSSL's, whose own headers are not needed. */
struct ssl_st;
struct ssl_ctx_st;


/**
 * The version of this header, as `starttls_version()` gives that of the library.
 */
#define STARTTLS_VERSION 256

/**
 * What was asked for is done.
 */
#define STARTTLS_DONE 0

/**
 * Call again when the descriptor is readable; or, of a negotiation: read, and hand over what came.
 */
#define STARTTLS_WANT_READ 1

/**
 * Call again when the descriptor is writable; or, of a negotiation: send its output.
 */
#define STARTTLS_WANT_WRITE 2

/**
 * The peer has closed properly.
 */
#define STARTTLS_CLOSED 3

/**
 * The negotiation is over, and the TLS handshake comes next.
 */
#define STARTTLS_WANT_HANDSHAKE 4

/**
 * The negotiation is over, and the connection stays in clear.
 */
#define STARTTLS_PLAIN 5

/**
 * It failed; the error says why.
 */
#define STARTTLS_FAILED -1

/**
 * An answer that a look-up function fills. It belongs to the library, and is gone when the function returns.
 */
typedef struct starttls_answer starttls_answer;

/**
 * Why a call failed: a word for programs, a sentence for people, and the outcome so far.
 */
typedef struct starttls_error starttls_error;

/**
 * A dialog in clear, without any input or output of its own: for event loops.
 *
 *     starttls_negotiation *n = starttls_negotiation_new("smtp", host, "greeting", policy, &error);
 *     for (;;) {
 *         ... hand all that has come to _receive(), whatever it wants; then
 *         switch (starttls_negotiation_want(n)) {
 *         case STARTTLS_WANT_WRITE: ... send starttls_negotiation_output(), then _sent(); break;
 *         case STARTTLS_WANT_READ: ... wait, or call _closed() or _timed_out(); break;
 *         default: session = starttls_negotiation_session(n, fd, &error);
 *         }
 *     }
 *
 * Then `starttls_try_handshake` until it is done, `starttls_try_read` and `starttls_try_write`. Not for
 * several threads at once.
 */
typedef struct starttls_negotiation starttls_negotiation;

/**
 * What did happen on a connection. It belongs to its session, error or later outcome; only that of
 * `starttls_check` is the caller's.
 */
typedef struct starttls_outcome starttls_outcome;

/**
 * What must hold on a connection: a level, and what goes with it.
 */
typedef struct starttls_policy starttls_policy;

/**
 * The TLS reports of one period, for those who send their own: first events are added, then the reports are taken out one
 * by one.
 *
 *     starttls_reports *reports = starttls_reports_new("Example", "tls@example.org", begin, end, &error);
 *     ... for each line that was written: starttls_reports_add(reports, line, &error);
 *     while (starttls_reports_next(reports, &error)) {
 *         ... mail or post starttls_reports_gzip(reports, &n) to starttls_reports_rua(reports, i)
 *     }
 *
 * Memory is bounded: what has no room is still counted, in rows that say so. Not for several threads at once.
 */
typedef struct starttls_reports starttls_reports;

/**
 * The hosts of a domain in their order, each with its addresses and with the policy that holds there: for
 * daemons that dial themselves. Nothing is dialled.
 *
 *     starttls_routes *routes = starttls_routes_find(domain, policy, &error);
 *     while (starttls_routes_left(routes) > 0) {
 *         if (!starttls_routes_next(routes, &error)) {
 *             ... this host will not do: log it, remember whether it is temporary
 *             starttls_error_free(error);
 *             error = NULL;
 *             continue;
 *         }
 *         ... dial starttls_routes_address(routes, i), then starttls_upgrade or starttls_negotiation_new
 *         ... with starttls_routes_host(routes) and starttls_routes_policy(routes)
 *     }
 *
 * Looking up waits, so event loops do it in a thread or a process of its own. Not for several threads at once.
 */
typedef struct starttls_routes starttls_routes;

/**
 * A connection that was negotiated, over TLS or, where the policy allows it, in clear.
 */
typedef struct starttls_session starttls_session;

/**
 * What a domain publishes: mail hosts, TLSA records, MTA-STS, TLSRPT. For people who look at a domain, their own
 * or another's.
 */
typedef struct starttls_survey starttls_survey;

/**
 * Where a get function puts what it finds. It belongs to the library, and is gone when the function returns.
 */
typedef struct starttls_value starttls_value;

/**
 * Answers a DNS question: the records of this name (A-labels, no dot at the end) and type (1 A, 15 MX, 16 TXT,
 * 28 AAAA, 33 SRV, 52 TLSA, 5 CNAME), CNAMEs followed. True with an answer, which has no records where there are
 * none; false where nobody knows now, which is `lookup-failed` and never "no records". It should not take longer
 * than so many milliseconds.
 */
typedef bool (*starttls_lookup)(const char *name,
                                uint16_t type,
                                int milliseconds,
                                starttls_answer *answer,
                                void *userdata);

/**
 * Finds what was put under this key, and hands it over by `starttls_value_set`; without that call nothing is there, or it
 * has expired. False where the cache cannot be asked now.
 */
typedef bool (*starttls_cache_get)(const char *key, starttls_value *value, void *userdata);

/**
 * Keeps these `n` bytes (128 KiB at most) under this key, in place of what was there, until this time (seconds
 * since 1970) at the latest: who reads at the same time gets the old or the new value, whole. False where it
 * cannot be kept now.
 */
typedef bool (*starttls_cache_put)(const char *key,
                                   const void *value,
                                   size_t n,
                                   int64_t expires,
                                   void *userdata);

/**
 * Takes away what is under this key; that nothing is there is no failure. False where it cannot be done now.
 */
typedef bool (*starttls_cache_remove)(const char *key, void *userdata);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version of the library that runs: major * 65536 + minor * 256 + patch, so 256 for
 * 0.1.0.
 */
uint32_t starttls_version(void);

/**
 * The words that go wherever a function asks for a protocol: `smtp`, `imap` and so on, and `smtps`,
 * `imaps` and so on for TLS from the first byte. The i-th, from 0; NULL past the end. The string is
 * static.
 */
const char *starttls_protocol_name(size_t i);

/**
 * A policy of this level, with a time-out of 30 seconds and the system's trust store:
 *
 * | level           | TLS        | who the peer must be                                        |
 * |-----------------|------------|-------------------------------------------------------------|
 * | `none`          | never      |                                                             |
 * | `may`           | if offered | anyone                                                      |
 * | `encrypt`       | required   | anyone                                                      |
 * | `fingerprint`   | required   | has a certificate or key of a given SHA-256                 |
 * | `verify`        | required   | has a certificate of a trusted root for the host's name     |
 * | `dane`          | depends    | as the host's secure TLSA records say; without: as `may`    |
 * | `dane-only`     | required   | as the host's secure TLSA records say; without: `no-dane`   |
 * | `opportunistic` | depends    | as its domain asks: by DANE, else MTA-STS, else as `may`    |
 * | `strict`        | required   | by DANE where it can be had, else as `verify`; and the name |
 * |                 |            | not from insecure DNS                                       |
 *
 * Where secure TLSA records are there and none can be used, `dane` and `opportunistic` require TLS, with anyone.
 * A look-up of TLSA records that fails is an error that may mend itself, never less TLS. They are looked up for `smtp`,
 * and for other protocols at `dane` and `dane-only`; by event loops and for an `SSL` of the program's own they are
 * handed in (`starttls_policy_add_tlsa`, or the policy of `starttls_routes_policy`): nothing waits there. MTA-STS is
 * a domain's: `starttls_connect_domain`.
 *
 * `invalid` for another word. Free it with `starttls_policy_free`.
 */
starttls_policy *starttls_policy_new(const char *level,
                                     starttls_error **error);

/**
 * A policy for one connection, made from one for all of them. Cheap: it shares what was read and
 * built for the first, and its resumable TLS sessions, unless a file or a TLS version is set on it.
 * What is set on it does not touch the first, which is frozen and may be freed before it.
 */
starttls_policy *starttls_policy_derive(const starttls_policy *policy, starttls_error **error);

/**
 * Trust the certificates of this PEM file, and with it no longer the system's. `invalid` if it
 * cannot be read; what is in it is looked at by the first use or by `starttls_policy_ready`.
 */
bool starttls_policy_set_ca_file(starttls_policy *policy, const char *file, starttls_error **error);

/**
 * Trust the certificates of this directory with hash links (`openssl rehash`), and with it no
 * longer the system's. `invalid` if it is no directory.
 */
bool starttls_policy_set_ca_path(starttls_policy *policy,
                                 const char *directory,
                                 starttls_error **error);

/**
 * Read the whole trust store in `starttls_policy_ready`, directories and the system's bundle included,
 * for programs that chroot afterwards and no longer find them file by file.
 */
bool starttls_policy_set_preload_ca(starttls_policy *policy,
                                    starttls_error **error);

/**
 * Show this certificate (PEM, the leaf first, then its chain) and use this key (PEM) if the server
 * asks for one. Both may be the same file. `invalid` if one cannot be read.
 */
bool starttls_policy_set_client_cert(starttls_policy *policy,
                                     const char *certificate,
                                     const char *key,
                                     starttls_error **error);

/**
 * As server, show this certificate (PEM, the leaf first, then its chain) with this key (PEM); both may
 * be the same file. May be called several times: a client that asks for a host by name (SNI) is shown
 * the certificate with that name, all others the first. `invalid` if a file cannot be read.
 */
bool starttls_policy_set_server_cert(starttls_policy *policy,
                                     const char *certificate,
                                     const char *key,
                                     starttls_error **error);

/**
 * As `starttls_policy_set_server_cert`, with the PEM itself instead of its files.
 */
bool starttls_policy_set_server_cert_pem(starttls_policy *policy,
                                         const void *certificate,
                                         size_t certificate_length,
                                         const void *key,
                                         size_t key_length,
                                         starttls_error **error);

/**
 * As server, show the certificates of this directory, each to the clients that ask for its host:
 * `HOST.pem` (certificate, chain and key in one), or `HOST.crt` and `HOST.key`; in `_.DOMAIN.pem` the
 * `_` stands for any one label. Others are shown the first of `starttls_policy_set_server_cert` or,
 * without one, the first file by name. All are read at once, by the first use or by
 * `starttls_policy_ready`, and again by `starttls_policy_reload`.
 */
bool starttls_policy_set_server_cert_dir(starttls_policy *policy,
                                         const char *directory,
                                         starttls_error **error);

/**
 * As server at level `encrypt`, ask the client for a certificate; none, or one that is not trusted, is
 * no error, and the outcome tells. At `verify` and `fingerprint` one is demanded without this.
 */
bool starttls_policy_set_ask_client_cert(starttls_policy *policy,
                                         starttls_error **error);

/**
 * As server, reads certificates, keys and CA anew, for this policy and all derived from it: sessions
 * that exist go on, and tickets given out stay good. Who forks calls it in the parent. If it fails,
 * what was read before stays in use.
 */
bool starttls_policy_reload(const starttls_policy *policy,
                            starttls_error **error);

/**
 * Accept no TLS version older than `1.0`, `1.1`, `1.2` or `1.3`. If it is not set: 1.2, but under
 * `may` and `opportunistic` whatever the peers have in common, since weak TLS beats clear.
 */
bool starttls_policy_set_min_tls(starttls_policy *policy,
                                 const char *version,
                                 starttls_error **error);

/**
 * The time for resolving, dialling, dialog and handshake together, in milliseconds; 30000 if it is
 * not set. `invalid` if it is 0 or more than a day.
 */
bool starttls_policy_set_timeout(starttls_policy *policy,
                                 uint32_t milliseconds,
                                 starttls_error **error);

/**
 * Accept a certificate whose own SHA-256, or whose public key's (SubjectPublicKeyInfo), is this: 64
 * hex digits, colons allowed. May be called several times. Only level `fingerprint` takes them, and
 * it needs one: else the first use is `invalid`.
 */
bool starttls_policy_add_fingerprint(starttls_policy *policy,
                                     const char *sha256,
                                     starttls_error **error);

/**
 * How the client calls itself in EHLO and LHLO: a host name in A-labels or an address literal. If
 * it is not set: the connection's own address, such as `[192.0.2.1]`; nothing is looked up.
 */
bool starttls_policy_set_client_name(starttls_policy *policy,
                                     const char *name,
                                     starttls_error **error);

/**
 * Accept a certificate for this name too, beside the host's. May be called several times.
 */
bool starttls_policy_add_name(starttls_policy *policy, const char *name, starttls_error **error);

/**
 * Send this server name (SNI) in the handshake instead of the host's.
 */
bool starttls_policy_set_sni(starttls_policy *policy, const char *name, starttls_error **error);

/**
 * Dial this IPv4 or IPv6 address; the host is then only what is checked, and nothing is looked up.
 */
bool starttls_policy_set_address(starttls_policy *policy,
                                 const char *address,
                                 starttls_error **error);

/**
 * Where the host's name comes from: `caller` (configuration or a person; the default), `dnssec`,
 * `mta-sts` or `insecure-dns`. What only insecure DNS says proves nothing: level `strict` then fails
 * with `name-insecure`.
 */
bool starttls_policy_set_name_from(starttls_policy *policy,
                                   const char *source,
                                   starttls_error **error);

/**
 * Reads all files and builds everything now: before `fork` or dropping privileges, and, with
 * `starttls_policy_set_preload_ca`, before `chroot`; without that, directories of CA certificates are
 * looked up when they are needed. Without it the first connection does so. `invalid` if settings contradict each other or a file holds no
 * usable certificate or key.
 */
bool starttls_policy_ready(const starttls_policy *policy,
                           starttls_error **error);

/**
 * Frees a policy. Sessions and derived policies keep what they need of it. That of `starttls_routes_policy` is left
 * alone. NULL does nothing.
 */
void starttls_policy_free(starttls_policy *policy);

/**
 * Hand in a TLSA record (RFC 6698) of the host that the program has looked up itself: its three numbers
 * and the `n` bytes of its data. May be called several times. For levels `dane`, `dane-only`,
 * `opportunistic` and `strict`, and for one host: on a policy derived for its connection. It wants
 * `starttls_policy_set_tlsa_proof`: else the first use is `invalid`, as it is at another level. A record
 * that mail servers cannot use (RFC 7672: usages 0 and 1, unknown numbers, data of the wrong length) is
 * passed over, and counts as RFC 7672 has it if no other is there.
 */
bool starttls_policy_add_tlsa(starttls_policy *policy,
                              uint32_t usage,
                              uint32_t selector,
                              uint32_t matching,
                              const void *data,
                              size_t n,
                              starttls_error **error);

/**
 * How the program's own look-up of TLSA records went: `secure` (DNSSEC proves the answer; with no record
 * added it proves that there are none), `insecure`, `bogus`, `indeterminate` (nobody has validated it), or
 * `failed`. After `bogus` and `failed` a connection at a level that heeds TLSA records fails, for the time
 * being, and is not tried with less. It is to be weaker than `secure` where the host's addresses are (RFC 7672
 * section 2.2). Not set: `starttls_connect` and `starttls_upgrade` look up themselves.
 */
bool starttls_policy_set_tlsa_proof(starttls_policy *policy,
                                    const char *proof,
                                    starttls_error **error);

/**
 * Look TLSA records up for this port though another is dialled: behind a port forwarding, or where the
 * program has made the connection and its port is not the protocol's own.
 */
bool starttls_policy_set_tlsa_port(starttls_policy *policy,
                                   uint16_t port,
                                   starttls_error **error);

/**
 * The port at which a domain's hosts are dialled, in place of 25 or of what the SRV records say. Calls that
 * name a host have a port of their own.
 */
bool starttls_policy_set_port(starttls_policy *policy,
                              uint16_t port,
                              starttls_error **error);

/**
 * The port of the host that has a domain's MTA-STS policy, for tests: RFC 8461 knows 443 only.
 */
bool starttls_policy_set_sts_port(starttls_policy *policy, uint16_t port, starttls_error **error);

/**
 * Whom to ask in DNS: `192.0.2.1`, `192.0.2.1:5353`, `[2001:db8::1]:53`, several with commas. What they say of
 * DNSSEC (the AD bit) counts if all are on this machine, or with ` trust-ad` behind, which says that they and
 * the way to them are trusted. Or `unbound`, `unbound:/etc/unbound/root.key`: validates in this process,
 * `unsupported` in builds without that. Not set: what /etc/resolv.conf says when it is asked.
 */
bool starttls_policy_set_resolver(starttls_policy *policy,
                                  const char *resolver,
                                  starttls_error **error);

/**
 * Where to keep what was learnt of others: MTA-STS policies, and who proved its name over TLS before.
 *
 * | cache               | where                                                                         |
 * |---------------------|-------------------------------------------------------------------------------|
 * | `directory:PATH`    | in this directory, which is made if its parent is there; also a PATH with a / |
 * | `directory`         | in the system's place for such things                                         |
 * | `memory`            | in this process                                                               |
 * | `redis://HOST:PORT` | in Redis or Valkey, for a fleet; also `unix:///PATH`                          |
 *
 * A directory serves any number of processes at once, and the children of a fork; `memory` is copied by a fork, and
 * then each has its own. A cache that is away later is no error: mail goes on without it, and the outcome has a
 * note. Without a cache nothing is remembered: each policy is fetched anew, and a peer that does not offer TLS any
 * more is no surprise. `invalid` for other words, `io` if the directory cannot be made, `unsupported` if Redis
 * is not built in.
 */
bool starttls_policy_set_cache(starttls_policy *policy,
                               const char *cache,
                               starttls_error **error);

/**
 * What the program knows of destinations and does not want to learn from DNS: a table, read now, or a STARTTLS
 * Everywhere list (JSON). A row replaces the policy's level and what goes with it, for that destination.
 *
 *     # destination           level        what goes with it
 *     example.org             verify       name=mx.example.net
 *     .example.org            encrypt      min-tls=1.3
 *     [mail.example.com]:587  fingerprint  sha256=5b1f...
 *     *                       may
 *
 * What goes with it: `name=` (the certificate is for this name), `sha256=`, `ca=` (a PEM file), `min-tls=`.
 * `invalid` with the line and what to do about it.
 */
bool starttls_policy_set_destinations(starttls_policy *policy,
                                      const char *file,
                                      starttls_error **error);

/**
 * Tell the TLSRPT collector at this Unix socket (`tlsrpt-collectd`) how TLS went with each host, in each
 * `starttls_connect_domain` to a domain that asks for reports (RFC 8460). The socket need not be there yet; where
 * the collector cannot be told, mail goes on, and the outcome has a note. `invalid` if the path is too long.
 */
bool starttls_policy_set_tlsrpt(starttls_policy *policy,
                                const char *socket,
                                starttls_error **error);

/**
 * Look up where a domain wants its TLS reports, so that outcomes give `starttls_outcome_tlsrpt_event`, for those
 * who fold and send their own. `starttls_policy_set_tlsrpt` does so by itself.
 */
bool starttls_policy_set_ask_tlsrpt(starttls_policy *policy,
                                    starttls_error **error);

/**
 * Forgets, in the policy's cache, that this host, or the hosts of this domain, did TLS before: for one that stops
 * doing so and means it. What is proven later is remembered again. `invalid` without a cache, `io` if it
 * cannot be written.
 */
bool starttls_policy_forget(const starttls_policy *policy,
                            const char *name,
                            starttls_error **error);

/**
 * Ask this function of the program's for all DNS records, in place of a resolver. The proof that it gives counts
 * as it is. It is called on the thread that connects, by several at once where several connect, in whichever
 * process that is; it must return (no longjmp, no exception), and may call this library, but not on the object that
 * is being worked on. `userdata` is handed to it, and must be good until this policy, all that was derived from it, and
 * their routes, negotiations, sessions and prepared SSLs are freed.
 */
bool starttls_policy_set_lookup(starttls_policy *policy,
                                starttls_lookup lookup,
                                void *userdata,
                                starttls_error **error);

/**
 * Adds the `n` bytes of one record's data (RDATA), as on the wire, names in it not compressed.
 */
bool starttls_answer_add(starttls_answer *answer,
                         const void *rdata,
                         size_t n,
                         starttls_error **error);

/**
 * What DNSSEC says of the whole answer, the CNAMEs on the way and a denial included: `secure`, `insecure`, `bogus`
 * or `indeterminate`, which it is if it is not set.
 */
bool starttls_answer_set_proof(starttls_answer *answer,
                               const char *proof,
                               starttls_error **error);

/**
 * For how many seconds the answer may be kept: the least TTL on the way, or of the denial. 0 if it is not set.
 */
bool starttls_answer_set_ttl(starttls_answer *answer,
                             uint32_t seconds,
                             starttls_error **error);

/**
 * The name at which the records are, where CNAMEs lead to another than was asked for.
 */
bool starttls_answer_set_name(starttls_answer *answer, const char *name, starttls_error **error);

/**
 * There is no such name at all (NXDOMAIN), as opposed to no records of this type.
 */
bool starttls_answer_set_no_such_name(starttls_answer *answer, starttls_error **error);

/**
 * Why nobody knows now, for the error's message: the look-up fails, whatever the function returns.
 */
bool starttls_answer_set_failure(starttls_answer *answer, const char *why, starttls_error **error);

/**
 * Keep what was learnt in a cache of the program's own, in place of `starttls_policy_set_cache`. Keys are words of
 * printable ASCII, with `/` and spaces in them, 600 bytes at most; values are opaque, and one that comes back otherwise
 * than it was put, or after its time, is found out and ignored. Where a function returns false mail goes on, and the
 * outcome has a note.
 *
 * The functions are called on the thread that connects, by several at once where several connect, in whichever process
 * that is; they must return (no longjmp, no exception), and not call this library on the object that is being worked
 * on. `userdata` is handed to them, and must be good until this policy, all that was derived from it, and their routes,
 * negotiations, sessions and prepared SSLs are freed. `invalid` if one is NULL.
 */
bool starttls_policy_set_cache_callbacks(starttls_policy *policy,
                                         starttls_cache_get get,
                                         starttls_cache_put put,
                                         starttls_cache_remove remove,
                                         void *userdata,
                                         starttls_error **error);

/**
 * Hands over the `n` bytes that were found; they are copied. Called again, the last ones count. `invalid` for more
 * than 128 KiB, which nobody has put there.
 */
bool starttls_value_set(starttls_value *value,
                        const void *data,
                        size_t n,
                        starttls_error **error);

/**
 * Resolves the host, dials it, asks for TLS as the protocol has it, does the handshake, and judges
 * what it found by the policy. Port 0 is the protocol's own. A session is given only if the policy
 * holds: free it with `starttls_session_free`.
 *
 * Under `may` and `opportunistic`, where the handshake fails, it dials once more and goes on in
 * clear; the outcome says so. Nothing else is ever tried again.
 *
 * Errors: every word. `lookup-failed`, `io` and `timeout` are the network's, `not-offered` and
 * `refused` the server's answer, `handshake`, `untrusted`, `expired` and `name-mismatch` what TLS
 * showed; `malformed` and `injected` should reach a person. The error has the outcome so far.
 */
starttls_session *starttls_connect(const char *protocol,
                                   const char *host,
                                   uint16_t port,
                                   const starttls_policy *policy,
                                   starttls_error **error);

/**
 * Does on the caller's connected stream socket what `starttls_connect` does on its own. `host` is the
 * name that is checked.
 *
 * `stage` says where the caller stands: `greeting` (nothing was read yet), `ready` (the caller has
 * talked and now wants the upgrade) or `go-ahead` (the caller has itself received the go-ahead: the
 * handshake only). `pending` holds `n` bytes that the caller has read beyond that, and may be NULL if
 * `n` is 0; at `go-ahead` there must be none.
 *
 * The descriptor stays the caller's, blocking or not, with the flags it has: close it after
 * `starttls_session_free`, not before. After a failure from the go-ahead on it is shut down
 * (shutdown(2)), so that nobody goes on in clear on it; after one before that, such as
 * `not-offered`, it can still take a good-bye. Errors: as for `starttls_connect`, without
 * `lookup-failed`.
 */
starttls_session *starttls_upgrade(const char *protocol,
                                   int fd,
                                   const char *host,
                                   const char *stage,
                                   const void *pending,
                                   size_t n,
                                   const starttls_policy *policy,
                                   starttls_error **error);

/**
 * The server's side of `starttls_upgrade`: answers the client's upgrade command with the protocol's
 * go-ahead and does the handshake with the policy's server certificate. The policy's level is
 * `encrypt`, or `verify` or `fingerprint`, which demand a certificate of the client.
 *
 * `command` holds all `n` bytes that the caller has read since the client's upgrade command began,
 * the command included; with 0, or part of it, the library reads on, and what it has read is lost to a
 * caller who wants to answer something else. In telnet the caller has said DO START_TLS, and the command
 * is the client's WILL. What came behind the command is never obeyed:
 * it is `injected`, nothing is answered, and the descriptor is shut down (CVE-2011-0411). Where TLS
 * begins without a go-ahead (`smtps` and the like, and `mysql` behind its SSLRequest) those bytes are
 * the ClientHello.
 *
 * The outcome tells the name that the client asked for (SNI) and its certificate. Errors: `malformed`
 * where the client says something else, to which the caller may still answer; `untrusted`, `expired`
 * or `fingerprint-mismatch` for the client's certificate; else as for `starttls_upgrade`.
 */
starttls_session *starttls_accept(const char *protocol,
                                  int fd,
                                  const void *command,
                                  size_t n,
                                  const starttls_policy *policy,
                                  starttls_error **error);

/**
 * Answers the client's upgrade command with the protocol's refusal (454, NO, -ERR, 580 and so on)
 * instead. The connection stays the caller's, in clear. `command` and `n` are as for
 * `starttls_accept`; of the policy only the time-out counts. `unsupported` for protocols without a
 * refusal (`http`, `mysql`).
 */
bool starttls_refuse(const char *protocol,
                     int fd,
                     const void *command,
                     size_t n,
                     const starttls_policy *policy,
                     starttls_error **error);

/**
 * Protects a second connection to the same server by the same policy: FTP's for data, once `PROT P`
 * was accepted. It resumes the TLS session of `session`, which many servers demand. `fd` stays the
 * caller's; the new session is freed by its own, and ended with `starttls_close`, which here waits up to
 * 5 s for the server's end, so that the server has all data and knows them to be whole. A server that does
 * not resume is checked anew and, where the level asks for nobody in particular, must at least have the
 * key of the control connection (`fingerprint-mismatch`). `invalid` on a session in clear. Errors: as for `starttls_upgrade`.
 */
starttls_session *starttls_protect_data(const starttls_session *session,
                                        int fd,
                                        starttls_error **error);

/**
 * Reads into `buf` what has come, `len` bytes at most, waiting for the first. `*n` is how many there
 * are; 0 means that the peer has closed properly. `len` must not be 0.
 *
 * Errors: `closed` where the peer's end comes without the close_notify of TLS (what was read may be
 * cut short), `io`, and `timeout` if `starttls_session_set_timeout` was called. After `timeout` the
 * call can be repeated.
 */
bool starttls_read(starttls_session *session,
                   void *buf,
                   size_t len,
                   size_t *n,
                   starttls_error **error);

/**
 * Writes all `len` bytes, or fails: then it is not known how many have reached the peer, and the
 * session is of no more use. Errors: `closed`, `io`, and `timeout` as for `starttls_read`.
 */
bool starttls_write(starttls_session *session, const void *buf, size_t len, starttls_error **error);

/**
 * Ends the session: sends the close_notify of TLS, and does not wait for the peer's; a peer that takes
 * nothing is given 5 s. Read the answer to the last command first: what the peer sends to a closed socket
 * may make its system drop what it has not read yet. A thread that waits in `starttls_read` or
 * `starttls_write` is woken. The handle must still be freed. Closing twice is no error.
 * Errors: `closed`, `io` or `timeout` where the peer cannot be told; the session has ended all the
 * same.
 */
bool starttls_close(starttls_session *session,
                    starttls_error **error);

/**
 * What binds a login to this TLS session: `tls-exporter` (RFC 9266, 32 bytes) or
 * `tls-server-end-point` (RFC 5929, at most 64). `*len` is the room in `buf` and becomes the length;
 * if the room is too small the call is `invalid` and `*len` the room that is needed. `invalid` on a
 * session in clear.
 */
bool starttls_channel_binding(const starttls_session *session,
                              const char *type,
                              void *buf,
                              size_t *len,
                              starttls_error **error);

/**
 * What did happen. It belongs to the session. NULL for NULL, and before the handshake of
 * `starttls_negotiation_session` is done.
 */
const starttls_outcome *starttls_session_outcome(const starttls_session *session);

/**
 * All that the peer said in clear before the session, raw, `*n` bytes; for those who need it, such
 * as the time stamp of APOP. Over TLS nothing of it is to be believed. It belongs to the session.
 */
const void *starttls_session_heard(const starttls_session *session, size_t *n);

/**
 * The descriptor, to poll: the caller's own, or the one that the session dialled and will close. Ask
 * `starttls_session_pending` before waiting on it. -1 for NULL.
 */
int starttls_session_fd(const starttls_session *session);

/**
 * How many bytes `starttls_read` gives without waiting for the peer.
 */
size_t starttls_session_pending(const starttls_session *session);

/**
 * How long a read or a write may wait without a byte moving, in milliseconds; 0, the default, is for
 * ever. It holds from the next call on.
 */
bool starttls_session_set_timeout(starttls_session *session,
                                  uint32_t milliseconds,
                                  starttls_error **error);

/**
 * Frees a session and sends nothing: `starttls_close` before it says good-bye. What `starttls_connect`
 * dialled is closed, the descriptor of `starttls_upgrade` is not. No other thread may be using the
 * session. NULL does nothing.
 */
void starttls_session_free(starttls_session *session);

/**
 * Connects to a host that takes the mail of a domain, by what the domain asks of those who send to it: DANE,
 * MTA-STS, the policy's table of destinations. The hosts are tried in the order of their MX records until one
 * meets the policy; what became of those before it, `starttls_outcome_attempt` tells. The time-out covers all of it.
 * `domain` may be an address literal, such as `[192.0.2.1]`.
 *
 * Errors: those of `starttls_connect`, and `null-mx` (the domain takes no mail), `lookup-failed` and
 * `dns-bogus`, `sts-mismatch` and `sts-unavailable`, `dane-mismatch`, `no-dane`, `name-insecure`, `stripped`. If all
 * hosts fail it is the error of the last that may do later, else of the last; its message names all.
 */
starttls_session *starttls_connect_domain(const char *domain,
                                          const starttls_policy *policy,
                                          starttls_error **error);

/**
 * The same for another service of a domain, such as `submission`, `imaps` or `xmpp`, by its SRV records. What is checked
 * is the domain's name or, by DANE, the host's (RFC 7673). Errors: as for `starttls_connect_domain`.
 */
starttls_session *starttls_connect_service(const char *protocol,
                                           const char *domain,
                                           const starttls_policy *policy,
                                           starttls_error **error);

/**
 * Looks up which hosts take the mail of a domain (MX records, or the domain itself). Each host's own look-ups are made
 * when its turn comes. Free it with `starttls_routes_free`.
 *
 * Errors: `null-mx` where the domain takes no mail; `lookup-failed`, `dns-bogus` and `timeout`; `invalid` for what is
 * no domain, and for a policy with what is one host's: TLSA records, their proof, an address.
 */
starttls_routes *starttls_routes_find(const char *domain,
                                      const starttls_policy *policy,
                                      starttls_error **error);

/**
 * The same for another service of a domain, as `starttls_connect_service` has it.
 */
starttls_routes *starttls_routes_find_service(const char *protocol,
                                              const char *domain,
                                              const starttls_policy *policy,
                                              starttls_error **error);

/**
 * How many hosts have not had their turn. 0 for NULL.
 */
size_t starttls_routes_left(const starttls_routes *routes);

/**
 * Goes to the next host and does its look-ups, for as long as the policy's time-out at most. False with an error: this
 * host will not do, and has had its turn; free the error, set it to NULL, and the next call goes on (a call that finds
 * an error there does nothing, as everywhere). False without one: there is no other. Where `error` is NULL, hosts
 * that will not do are passed over; who must know whether one may do later (`starttls_error_temporary`), and so
 * whether the mail is kept, hands one in.
 *
 * Errors: that a look-up failed, or that what the domain asks for cannot be met there: `lookup-failed`,
 * `dns-bogus`, `timeout`, `sts-mismatch`, `sts-unavailable`, `no-dane`.
 */
bool starttls_routes_next(starttls_routes *routes,
                          starttls_error **error);

/**
 * The host's name, in A-labels, or its address: what is handed to `starttls_connect`, `starttls_upgrade` and so on.
 * As all of the current host it is good until the next `starttls_routes_next`. NULL where there is none.
 */
const char *starttls_routes_host(const starttls_routes *routes);

/**
 * The port to dial; 0 where there is no current host.
 */
uint16_t starttls_routes_port(const starttls_routes *routes);

/**
 * The host's addresses, in the order in which they are to be tried. The i-th, from 0; NULL past the end.
 */
const char *starttls_routes_address(const starttls_routes *routes,
                                    size_t i);

/**
 * What must hold with this host. It belongs to the routes, as the host's name does; what is made of it, a session or
 * a derived policy, does not. NULL where there is no current host.
 */
const starttls_policy *starttls_routes_policy(const starttls_routes *routes);

/**
 * Frees the routes, with their current host. NULL does nothing.
 */
void starttls_routes_free(starttls_routes *routes);

/**
 * Begins the client's side of a dialog, for `host`, at a stage as for `starttls_upgrade`. Nothing is
 * said where TLS comes at once (`smtps`, stage `go-ahead`) or never (level `none`): it then wants the
 * handshake, or stays in clear, from the beginning. The policy's time-out counts from now.
 *
 * Set the policy's client name: which address the client has is not known here, and it calls itself
 * `localhost`. Free it with `starttls_negotiation_free`.
 */
starttls_negotiation *starttls_negotiation_new(const char *protocol,
                                               const char *host,
                                               const char *stage,
                                               const starttls_policy *policy,
                                               starttls_error **error);

/**
 * Begins the server's side, as `starttls_accept` has it: hand all that was read since the client's
 * upgrade command began to `starttls_negotiation_receive`.
 */
starttls_negotiation *starttls_negotiation_accept(const char *protocol,
                                                  const starttls_policy *policy,
                                                  starttls_error **error);

/**
 * What is to be done next: `STARTTLS_WANT_WRITE`, `STARTTLS_WANT_READ`, `STARTTLS_WANT_HANDSHAKE` or
 * `STARTTLS_PLAIN`; `STARTTLS_FAILED` after an error, for NULL and for one that was made a session.
 */
int starttls_negotiation_want(const starttls_negotiation *negotiation);

/**
 * The `*n` bytes to send; NULL if there are none. They belong to the negotiation and are good until
 * its next call.
 */
const void *starttls_negotiation_output(const starttls_negotiation *negotiation, size_t *n);

/**
 * So many bytes of the output were sent.
 */
bool starttls_negotiation_sent(starttls_negotiation *negotiation, size_t n, starttls_error **error);

/**
 * These `len` bytes came. Read before each write, too, as `starttls_upgrade` does: what the peer has
 * said before it was asked is then found out. Errors: those of the dialog, as for `starttls_upgrade`, and `timeout`;
 * the negotiation is then over, and so is the connection but for a good-bye in clear, which is not to be said after
 * `injected`. 0 bytes are `invalid`: for the end there is `starttls_negotiation_closed`.
 */
bool starttls_negotiation_receive(starttls_negotiation *negotiation,
                                  const void *buf,
                                  size_t len,
                                  starttls_error **error);

/**
 * The peer has closed the connection, or broken it off: always false, with the error `closed` and what had happened.
 */
bool starttls_negotiation_closed(starttls_negotiation *negotiation,
                                 starttls_error **error);

/**
 * The policy's time-out has passed: always false, with the error `timeout` and what had happened.
 */
bool starttls_negotiation_timed_out(starttls_negotiation *negotiation, starttls_error **error);

/**
 * How many milliseconds are left of the policy's time-out, 0 when it has passed: then call
 * `starttls_negotiation_timed_out`. -1 for NULL.
 */
int starttls_negotiation_wait_ms(const starttls_negotiation *negotiation);

/**
 * Makes a session of a negotiation that wants the handshake or stays in clear. Go on with
 * `starttls_try_handshake`. The session takes over what was said and the time that is left; the
 * negotiation is used up, also if this fails, and must still be freed. The descriptor stays the
 * caller's, as for `starttls_upgrade`. `injected` where a server has said more than its refusal.
 */
starttls_session *starttls_negotiation_session(starttls_negotiation *negotiation,
                                               int fd,
                                               starttls_error **error);

/**
 * Frees a negotiation. NULL does nothing.
 */
void starttls_negotiation_free(starttls_negotiation *negotiation);

/**
 * Goes on with the handshake of `starttls_negotiation_session`, without waiting: `STARTTLS_DONE`,
 * `STARTTLS_WANT_READ`, `STARTTLS_WANT_WRITE` or `STARTTLS_FAILED`. When it is done the policy is met; before that,
 * reading and writing are `invalid`. Errors: as for `starttls_upgrade`; `timeout` when the policy's
 * time-out has passed, for which see `starttls_session_wait_ms`.
 */
int starttls_try_handshake(starttls_session *session,
                           starttls_error **error);

/**
 * Reads into `buf` what is there, without waiting: `STARTTLS_DONE` and `*n` bytes, `STARTTLS_CLOSED`,
 * `STARTTLS_WANT_READ` or `STARTTLS_FAILED`. An edge-triggered loop goes on until `STARTTLS_WANT_READ`.
 * Errors: as for `starttls_read`.
 */
int starttls_try_read(starttls_session *session,
                      void *buf,
                      size_t len,
                      size_t *n,
                      starttls_error **error);

/**
 * Takes the beginning of these `len` bytes, without waiting: `STARTTLS_DONE` and how many in `*n` (16 KiB
 * at most), `STARTTLS_WANT_WRITE` or `STARTTLS_WANT_READ` if none can be taken now, or `STARTTLS_FAILED`.
 * What was taken is not always sent yet: while `starttls_session_wants_write` says so, call
 * `starttls_try_flush` when the descriptor is writable. Errors: as for `starttls_write`.
 */
int starttls_try_write(starttls_session *session,
                       const void *buf,
                       size_t len,
                       size_t *n,
                       starttls_error **error);

/**
 * Sends what was taken and not sent, without waiting: `STARTTLS_DONE`, `STARTTLS_WANT_WRITE` or
 * `STARTTLS_FAILED`.
 */
int starttls_try_flush(starttls_session *session, starttls_error **error);

/**
 * Ends the session as `starttls_close` does, without waiting: `STARTTLS_DONE`, `STARTTLS_WANT_WRITE` or
 * `STARTTLS_FAILED`. Nothing else can be done with the session any more, but to free it.
 */
int starttls_try_close(starttls_session *session,
                       starttls_error **error);

/**
 * Whether bytes are waiting to be sent: then poll for writing as well.
 */
bool starttls_session_wants_write(const starttls_session *session);

/**
 * How many milliseconds are left for the handshake, 0 when the time has passed; -1 when it is done.
 */
int starttls_session_wait_ms(const starttls_session *session);

/**
 * For programs that keep their own `SSL *`: once for each of their `SSL_CTX`. `version` is the program's
 * `OPENSSL_VERSION_NUMBER`; `unsupported` if it was built for another OpenSSL than this library uses.
 *
 * It sets the certificate verification callback of the context, and lets it use DANE (SSL_CTX_dane_enable). An `SSL`
 * of it that is not prepared is verified by OpenSSL as before.
 */
bool starttls_prepare_ctx(struct ssl_ctx_st *ctx,
                          uint64_t version,
                          starttls_error **error);

/**
 * Makes this `SSL` do its handshake by the policy: server name, ALPN, oldest TLS version, trust store,
 * the policy's client certificate if it has one, TLSA records, and the verdict on `name`. After SSL_new and before
 * SSL_connect; the caller plays the dialog itself, and must see to it that nothing came behind the go-ahead.
 *
 * Nothing is looked up. What DANE needs is handed in (`starttls_policy_add_tlsa`, `_set_tlsa_proof`) or comes with the
 * policy of `starttls_routes_policy`; at `dane` and `dane-only` it is `invalid` without. Errors: also `no-dane`,
 * `dns-bogus` and `lookup-failed`, where no handshake could do. An `SSL` can be given TLSA records once.
 *
 * The verdict is given inside the handshake: SSL_connect fails where the policy does not hold, also for
 * those who forget `starttls_check`, unless they change verification or ciphers of the `SSL` or use
 * pre-shared keys: that, only `starttls_check` finds out. An `SSL` is refused if it has a session, or a cipher list that
 * lets a server show no certificate (`aNULL`); one that is given a session afterwards fails its handshake,
 * since resumption would skip the checks. SSL_set_verify with SSL_VERIFY_NONE afterwards leaves
 * the verdict to `starttls_check`. Do not SSL_dup it.
 */
bool starttls_prepare(const starttls_policy *policy,
                      const char *protocol,
                      const char *name,
                      struct ssl_st *ssl,
                      uint64_t version,
                      starttls_error **error);

/**
 * What the handshake of a prepared `SSL` has come to; after SSL_connect, whether it went well or not.
 * The outcome is the caller's, who frees it with `starttls_outcome_free`; NULL where the policy does not
 * hold, with an error that has the outcome. Errors: the words for the peer, and `handshake` where SSL_connect
 * failed for another
 * reason, which OpenSSL's own error queue tells.
 */
starttls_outcome *starttls_check(struct ssl_st *ssl,
                                 uint64_t version,
                                 starttls_error **error);

/**
 * Frees the outcome of `starttls_check`, and no other. NULL does nothing.
 */
void starttls_outcome_free(starttls_outcome *outcome);

/**
 * Whether the connection runs over TLS. On the outcome of an error: whether it had come to that.
 * False for NULL.
 */
bool starttls_outcome_encrypted(const starttls_outcome *outcome);

/**
 * Why the connection is in clear: `not-asked` (level `none`), `not-offered`, `refused`,
 * `handshake-failed`. NULL where it is not.
 */
const char *starttls_outcome_because(const starttls_outcome *outcome);

/**
 * What the level came to with this host: `none`, `may`, `encrypt`, `fingerprint`, `verify`, `dane` or `sts`. NULL
 * for NULL.
 */
const char *starttls_outcome_effective(const starttls_outcome *outcome);

/**
 * The host that was asked for, in A-labels, or its address. NULL as server.
 */
const char *starttls_outcome_host(const starttls_outcome *outcome);

/**
 * Where its name comes from: `caller`, `dnssec`, `mta-sts` or `insecure-dns`. NULL as server.
 */
const char *starttls_outcome_name_from(const starttls_outcome *outcome);

/**
 * How a check went that was run: `chain`, `name`, `time`, `dane`, `fingerprint` or `sts`. `ok` or `failed`; NULL
 * where it was not run, and for other words.
 */
const char *starttls_outcome_check(const starttls_outcome *outcome,
                                   const char *check);

/**
 * The outcome of an earlier host that was tried, or of the same where `starttls_connect` has dialled again in clear.
 * The i-th, from 0; NULL past the end. It belongs to this outcome.
 */
const starttls_outcome *starttls_outcome_attempt(const starttls_outcome *outcome,
                                                 size_t i);

/**
 * The word of the error with which this attempt ended; NULL where it did not fail.
 */
const char *starttls_outcome_error_word(const starttls_outcome *outcome);

/**
 * That error's sentence for people.
 */
const char *starttls_outcome_error_message(const starttls_outcome *outcome);

/**
 * What else a reader should know, such as that no resolver here is trusted to validate DNSSEC. The i-th, from 0; NULL
 * past the end.
 */
const char *starttls_outcome_note(const starttls_outcome *outcome,
                                  size_t i);

/**
 * What is to be reported of this attempt and those before it (RFC 8460), each session one line of JSON, for
 * `starttls_reports_add` or `starttls_tlsrpt_send`, here or in another process. The i-th, from 0; NULL past the end: there
 * is none where the domain does not ask for reports, or was not asked (`starttls_policy_set_ask_tlsrpt`).
 */
const char *starttls_outcome_tlsrpt_event(const starttls_outcome *outcome,
                                          size_t i);

/**
 * What proved who the peer is: `pkix` (a chain to a trusted root, and the name), `dane` (a certificate or key that
 * secure TLSA records name) or `fingerprint`. NULL where nothing did, which under `may` and `encrypt` is no error.
 */
const char *starttls_outcome_identity(const starttls_outcome *outcome);

/**
 * The name that was proven; NULL where none was.
 */
const char *starttls_outcome_identity_name(const starttls_outcome *outcome);

/**
 * For example `TLSv1.3`; NULL in clear.
 */
const char *starttls_outcome_tls_version(const starttls_outcome *outcome);

/**
 * OpenSSL's name of the cipher; NULL in clear.
 */
const char *starttls_outcome_cipher(const starttls_outcome *outcome);

/**
 * Signs of an interception, for logs; nothing is decided by them. The i-th, from 0; NULL past the
 * end.
 */
const char *starttls_outcome_suspicion(const starttls_outcome *outcome, size_t i);

/**
 * All of it as one line of JSON, with stable keys: the dialog in clear, every check that was run,
 * the certificate, times. What the peer said is escaped. NULL for NULL.
 */
const char *starttls_outcome_json(const starttls_outcome *outcome);

/**
 * The word for programs, from the list above; it never changes. NULL for NULL.
 */
const char *starttls_error_word(const starttls_error *error);

/**
 * The sentence for people, in English, without a line end. What the peer said is escaped in it, so
 * it can go to a log or a terminal. NULL for NULL.
 */
const char *starttls_error_message(const starttls_error *error);

/**
 * Whether the same call may succeed later with nobody changing anything: keep the mail and try
 * again, or give up. False for NULL.
 */
bool starttls_error_temporary(const starttls_error *error);

/**
 * What had happened by then; NULL if the call failed before anything was tried. It belongs to the
 * error.
 */
const starttls_outcome *starttls_error_outcome(const starttls_error *error);

/**
 * Frees an error, with its strings and its outcome. Set the variable to NULL before it is used in
 * another call. NULL does nothing.
 */
void starttls_error_free(starttls_error *error);

/**
 * Tells the TLSRPT collector at this Unix socket of one session: an event of `starttls_outcome_tlsrpt_event`, maybe
 * of another process. It does not wait. `io` if nobody is there or the collector does not keep up: this event is
 * lost, which is no reason to hold the mail back.
 */
bool starttls_tlsrpt_send(const char *socket,
                          const char *event,
                          starttls_error **error);

/**
 * Reports of the time from `begin` to `end`, both included, in seconds since 1970: best a day of UTC, from
 * `t - t % 86400` to 86399 seconds after that. The organization is for people; the contact is a mail address whose
 * domain is the one that reports. `invalid` if one of them cannot be used.
 */
starttls_reports *starttls_reports_new(const char *organization,
                                       const char *contact,
                                       int64_t begin,
                                       int64_t end,
                                       starttls_error **error);

/**
 * Tells these reports from others of the same sender and period, such as another machine's: 1 to 64 letters and digits. To
 * be set before the first event is added.
 */
bool starttls_reports_set_unique_id(starttls_reports *reports,
                                    const char *id,
                                    starttls_error **error);

/**
 * About how many bytes the events may take together; 64 MiB if it is not set.
 */
bool starttls_reports_set_limit(starttls_reports *reports, size_t bytes, starttls_error **error);

/**
 * Adds one session: an event of `starttls_outcome_tlsrpt_event`. `invalid` for anything else, such as a line that was cut
 * off when its writer was killed; the reports are as before then.
 */
bool starttls_reports_add(starttls_reports *reports,
                          const char *event,
                          starttls_error **error);

/**
 * Sessions that are in no report, because there was no room for another domain.
 */
uint64_t starttls_reports_dropped(const starttls_reports *reports);

/**
 * Goes to the next report, one for each domain; false when there is no other. The first call ends the adding: events come
 * too late from then on.
 */
bool starttls_reports_next(starttls_reports *reports,
                           starttls_error **error);

/**
 * The domain that the current report is about and goes to. As all of the current report it is good until the next
 * `starttls_reports_next`; NULL where there is none.
 */
const char *starttls_reports_domain(const starttls_reports *reports);

/**
 * The name of the compressed report as a file (RFC 8460 section 5.1).
 */
const char *starttls_reports_file_name(const starttls_reports *reports);

/**
 * The report (`application/tlsrpt+json`).
 */
const char *starttls_reports_json(const starttls_reports *reports);

/**
 * The report compressed (`application/tlsrpt+gzip`), `*n` bytes.
 */
const void *starttls_reports_gzip(const starttls_reports *reports, size_t *n);

/**
 * Where to send it: a `mailto:` or `https:` URI of the domain's record. The i-th, from 0; NULL past the end.
 */
const char *starttls_reports_rua(const starttls_reports *reports,
                                 size_t i);

/**
 * The header fields that a mail with the report has beside the usual ones: Subject, TLS-Report-Domain,
 * TLS-Report-Submitter, each as `Name: value`. The i-th, from 0; NULL past the end. The mail is
 * `multipart/report; report-type="tlsrpt"`, a text for people and then the report, with a DKIM signature of the
 * contact's domain.
 */
const char *starttls_reports_header(const starttls_reports *reports,
                                    size_t i);

/**
 * Frees the reports. NULL does nothing.
 */
void starttls_reports_free(starttls_reports *reports);

/**
 * Looks everything up within the policy's time-out; of the policy count that, the resolver and the ports. That a
 * look-up fails is a finding, not an error. No mail host is dialled. Free it with `starttls_survey_free`.
 */
starttls_survey *starttls_survey_of(const char *domain,
                                    const starttls_policy *policy,
                                    starttls_error **error);

/**
 * All of it as one line of JSON with stable keys. NULL for NULL.
 */
const char *starttls_survey_json(const starttls_survey *survey);

/**
 * Frees a survey. NULL does nothing.
 */
void starttls_survey_free(starttls_survey *survey);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* STARTTLS_H */
