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
opportunistic  the best that the peer's domain asks for; as `may` in this version
strict         the default: TLS with a proven peer, or an error; as `verify` in this version

A server's are `encrypt`, and `verify` and `fingerprint` for clients that must show a certificate.

`starttls.stdlib` has the standard library's mail clients and ftplib's over this, `Context` goes
where those take ``context=``, and everything that is raised is a `starttls.Error`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from starttls import errors
from starttls._core import Policy, Session, accept, connect, refuse, upgrade
from starttls._core import version as __version__
from starttls.context import Context
from starttls.errors import Error
from starttls.outcome import Outcome

if TYPE_CHECKING:
    from starttls import aio, stdlib
    from starttls.aio import accept_streams, open_connection, outcome_of, start

__all__ = [
    "Context",
    "Error",
    "Outcome",
    "Policy",
    "Session",
    "__version__",
    "accept",
    "accept_streams",
    "aio",
    "connect",
    "errors",
    "open_connection",
    "outcome_of",
    "refuse",
    "start",
    "stdlib",
    "upgrade",
]


def __getattr__(name: str) -> Any:
    # asyncio, smtplib and imaplib each take longer to import than all the rest.
    if name in ("aio", "stdlib"):
        return importlib.import_module(f"starttls.{name}")
    if name in ("accept_streams", "open_connection", "outcome_of", "start"):
        return getattr(importlib.import_module("starttls.aio"), name)
    raise AttributeError(f"module 'starttls' has no attribute {name!r}")
