"""What a domain's publications and its hosts' certificates come to: which level a sender gets today, and what
someone on the path could do about it. One table decides; tests/verdicts.tsv has every row of it again.

The sender is one that does all it can: DANE, else MTA-STS, else TLS if it is offered. Someone on the path decides
which of the hosts can be reached at all, so a domain is as good as its weakest host.
"""

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = [
    "ATTACKS",
    "LEVELS",
    "NO_MAIL",
    "SAYS",
    "TABLE",
    "HostFacts",
    "Verdict",
    "at_most",
    "decide",
    "of_domain",
    "of_host",
]

# The first are the weakest. Behind the gap: what no mail goes to, and so betrays none.
LEVELS = ("plain", "may", "verify", "encrypt", "dane-host", "sts", "dane", "unknown", "refused", "held")
NO_MAIL = ("refused", "held", "unknown")


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What is known of a host, in the words of the table."""

    name: str
    mx: str
    """What leads to it: `secure`: signed, or the caller's own word; `insecure`: anything else."""
    tlsa: str
    """Secure TLSA records: `match`, `mismatch`, `unusable`, `none`, `failed` (the look-up), `untested`."""
    sts: str
    """The domain's MTA-STS policy: `enforce`, `unnamed` (enforced, and not naming this host), `testing`, `none`."""
    tls: str
    """`yes`, `no`, or `unknown`: it was not reached."""
    pkix: str
    """Whether chain, dates and name of its certificate hold: `yes`, `no`."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What it comes to."""

    level: str
    """One of `LEVELS`."""
    attack: str
    """A key of `ATTACKS`."""

    @property
    def says(self) -> str:
        """What a sender gets, in words."""
        return SAYS[self.level]

    @property
    def could(self) -> str:
        """What someone on the path could do, in words."""
        return ATTACKS[self.attack]


SAYS = {
    "plain": "no TLS: all mail goes in clear",
    "may": "TLS, but with anyone: the certificate proves nothing to a sender, and nothing published asks for more",
    "verify": "TLS, and the certificate would prove the host (PKIX), but nothing published tells senders to check it",
    "encrypt": "TLS is demanded by signed TLSA records that cannot be used: encrypted, but with anyone",
    "dane-host": "TLS, and DANE proves the host, but nothing proves that the host is the domain's",
    "sts": "TLS with a proven host: MTA-STS, enforced",
    "dane": "TLS with a proven host: DANE",
    "refused": "no mail from senders that heed what the domain publishes: the host does not keep to it",
    "held": "no mail for now from senders that do DANE: the TLSA records cannot be looked up",
    "unknown": "not known: no connection was made that could tell",
}

ATTACKS = {
    "read": "read and change every message: it needs no attack, only a place on the path",
    "read-forge": "read and change every message, or redirect the mail by forging the MX, which is not signed",
    "strip": "strip TLS from every message, or take the server's place: nothing published says that there is TLS",
    "strip-reported": "strip TLS from every message, or take the server's place: the MTA-STS policy is only in mode "
    "testing, so it would at most be reported",
    "strip-forge": "strip TLS from every message, or redirect the mail by forging the MX: the MX is not signed, and "
    "no MTA-STS policy is enforced",
    "impersonate": "take the server's place with any certificate; TLS cannot be stripped from senders that do DANE",
    "impersonate-forge": "take the server's place with any certificate, or redirect the mail by forging the MX, which "
    "is not signed",
    "forge": "redirect the mail by forging the MX: the MX is not signed, and no MTA-STS policy is enforced",
    "hide-policy": "nothing to a sender that has the MTA-STS policy, short of a certificate from a trusted CA; to one "
    "that never had it, or whose max_age is over, hide the policy and strip TLS",
    "dnssec": "nothing, short of breaking DNSSEC or stealing the server's key (with usage 2 its CA's); from senders "
    "that heed neither DANE nor MTA-STS, strip TLS",
    "dnssec-sts": "nothing, short of breaking DNSSEC or stealing the server's key (with usage 2 its CA's); to senders "
    "without DANE what MTA-STS leaves: hide the policy from those that never had it, or until its max_age is over",
    "stop": "nothing to such senders but stop the mail, which is stopped as it is; from those that heed neither DANE "
    "nor MTA-STS, strip TLS",
    "stop-plain": "nothing to such senders but stop the mail, which is stopped as it is; of those that heed neither "
    "DANE nor MTA-STS, read every message",
    "not-known": "not known",
}

