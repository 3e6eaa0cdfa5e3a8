"""What a mail server shows and takes before TLS, on a connection of its own in clear.

    S: 220 …     C: EHLO [192.0.2.1]     S: 250-… 250 AUTH PLAIN     C: MAIL FROM:<>     S: 250 or 530     C: RSET, QUIT

No recipient is named and no mail is sent. RFC 3207 §4: a server that insists says 530 "Must issue a STARTTLS command
first", but one that takes mail for all the world must not (§4.1), so that is told, not blamed.
"""

import contextlib
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from starttls import _core, errors
from starttls._core import Policy, Session
from starttls._printable import printable

__all__ = ["in_clear"]

_ALL = 64 * 1024


def in_clear(
    host: str, port: int, addresses: Sequence[str], timeout: float, see: Callable[[str, str], object] | None = None
) -> dict[str, Any]:
    """Asks one server. The keys: `keywords` of EHLO; `auth`: the mechanisms among them; `mail`: what became of
    MAIL FROM without TLS (`accepted`, `wants-tls`, `refused`), `reply` to it; `error`, if it got no further."""
    found: dict[str, Any] = {"keywords": None, "auth": None, "mail": None, "reply": None, "error": None}
    try:
        with _dial(host, port, addresses, timeout) as session:
            _ask(_Talk(session, timeout, see), found)
    except errors.Error as e:
        found["error"] = e.message
    except (OSError, _Nonsense) as e:
        found["error"] = f"in clear: {e}"
    return found


class _Nonsense(Exception):
    """What SMTP does not allow."""


def _dial(host: str, port: int, addresses: Sequence[str], timeout: float) -> Session:
    end = time.monotonic() + timeout
    *others, last = addresses or (None,)
    for address in (*others, last):
        try:
            left = max(0.1, end - time.monotonic())
            return _core.connect("smtp", host, port, policy=Policy("none", address=address, timeout=left))
        except errors.ConnectionNotMadeError:
            if address is last:
                raise
    raise AssertionError


def _ask(talk: "_Talk", found: dict[str, Any]) -> None:
    code, lines = talk.hear()
    if code != 220:
        found["error"] = f"the greeting was: {lines[0]}"
        return
    code, lines = talk.say(f"EHLO {talk.own_name()}")
    if code != 250:
        found["error"] = f"the answer to EHLO was: {lines[0]}"
        return
    keywords = [line[4:].strip() for line in lines[1:]]
    found["keywords"] = keywords
    # "AUTH=PLAIN" is older than the RFC, and still said.
    found["auth"] = sorted({word for k in keywords if k[:5].upper() in ("AUTH ", "AUTH=") for word in k[5:].split()})
    code, lines = talk.say("MAIL FROM:<>")
    found["reply"] = lines[-1]
    found["mail"] = "accepted" if code // 100 == 2 else "wants-tls" if code == 530 else "refused"
    # It has said all that we wanted: how it says good-bye matters to nobody.
    with contextlib.suppress(OSError, _Nonsense):
        if found["mail"] == "accepted":
            talk.say("RSET")
        talk.say("QUIT")


class _Talk:
    """Commands and replies, each whole, with one end for all of them."""

    def __init__(self, session: Session, timeout: float, see: Callable[[str, str], object] | None) -> None:
        self._session = session
        self._end = time.monotonic() + timeout
        self._see = see
        self._left = b""
        self._heard = 0

    def own_name(self) -> str:
        """As an address literal: nothing is looked up."""
        address = str(self._session.getsockname()[0]).partition("%")[0]
        return f"[IPv6:{address}]" if ":" in address else f"[{address}]"

    def say(self, command: str) -> tuple[int, list[str]]:
        if self._left:
            raise _Nonsense("the server speaks before it is asked")
        if self._see:
            self._see("C", command)
        self._in_time()
        self._session.sendall(f"{command}\r\n".encode())
        return self.hear()

    def hear(self) -> tuple[int, list[str]]:
        """A whole reply: its code, and its lines as text."""
        lines: list[str] = []
        while True:
            line = self._line()
            lines.append(printable(line))
            if self._see:
                self._see("S", lines[-1])
            if not re.match(rb"[2-5][0-9]{2}([ -]|$)", line):
                raise _Nonsense(f"no reply of SMTP: {lines[-1]}")
            if line[3:4] != b"-":
                return int(line[:3]), lines

    def _line(self) -> bytes:
        while b"\n" not in self._left:
            self._in_time()
            data = self._session.recv(4096)
            if not data:
                raise _Nonsense("the server closed the connection")
            self._heard += len(data)
            if self._heard > _ALL:
                raise _Nonsense(f"the server says more than {_ALL} bytes")
            self._left += data
        line, _, self._left = self._left.partition(b"\n")
        return line.removesuffix(b"\r")

    def _in_time(self) -> None:
        left = self._end - time.monotonic()
        if left <= 0:
            raise _Nonsense("the time is over")
        self._session.settimeout(left)
