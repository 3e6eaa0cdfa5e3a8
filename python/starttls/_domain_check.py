"""`starttls check DOMAIN`: what the domain publishes, what each of its mail hosts does, and what that comes to.

Each host is asked on one connection at the level, as a sender would, and on one in clear. A third one is made only
where the level kept us from learning what the host's TLS is worth: it asks for less, or look-ups ruled the host out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from starttls import _core, errors
from starttls._advice import advise
from starttls._clear import in_clear
from starttls._core import Policy
from starttls._domain import survey
from starttls._show_domain import DomainScreen
from starttls._tried import Tried
from starttls._verdict import HostFacts, Verdict, of_domain, of_host
from starttls.outcome import Outcome

__all__ = ["Checked", "Host", "check_domain"]

# Words that tell of no TLS, not of a server that was not reached.
_NO_TLS = ("not-offered", "stripped", "handshake")
_NO_TLS_BECAUSE = ("not-offered", "refused", "handshake-failed")


@dataclass
class Host:
    """One mail host: what is published about it, and what it did."""

    name: str
    published: dict[str, Any]
    """Of the survey."""
    port: int = 25
    error: errors.Error | None = None
    """Why it does not meet the level."""
    outcome: Outcome | None = None
    """Of the connection at the level."""
    probe: Outcome | None = None
    """Of a connection that was made only to learn what its TLS is."""
    probe_error: errors.Error | None = None
    clear: dict[str, Any] | None = None

    @property
    def seen(self) -> Outcome | None:
        """The outcome that tells most of its TLS."""
        return self.probe or self.outcome

    def facts(self, found: dict[str, Any]) -> HostFacts:
        """For the verdict."""
        return HostFacts(
            name=self.name,
            mx="secure" if found["mx"]["proof"] in ("secure", None) else "insecure",
            tlsa=self._tlsa(),
            sts=_sts(found, self.published),
            tls=self._tls(),
            pkix="yes" if self._pkix() else "no",
        )

    def _tls(self) -> str:
        seen = self.seen
        # Under a level that must know the peer the handshake ends where the certificate will not do.
        if seen and (seen.tls or seen.certificate):
            return "yes"
        if seen and seen.because in _NO_TLS_BECAUSE:
            return "no"
        # At a level that asks for much a handshake fails that another would not: then only the probe tells.
        if self.probe is None and self.error and self.error.word in _NO_TLS[:2]:
            return "no"
        if e := self.probe_error:
            return "no" if e.word in _NO_TLS or _refuses(e) else "unknown"
        # A no to a command, in an outcome that ends there: under a level that insists.
        return "no" if seen and seen.offered is False and seen.channel is None else "unknown"

    def _tlsa(self) -> str:
        tlsa = self.published["tlsa"]
        if tlsa is None:
            # Without an address nobody asked for them.
            return "none" if self.published["addresses"] else "untested"
        if tlsa["failure"] == "dnssec-invalid":
            return "failed"
        if not self.published["tlsa_usable"]:
            return "unusable"
        check = self.seen and self.seen.check("dane")
        return "untested" if not check else "match" if check.ok else "mismatch"

    def _pkix(self) -> bool:
        if not self.seen:
            return False
        checks = [self.seen.check(kind) for kind in ("chain", "name", "time")]
        return all(check is not None and check.ok for check in checks)

    @property
    def is_untold(self) -> bool:
        """Whether the connection at the level leaves open what TLS there is worth."""
        if self.outcome is None or self.outcome.because == "not-asked":
            return True
        if self.error and self.outcome.peer.address is None:
            # Nobody was spoken to: was it ruled out, or is nobody there?
            return self.error.word not in ("io", "timeout")
        if self.error and (self.error.word == "handshake" or _refuses(self.error)):
            return True
        return self._tls() == "yes" and self._tlsa() == "untested"

    def as_dict(self, verdict: Verdict) -> dict[str, Any]:
        """For --json."""
        return {
            "host": self.name,
            "port": self.port,
            "preference": self.published["preference"],
            "met": self.error is None,
            "error": self.error.word if self.error else None,
            "message": self.error.message if self.error else None,
            "temporary": self.error.temporary if self.error else False,
            "verdict": verdict.level,
            "clear": self.clear,
            "outcome": self.outcome.as_dict() if self.outcome else None,
            "probe": self.probe.as_dict() if self.probe else None,
        }


def _refuses(e: errors.Error) -> bool:
    """What it offered."""
    return bool(e.word == "refused" and e.outcome and e.outcome.offered)


def _sts(found: dict[str, Any], host: dict[str, Any]) -> str:
    sts = found["sts"]
    # A policy behind a record that will not do is one that no sender asks for.
    match sts["mode"] if sts["failure"] is None and sts["id"] is not None else None:
        case "enforce":
            # A host that the survey has not seen: what is not known is not claimed.
            return {True: "enforce", False: "unnamed", None: "none"}[host["named_by_sts"]]
        case "testing":
            return "testing"
        case _:
            return "none"


@dataclass
class Checked:
    """What came of a domain."""

    error: errors.Error | None
    """Why the level is not met by any host: no mail would go."""
    outcome: Outcome | None
    """The first host's that meets it."""
    more: dict[str, Any]
    """The keys that --json has for domains only."""


