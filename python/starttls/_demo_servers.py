"""The servers and the boxes in between of `starttls demo`: on loopback, each in a thread.

They serve the demonstration alone and take no mail.
"""

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

HOST = "mail.example.test"
EHLO_REPLY = b"250-mail.example.test\r\n250-STARTTLS\r\n250 8BITMIME\r\n"
# No demonstration takes longer; a thread that waits for ever would keep the process.
PATIENCE = 10.0


class Listener:
    """Gives each connection on a port of 127.0.0.1 to a function, in a thread."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._serve = serve
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        # Ends when the listener is closed.
        with suppress(OSError):
            while True:
                sock, _ = self._listening.accept()
                threading.Thread(target=self._play, args=(sock,), daemon=True).start()

    def _play(self, sock: socket.socket) -> None:
        # A client that breaks off, also in the handshake, is what some of this is about.
        with sock, suppress(OSError):
            sock.settimeout(PATIENCE)
            self._serve(sock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        # Wakes accept(), which close() alone does not.
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


def mail_server(pem: Path) -> Callable[[socket.socket], None]:
    """An SMTP server with STARTTLS and this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)

    def serve(sock: socket.socket) -> None:
        sock.sendall(b"220 mail.example.test ESMTP\r\n")
        if talk(sock.makefile("rb"), sock, EHLO_REPLY) != b"STARTTLS":
            return
        sock.sendall(b"220 2.0.0 Ready to start TLS\r\n")
        with context.wrap_socket(sock, server_side=True) as tls:
            talk(tls.makefile("rb"), tls, EHLO_REPLY.replace(b"250-STARTTLS\r\n", b""))

    return serve


def talk(lines: BinaryIO, sock: socket.socket, ehlo_reply: bytes) -> bytes:
    """Answers EHLO and QUIT; returns at STARTTLS, which it does not answer, and at the end."""
    for line in lines:
        verb = line.split(maxsplit=1)[0].upper() if line.strip() else b""
        if verb == b"STARTTLS":
            return verb
        if verb == b"EHLO":
            sock.sendall(ehlo_reply)
        elif verb == b"QUIT":
            sock.sendall(b"221 2.0.0 Bye\r\n")
            return verb
        else:
            sock.sendall(b"502 5.5.1 This server only demonstrates STARTTLS\r\n")
    return b""


def stripping_box(port: int) -> Callable[[socket.socket], None]:
    """Someone on the path who takes STARTTLS out of the server's answer and refuses the command."""

    def serve(client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as server:
            client_lines, server_lines = client.makefile("rb"), server.makefile("rb")
            client.sendall(server_lines.readline())
            for line in client_lines:
                if line.upper().startswith(b"STARTTLS"):
                    client.sendall(b"502 5.5.1 Command not implemented\r\n")
                    continue
                server.sendall(line)
                client.sendall(reply(server_lines).replace(b"250-STARTTLS\r\n", b""))

    return serve


def injecting_box(port: int) -> Callable[[socket.socket], None]:
    """Someone on the path who adds a line of their own in clear behind the server's go-ahead."""

    def serve(client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as server:
            client_lines, server_lines = client.makefile("rb"), server.makefile("rb")
            client.sendall(server_lines.readline())
            for line in client_lines:
                server.sendall(line)
                answer = reply(server_lines)
                if line.upper().startswith(b"STARTTLS"):
                    client.sendall(answer + b"250-AUTH PLAIN\r\n250 SIZE 1\r\n")
                    # What the client says now is its own affair: it should say nothing.
                    return
                client.sendall(answer)

    return serve


def reply(lines: BinaryIO) -> bytes:
    """One reply of an SMTP server, with all its lines."""
    text = b""
    for line in lines:
        text += line
        if line[3:4] != b"-":
            break
    return text