# MX, TLSA, MTA-STS, TLS, PKIX -> level, attack. The first row that fits; `*` is anything, `a|b` either.
TABLE = tuple(
    tuple(row.split())
    for row in """
    *         failed         *             *        *    held       stop
    *         match|mismatch|untested  *   unknown  *    unknown    not-known
    *         *              unnamed       unknown  *    refused    stop
    *         *              enforce       unknown  *    unknown    hide-policy
    secure    unusable       *             unknown  *    unknown    impersonate
    insecure  unusable       *             unknown  *    unknown    impersonate-forge
    secure    none           testing       unknown  *    unknown    strip-reported
    secure    none           none          unknown  *    unknown    strip
    insecure  none           *             unknown  *    unknown    strip-forge
    secure    match          enforce       yes      yes  dane       dnssec-sts
    secure    match          *             yes      *    dane       dnssec
    *         match|mismatch|untested  *   no       *    refused    stop-plain
    *         mismatch       *             yes      *    refused    stop
    *         untested       *             yes      *    unknown    not-known
    *         *              unnamed       yes      *    refused    stop
    *         *              unnamed       no       *    refused    stop-plain
    *         *              enforce       yes      yes  sts        hide-policy
    *         *              enforce       yes      no   refused    stop
    *         *              enforce       no       *    refused    stop-plain
    *         unusable       *             no       *    refused    stop-plain
    insecure  match          *             yes      *    dane-host  forge
    secure    unusable       *             yes      *    encrypt    impersonate
    insecure  unusable       *             yes      *    encrypt    impersonate-forge
    secure    none           testing       yes      yes  verify     strip-reported
    secure    none           none          yes      yes  verify     strip
    insecure  none           *             yes      yes  verify     strip-forge
    secure    none           testing       yes      no   may        strip-reported
    secure    none           none          yes      no   may        strip
    insecure  none           *             yes      no   may        strip-forge
    secure    none           *             no       *    plain      read
    insecure  none           *             no       *    plain      read-forge
    """.strip().splitlines()
)


def decide(mx: str, tlsa: str, sts: str, tls: str, pkix: str) -> Verdict:
    """The verdict on one host."""
    facts = (mx, tlsa, sts, tls, pkix)
    for *patterns, level, attack in TABLE:
        if all(p == "*" or fact in p.split("|") for p, fact in zip(patterns, facts, strict=True)):
            return Verdict(level, attack)
    raise AssertionError(f"no row for {facts}")


def of_host(host: HostFacts) -> Verdict:
    """The same of a host's facts."""
    return decide(host.mx, host.tlsa, host.sts, host.tls, host.pkix)


def at_most(verdict: Verdict) -> Verdict:
    """What a host counts as in its domain. One that was not reached may yet take mail, or someone may in its place: it
    is worth what is published about it, and no more."""
    if verdict.level != "unknown":
        return verdict
    return Verdict(_AT_MOST.get(verdict.attack, "unknown"), verdict.attack)


_AT_MOST = {
    "hide-policy": "sts",
    "impersonate": "encrypt",
    "impersonate-forge": "encrypt",
    "strip": "may",
    "strip-reported": "may",
    "strip-forge": "may",
}


def of_domain(hosts: Iterable[HostFacts]) -> tuple[Verdict, HostFacts | None]:
    """The verdict on a domain, and the host that is to blame: the weakest that mail goes to, if there is one."""
    verdicts = [(of_host(host), host) for host in hosts]
    if not verdicts:
        return Verdict("unknown", "not-known"), None
    if any(one.level not in NO_MAIL for one, _ in verdicts):
        counted = [(at_most(one), host) for one, host in verdicts]
        verdicts = [one for one in counted if one[0].level not in NO_MAIL]
    # Of those that are not known, the one of which something can be said.
    return min(verdicts, key=lambda one: (LEVELS.index(one[0].level), one[0].attack == "not-known"))