def check_domain(domain: str, policy: Policy, screen: DomainScreen | None) -> Checked:
    """Checks a domain; without a screen nothing is printed. Raises `starttls.Error` if nothing could be looked up.

    The level is met if mail would go: to the first host that meets it.
    """
    found = survey(domain, policy)
    if screen:
        screen.published(found)
    hosts: list[Host] = []
    error = _ask_hosts(domain, policy, found, hosts, screen)
    facts = [host.facts(found) for host in hosts]
    verdicts = [of_host(one) for one in facts]
    verdict, weakest = of_domain(facts)
    takes_mail = error is None or error.word != "null-mx"
    advice = advise(found, hosts) if hosts else []
    if screen and takes_mail:
        screen.domain_verdict(found["domain"], verdict, weakest, list(zip(facts, verdicts, strict=True)), advice)
    elif screen:
        screen.no_mail(found["domain"])
    first = next((host for host in hosts if not host.error), None)
    told = {
        "level": verdict.level,
        "host": weakest.name if weakest else None,
        "says": verdict.says,
        "attack": verdict.could,
        "advice": advice,
    }
    if not takes_mail:
        told |= {"level": "no-mail", "says": "the domain says that it takes no mail", "attack": None}
    more = {
        "survey": found,
        "hosts": [host.as_dict(verdict) for host, verdict in zip(hosts, verdicts, strict=True)],
        "verdict": told,
    }
    return Checked(error, first.outcome if first else error.outcome if error else None, more)


def _ask_hosts(
    domain: str, policy: Policy, found: dict[str, Any], hosts: list[Host], screen: DomainScreen | None
) -> errors.Error | None:
    """Asks each host, adds it to the list, and says why none will do."""
    published = {host["name"]: host for host in found["hosts"]}
    tried = Tried(domain, None)
    try:
        for host in _each_host(domain, policy, published, screen):
            hosts.append(host)
            if host.error:
                tried.over(host.error)
    except errors.Error as e:
        return e
    return tried.error() if all(host.error for host in hosts) else None


def _each_host(
    domain: str, policy: Policy, published: dict[str, dict[str, Any]], screen: DomainScreen | None
) -> Iterator[Host]:
    routes = _core.Routes(domain, policy)
    while True:
        try:
            route = routes._next(policy.timeout)
        except errors.Error as e:
            # Its look-ups say no: nobody need be dialled to know that the level is not met.
            name = (e.outcome.peer.name if e.outcome else None) or domain
            port = (e.outcome.peer.port if e.outcome else None) or 25
            host = Host(name, _about(published, name), port, error=e, outcome=e.outcome)
            if screen:
                screen.host(name, host.published)
        else:
            if route is None:
                return
            host = Host(route.host, _about(published, route.host), route.port)
            if screen:
                screen.host(route.host, host.published)
            _connect(host, route.policy, screen)
        if screen and host.outcome and host.outcome.peer.address:
            screen.findings(host.outcome)
        _learn_more(host, policy, screen)
        if screen:
            screen.verdict(policy.level, host.error, host.outcome)
        yield host


def _about(published: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    """What the survey has of a host: the records may have changed since."""
    unknown: dict[str, Any] = {"name": name, "preference": None, "addresses": [], "tlsa": None, "tlsa_usable": False}
    return published.get(name) or {**unknown, "named_by_sts": None, "error": None}


def _connect(host: Host, policy: Policy, screen: DomainScreen | None) -> None:
    try:
        session = _core.connect("smtp", host.name, host.port, policy=policy, _see=screen.line if screen else None)
    except errors.Error as e:
        host.error, host.outcome = e, e.outcome
    else:
        session.close()
        host.outcome = session.outcome


def _learn_more(host: Host, policy: Policy, screen: DomainScreen | None) -> None:
    addresses = host.published["addresses"]
    if not addresses or (host.error and host.error.word in ("io", "timeout")):
        return
    if host.is_untold:
        host.probe, host.probe_error = _probe(host, policy, addresses)
        if screen and host.probe:
            screen.say("  what its TLS is, whatever the level:", "bold")
            screen.findings(host.probe)
    host.clear = in_clear(host.name, host.port, addresses, policy.timeout)
    if screen:
        screen.clear(host.clear)


def _probe(host: Host, policy: Policy, addresses: list[str]) -> tuple[Outcome | None, errors.Error | None]:
    tlsa = host.published["tlsa"]["string"] if host.published["tlsa_usable"] else []
    level = "dane" if tlsa else "may"
    error = None
    for address in addresses:
        one = policy.derive(level=level, fingerprints=(), destinations=None, cache=None, address=address)
        if tlsa:
            one = one.derive(tlsa=tlsa, tlsa_proof="secure")
        try:
            with _core.connect("smtp", host.name, host.port, policy=one) as session:
                return session.outcome, None
        except errors.ConnectionNotMadeError as e:
            error = e
        except errors.Error as e:
            return e.outcome, e
    return error.outcome if error else None, error
