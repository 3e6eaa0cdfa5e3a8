"""What is published for those who send mail to a domain."""

import json
from typing import Any

from starttls import _core
from starttls._core import Policy, Routes

__all__ = ["routes", "survey"]


def routes(
    domain: str, policy: str | Policy = "strict", *, protocol: str = "smtp", timeout: float | None = None
) -> Routes:
    """The hosts that take a domain's mail, in the order to try them, each with the policy that holds there.

    For programs that dial themselves; `connect_domain` does it all. Nothing is dialled here.

        routes = starttls.routes("example.org", policy)
        for route in routes:
            session = starttls.connect("smtp", route.host, route.port, policy=route.policy)

    Each host's look-ups are made when its turn comes. One that must not be used, because its look-ups failed or
    nothing there could meet the policy, is left out: why is in ``routes.skipped``. If all were, the loop's body never
    runs, and the mail has to wait. timeout: seconds for the hosts together, and then for each of them.

    Raises `starttls.Error`: ``null-mx``, ``lookup-failed`` and so on.
    """
    return Routes(domain, policy, protocol=protocol, timeout=timeout)


def survey(domain: str, policy: str | Policy = "strict", *, timeout: float | None = None) -> dict[str, Any]:
    """All that a domain publishes for those who send to it, looked up anew: for people.

    MX records and hosts with what DNSSEC says of them, their addresses and TLSA records, the MTA-STS policy, the
    TLSRPT record. What could not be had stands there with the reason. No mail host is spoken to. Of the policy count
    the resolver, the ports and the time-out.
    """
    found: dict[str, Any] = json.loads(_core.survey(domain, policy, timeout))
    return found
