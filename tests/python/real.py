"""The real servers of `tests/servers/run.py`: which there are, and what is special about each port."""

import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starttls import Session, _core

HOST = "mail.example.test"
OTHER = "other.example.test"

_listing = os.environ.get("STARTTLS_SERVERS")
FOUND: dict[str, Any] = json.loads(Path(_listing).read_text()) if _listing else {"servers": {}}

IN_BAND = [row[0] for row in _core.protocols()]
WORDS = IN_BAND + [row[2] for row in _core.protocols() if row[2]]

# What each of them speaks.
WHO = {
    "mariadb": ["mysql"],
    "postgresql": ["postgres"],
    "dovecot": ["imap", "imaps", "pop3", "pop3s", "sieve", "lmtp", "submission", "submissions"],
    "postfix": ["smtp", "smtps", "submission"],
    "inn2": ["nntp", "nntps"],
    "prosody": ["xmpp", "xmpps", "xmpp-server", "xmpps-server"],
    "inspircd": ["irc", "ircs"],
    "vsftpd": ["ftp", "ftps"],
    "slapd": ["ldap", "ldaps"],
    "cups": ["http", "https"],
}
# What none of them speaks, and why.
NOBODY = {
    "telnet": "no telnet server that is packaged today knows START_TLS; OpenSSL's client does",
    "telnets": "the same servers know no TLS at all",
}


@dataclass(frozen=True)
class Port:
    """A port of a real server: the protocol's word, and what is special about it (`self-signed`)."""

    server: str
    name: str
    number: int
    word: str
    variant: str

    @property
    def host(self) -> str:
        """Whom to ask for. Over loopback CUPS serves nobody else."""
        return "localhost" if self.word == "http" else HOST

    def __str__(self) -> str:
        return f"{self.server}-{self.name}"


def _port(server: str, name: str, number: int) -> Port:
    # The longest: "xmpp-server-no-tls" is not what is special about an "xmpp".
    word = max((w for w in WORDS if f"{name}-".startswith(f"{w}-")), key=len)
    return Port(server, name, number, word, name[len(word) + 1 :])


PORTS = [_port(server, name, number) for server, ports in FOUND["servers"].items() for name, number in ports.items()]


def ports(*variants: str) -> list[Port]:
    """The ports of which one of these things is special."""
    return [port for port in PORTS if port.variant in variants]


class Talk:
    """What is said on a session, or on a socket in clear."""

    def __init__(self, session: Session | socket.socket) -> None:
        self.session = session
        self._read = b""
        session.settimeout(20)

    def say(self, text: bytes | str) -> None:
        self.session.sendall(text.encode() if isinstance(text, str) else text)

    def _more(self, wanted: object) -> None:
        data = self.session.recv(16384)
        assert data, f"closed after {self._read!r}, without {wanted!r}"
        self._read += data

    def hear(self, wanted: bytes | str) -> bytes:
        """All up to what is wanted, with it."""
        wanted = wanted.encode() if isinstance(wanted, str) else wanted
        while wanted not in self._read:
            self._more(wanted)
        heard, _, self._read = self._read.partition(wanted)
        return heard + wanted

    def line(self) -> bytes:
        return self.hear(b"\r\n")

    def take(self, n: int) -> bytes:
        """So many bytes."""
        while len(self._read) < n:
            self._more(n)
        heard, self._read = self._read[:n], self._read[n:]
        return heard

    def reply(self, command: str) -> bytes:
        """Says a line; SMTP's and FTP's answer, whose last line has a space behind the code."""
        self.say(command + "\r\n")
        while (line := self.line())[3:4] == b"-":
            pass
        return line
