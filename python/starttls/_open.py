"""How the clients of `starttls.stdlib` get their connection."""

import re
import socket
from typing import Any

from starttls import _core, errors
from starttls._core import Policy, Session

# What the standard library calls "not given".
NOT_GIVEN: Any = socket._GLOBAL_DEFAULT_TIMEOUT  # type: ignore[attr-defined]

# The end of the greeting within all that was heard.
_REPLY = re.compile(rb"(?:\d{3}-[^\n]*\n)*\d{3}[^\n]*\n")
_LINE = re.compile(rb"[^\n]*\n")
# FTP's may say "wait" first (120), and have any text between its first and last line.
_FTP_REPLY = re.compile(rb"(\d{3})(?: [^\n]*\n|-(?:[^\n]*\n)*?\1 [^\n]*\n)")


def _read_timeout(timeout: float | None) -> float | None:
    """Seconds, as the standard library's clients mean it; they refuse 0."""
    if timeout is NOT_GIVEN:
        timeout = socket.getdefaulttimeout()
    if timeout is not None and not timeout:
        raise ValueError("Non-blocking socket (timeout=0) is not supported")
    return timeout


def open_session(
    protocol: str,
    host: str,
    port: int | None,
    policy: Policy,
    timeout: float | None,
    source_address: Any = None,
) -> Session:
    """A session whose first bytes are the greeting that the client is to see.

    Without a port the host is a domain, and one of its hosts is connected to.
    """
    seconds = _read_timeout(timeout)
    if source_address:
        policy = _from_here(policy, *source_address)
    if port is None:
        session = _core.connect_domain(host, policy, protocol=protocol, timeout=seconds)
    else:
        session = _core.connect(protocol, host, port, policy=policy, timeout=seconds)
    session.settimeout(seconds)
    session._as_stream(_greeting(protocol, session))
    return session


def _from_here(policy: Policy, host: str, port: int) -> Policy:
    """The policy that dials from this address."""
    if not host and not port:
        return policy
    try:
        all_found = socket.getaddrinfo(host or "0.0.0.0", port, type=socket.SOCK_STREAM)
    except socket.gaierror as e:
        message = f"look up the source address {host}: {e.strerror}"
        raise errors.make("lookup-failed", message, e.errno == socket.EAI_AGAIN, None, None) from None
    # Of a name that has both, IPv4, as the empty one means.
    found = min(all_found, key=lambda info: info[0] != socket.AF_INET)[4]
    address = f"[{found[0]!s}]" if len(found) == 4 else str(found[0])
    return policy._with_source_address(f"{address}:{found[1]!s}")


def _greeting(protocol: str, session: Session) -> bytes:
    if session.version() is not None:
        # Ours, and neutral: nothing that was heard in clear is acted on.
        return {"imap": b"* OK ready\r\n", "pop3": b"+OK ready\r\n"}.get(protocol, b"220 ready\r\n")
    if session.outcome.because == "not-asked":
        # Nothing was read: the server's own comes from the connection.
        return b""
    if protocol == "ftp":
        replies = (reply.group() for reply in _FTP_REPLY.finditer(session.heard()))
        return next((reply for reply in replies if reply[:1] != b"1"), b"")
    found = (_LINE if protocol in ("imap", "pop3") else _REPLY).match(session.heard())
    return found.group() if found else b""


def require_tls(session: Session) -> None:
    """Raises why a connection is in clear, for a caller who wants it upgraded now."""
    outcome = session.outcome
    if outcome.encrypted:
        return
    if outcome.because == "not-asked":
        raise errors.InvalidError("invalid", 'level "none" never does TLS; connect with another policy')
    word = {"refused": "refused", "handshake-failed": "handshake"}.get(outcome.because or "", "not-offered")
    notes = "; ".join(outcome.notes) or "the server does not offer TLS"
    raise errors.make(word, f"the connection is in clear: {notes}", False, outcome.to_json(), None)
