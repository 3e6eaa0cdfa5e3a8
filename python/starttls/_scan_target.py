"""One target of `starttls scan`: asked as a sender would, with a pause before each dial (see _scan_crew)."""

import contextlib
import time
from collections.abc import Generator, Sequence

from starttls import _core, errors
from starttls._check import addresses, invalid_target
from starttls._core import Policy, Session
from starttls._targets import Target
from starttls._tried import Tried
from starttls.outcome import Outcome

__all__ = ["Found", "attempt"]

# What came of a target; None as error: the level is met.
Found = tuple[Outcome | None, errors.Error | None]

_MAIL = ("smtp", "submission", "lmtp")


def attempt(target: Target, policy: Policy) -> Generator[Sequence[str], None, Found]:
    """Yields the addresses that will be dialled when it goes on. What it waits there does not count as its time."""
    try:
        invalid_target(target, None, policy)
        if target.protocol is None:
            outcome = yield from _domain(target.host, policy)
        else:
            outcome = yield from _host(target.protocol, target, policy)
    except errors.Error as e:
        return e.outcome, e
    return outcome, None


class _Time:
    """What is left of a target's time; the clock stands still while it is paused."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return self._end - time.monotonic()

    def pause(self, about_to_dial: Sequence[str]) -> Generator[Sequence[str], None, None]:
        before = time.monotonic()
        yield about_to_dial
        self._end += time.monotonic() - before


def _domain(domain: str, policy: Policy) -> Generator[Sequence[str], None, Outcome]:
    # As `connect_domain`, but for the pauses.
    clock = _Time(policy.timeout)
    routes = _core.Routes(domain, policy)
    tried = Tried(domain, None)
    while clock.left > 0:
        try:
            route = routes._next(clock.left)
            if route is None:
                break
            yield from clock.pause(route.addresses)
            session = _core.connect("smtp", route.host, route.port, policy=route.policy, timeout=max(clock.left, 0.01))
        except errors.Error as e:
            if tried.over(e):
                raise
        else:
            return tried.told(_end("smtp", session), [])
    raise tried.error()


def _host(protocol: str, target: Target, policy: Policy) -> Generator[Sequence[str], None, Outcome]:
    clock = _Time(policy.timeout)
    route = _core.look_up_host(protocol, target.host, target.port, policy)
    if route.addresses:
        yield from clock.pause(route.addresses)
        timeout = max(clock.left, 0.01)
        return _end(protocol, _core.connect(protocol, target.host, route.port, policy=route.policy, timeout=timeout))
    # The level heeds no DNSSEC here, so that nobody has looked them up.
    *others, last = dict.fromkeys(addresses(target.host))
    for address in (*others, last):
        yield from clock.pause([address])
        one = route.policy.derive(address=address)
        try:
            timeout = max(clock.left, 0.01)
            return _end(protocol, _core.connect(protocol, target.host, route.port, policy=one, timeout=timeout))
        except errors.ConnectionNotMadeError:
            if address == last:
                raise
    raise AssertionError


def _end(protocol: str, session: Session) -> Outcome:
    with session, contextlib.suppress(OSError):
        if protocol in _MAIL:
            # So that the server's log has no connection that was lost.
            session.settimeout(1)
            session.sendall(b"QUIT\r\n")
    return session.outcome
