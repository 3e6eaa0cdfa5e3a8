"""STARTTLS for mail software: negotiate, upgrade, check, and say what was obtained.

    import starttls

    with starttls.connect("smtp", "mail.example.org", 587, policy="strict") as session:
        session.sendall(b"EHLO me.example.org\\r\\n")

The server's side is `accept`; for asyncio there are `open_connection`, `start` and `accept_streams`.

A `Policy` is what must hold; an `Outcome` is what did. Security is never a bool: plain text always
says *because*, an identity names its evidence. The levels, which `policy=` takes as words:

none           never TLS
may            TLS if it is offered, with anyone; else in clear, with the reason
encrypt        TLS with anyone, or an error
fingerprint    TLS with a certificate or key of a given SHA-256, or an error
verify         TLS with a PKIX chain and the right name, or an error
dane           as the host's secure TLSA records say; without them as `may`
dane-only      TLS with a peer that secure TLSA records prove, or an error
opportunistic  the best that the peer's domain asks for: DANE, else MTA-STS, else as `may`
strict         the default: TLS with a proven peer, or an error: DANE where it is published, else as `verify`

A server's are `encrypt`, and `verify` and `fingerprint` for clients that must show a certificate.

Mail to a domain goes by `connect_domain`: to its MX hosts, with what the domain asks of its senders. DANE is
looked up for SMTP between servers; on other protocols `dane` and `dane-only` ask for it by name (RFC 7673).

`starttls.stdlib` has the standard library's mail clients and ftplib's over this, `Context` goes
where those take ``context=``, and everything that is raised is a `starttls.Error`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from starttls import errors
from starttls._answer import Answer
from starttls._core import Policy, Route, Routes, Session, accept, connect, connect_domain, refuse, upgrade
from starttls._core import version as __version__
from starttls._domain import routes, survey
from starttls.context import Context
from starttls.errors import Error
from starttls.outcome import Outcome

if TYPE_CHECKING:
    from starttls import aio, stdlib, tlsrpt
    from starttls.aio import accept_streams, open_connection, outcome_of, start

__all__ = [
    "Answer",
    "Context",
    "Error",
    "Outcome",
    "Policy",
    "Route",
    "Routes",
    "Session",
    "__version__",
    "accept",
    "accept_streams",
    "aio",
    "connect",
    "connect_domain",
    "errors",
    "open_connection",
    "outcome_of",
    "refuse",
    "routes",
    "start",
    "stdlib",
    "survey",
    "tlsrpt",
    "upgrade",
]


def __getattr__(name: str) -> Any:
    # asyncio, smtplib and imaplib each take longer to import than all the rest.
    if name in ("aio", "stdlib", "tlsrpt"):
        return importlib.import_module(f"starttls.{name}")
    if name in ("accept_streams", "open_connection", "outcome_of", "start"):
        return getattr(importlib.import_module("starttls.aio"), name)
    raise AttributeError(f"module 'starttls' has no attribute {name!r}")
