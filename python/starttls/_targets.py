"""What the command is told to check: `smtp://host[:port]`, any protocol word, or a bare domain."""

import argparse
from functools import cache
from urllib.parse import SplitResult, urlsplit

from starttls import _core

__all__ = ["BadTarget", "Target", "target", "words"]


class BadTarget(ValueError):
    """A text that is no target; the message says what is wrong."""


class Target:
    """Where to go. Without a protocol it is a domain, whose MX hosts are looked up."""

    __slots__ = ("host", "port", "protocol", "text")

    def __init__(self, text: str) -> None:
        if not text or not text.isprintable() or " " in text:
            raise BadTarget(f"{text!r}: a target is not empty and has no spaces or control characters")
        self.text = text
        self.protocol: str | None = None
        self.host = text
        self.port = 0
        if "://" not in text:
            return
        if "?" in text or "#" in text:
            raise BadTarget(f"{text!r}: a target is protocol://host[:port] and no more")
        try:
            url = urlsplit(text)
        except ValueError as e:
            raise BadTarget(f"{text!r}: {e}") from None
        known = words()
        if url.scheme not in known:
            raise BadTarget(f"{text!r}: no protocol is called {url.scheme!r}; it is one of: {' '.join(known)}")
        self.protocol = url.scheme
        self.host, self.port = _host_and_port(text, url)


def target(text: str) -> Target:
    """For argparse."""
    try:
        return Target(text)
    except BadTarget as e:
        raise argparse.ArgumentTypeError(str(e)) from None


@cache
def words() -> tuple[str, ...]:
    """Every word that a target may begin with."""
    rows = _core.protocols()
    return (*(row[0] for row in rows), *(row[2] for row in rows if row[2]))


def _host_and_port(text: str, url: SplitResult) -> tuple[str, int]:
    try:
        port = url.port
    except ValueError:
        raise BadTarget(f"{text!r}: the port is a number from 1 to 65535") from None
    if port == 0 or url.netloc.endswith(":"):
        raise BadTarget(f"{text!r}: the port is a number from 1 to 65535")
    if url.username is not None or url.path not in ("", "/"):
        raise BadTarget(f"{text!r}: a target is protocol://host[:port] and no more")
    if not url.hostname:
        raise BadTarget(f"{text!r}: there is no host")
    return url.hostname, port or 0
