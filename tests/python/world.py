"""A DNS of the test's own, asked by `Policy(resolver=…)`, and mail hosts in it that listen on loopback."""

import ssl
import threading
from collections.abc import Callable
from typing import Any

import starttls
from peers import line

MX, A, TXT, TLSA = "MX", "A", "TXT", "TLSA"


def wire(name: str) -> bytes:
    labels = [label.encode("ascii") for label in name.split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def mx(preference: int, host: str) -> bytes:
    return preference.to_bytes(2, "big") + wire(host)


def a(address: str) -> bytes:
    return bytes(int(part) for part in address.split("."))


def txt(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


class World:
    """Answers; what it does not know does not exist, and that is as proven as all the rest."""

    def __init__(self, proof: str = "secure") -> None:
        self.proof = proof
        self.records: dict[tuple[str, str], list[bytes]] = {}
        # Instead of an answer.
        self.instead: dict[tuple[str, str], Callable[[], Any]] = {}
        self.asked: list[tuple[str, str]] = []
        self.threads: set[int] = set()

    def put(self, name: str, kind: str, *records: bytes) -> None:
        self.records[name, kind] = list(records)

    def mail(self, domain: str, host: str, address: str = "127.0.0.1") -> None:
        self.put(domain, MX, mx(10, host))
        self.put(host, A, a(address))

    def __call__(self, name: str, kind: str, timeout: float) -> starttls.Answer:
        assert isinstance(name, str) and isinstance(timeout, float) and timeout > 0
        self.asked.append((name, kind))
        self.threads.add(threading.get_ident())
        if (name, kind) in self.instead:
            answer: starttls.Answer = self.instead[name, kind]()
            return answer
        known = any(name == one for one, _ in self.records)
        records = self.records.get((name, kind), [])
        return starttls.Answer(records, self.proof, ttl=300, name=name, no_such_name=not known)


class Host:
    """An SMTP server whose STARTTLS can be taken away, for `peer`."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self.offers = True
        self.greeting = b"220 mx.example.test ESMTP\r\n"
        self.mails: list[bytes] = []

    def __call__(self, sock: Any) -> None:
        sock.sendall(self.greeting)
        while True:
            command = line(sock).upper()
            if command.startswith(b"EHLO"):
                offer = b"250 STARTTLS\r\n" if self.offers and not isinstance(sock, ssl.SSLSocket) else b"250 HELP\r\n"
                sock.sendall(b"250-mx.example.test\r\n" + offer)
            elif command.startswith(b"STARTTLS") and self.offers:
                sock.sendall(b"220 go\r\n")
                sock = self._context.wrap_socket(sock, server_side=True)
            elif command.startswith(b"DATA"):
                sock.sendall(b"354 go on\r\n")
                mail = b""
                while not mail.endswith(b"\r\n.\r\n"):
                    mail += line(sock)
                self.mails.append(mail)
                sock.sendall(b"250 ok\r\n")
            elif command.startswith(b"QUIT"):
                sock.sendall(b"221 bye\r\n")
                return
            else:
                sock.sendall(b"502 no\r\n" if command.startswith(b"STARTTLS") else b"250 ok\r\n")
