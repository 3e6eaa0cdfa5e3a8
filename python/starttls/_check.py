"""`starttls check`: connects, plays the dialog, runs every check, and says whether the level is met."""

import argparse
import socket
import sys
from collections.abc import Sequence
from typing import Any

from starttls import _core, errors
from starttls._command import MET, NOT_MET, TEMPORARY, as_json, policy_of, usage
from starttls._core import Policy
from starttls._domain_check import check_domain
from starttls._show import Screen
from starttls._show_domain import DomainScreen
from starttls._targets import Target
from starttls.outcome import Outcome

__all__ = ["addresses", "check", "invalid_target", "result", "status"]


def check(arguments: argparse.Namespace) -> int:
    """Runs it; its exit status."""
    level = arguments.level or ("fingerprint" if arguments.fingerprint else "strict")
    try:
        policy = policy_of(arguments, level, fingerprints=arguments.fingerprint)
        policy.ready()
        for target in arguments.targets:
            if target.protocol is None and arguments.name is not None:
                return usage(f"--name goes with protocol://host, and {target.text} is a domain")
            invalid_target(target, arguments.name, policy)
    except errors.Error as e:
        return usage(e.message)

    screen = None if arguments.json else DomainScreen(sys.stdout)
    failures = []
    for target in arguments.targets:
        if screen:
            screen.heading(target.text)
        if target.protocol is None:
            found, error = _check_domain(target.text, policy, screen)
        else:
            found, error = _check_host(target, arguments.name, policy, screen)
        if error is not None:
            failures.append(error)
        if screen is None:
            print(as_json(found), flush=True)
    return status(failures)


def invalid_target(target: Target, name: str | None, policy: Policy) -> None:
    """Raises `invalid` for what no look-up and no connection could mend."""
    if policy.level in ("dane", "dane-only"):
        # These are nothing without look-ups; the rules are another's that heeds DANE.
        policy = policy.derive(level="opportunistic")
    _core.Negotiation(target.protocol or "smtp", target.host if name is None else name, "greeting", policy)


def status(failures: Sequence[errors.Error]) -> int:
    """The exit status."""
    if not failures:
        return MET
    return TEMPORARY if all(e.temporary for e in failures) else NOT_MET


def result(target: str, level: str, outcome: Outcome | None, error: errors.Error | None) -> dict[str, Any]:
    """What --json prints of a target."""
    return {
        "target": target,
        "met": error is None,
        "level": level,
        "error": error.word if error else None,
        "message": error.message if error else f"level {level} is met",
        "temporary": error.temporary if error else False,
        "outcome": outcome.as_dict() if outcome else None,
    }


def _check_host(
    target: Target, name: str | None, policy: Policy, screen: Screen | None
) -> tuple[dict[str, Any], errors.Error | None]:
    error: errors.Error | None = None
    outcome = None
    try:
        session = _connect(target, name, policy, screen)
    except errors.Error as e:
        error, outcome = e, e.outcome
    else:
        session.close()
        outcome = session.outcome
    if screen:
        if outcome:
            screen.findings(outcome)
        screen.verdict(policy.level, error, outcome)
    return result(target.text, policy.level, outcome, error), error


def _check_domain(
    domain: str, policy: Policy, screen: DomainScreen | None
) -> tuple[dict[str, Any], errors.Error | None]:
    try:
        checked = check_domain(domain, policy, screen)
    except errors.Error as e:
        # Not even the look-ups could be made.
        if screen:
            screen.verdict(policy.level, e, e.outcome)
        nothing: dict[str, Any] = {"survey": None, "hosts": [], "verdict": None}
        return {**result(domain, policy.level, e.outcome, e), **nothing}, e
    if screen:
        screen.verdict(policy.level, checked.error, checked.outcome)
    return {**result(domain, policy.level, checked.outcome, checked.error), **checked.more}, checked.error


def _connect(target: Target, name: str | None, policy: Policy, screen: Screen | None) -> _core.Session:
    see = screen.line if screen else None
    assert target.protocol is not None
    if name is None:
        return _core.connect(target.protocol, target.host, target.port, policy=policy, _see=see)
    # TARGET is only where to dial. An address is told to the policy; a name is looked up here.
    *others, last = addresses(target.host)
    for address in others:
        try:
            return _core.connect(target.protocol, name, target.port, policy=policy.derive(address=address), _see=see)
        except errors.ConnectionNotMadeError:
            # Nobody there: the next one.
            pass
    return _core.connect(target.protocol, name, target.port, policy=policy.derive(address=last), _see=see)


def addresses(host: str) -> list[str]:
    """Those of a host, by the system's look-up. Raises `lookup-failed`."""
    try:
        return [str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    except socket.gaierror as e:
        permanent = e.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
        raise errors.make("lookup-failed", f"look up {host}: {e.strerror}", not permanent, None, None) from None
    except UnicodeError:
        raise errors.InvalidError("invalid", f"{host!r} is no host name") from None
