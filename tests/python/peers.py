"""Servers written in a test: a function that gets the accepted socket, in a thread."""

import socket
import ssl
import threading
from collections.abc import Callable

NAME = "mail.example.test"
Serve = Callable[[socket.socket], None]

# What a server says until the go-ahead is given; None: it waits for a line from the client.
SMTP = [b"220 mail.example.test ESMTP\r\n", None, b"250-mail.example.test\r\n250 STARTTLS\r\n", None, b"220 go\r\n"]
IMAP = [b"* OK hello\r\n", None, None]
POP3 = [b"+OK hello <1.2@mail.example.test>\r\n", None, b"+OK go\r\n"]


class Peer:
    """Listens on a port of 127.0.0.1; each connection runs in a thread of its own."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.failures: list[BaseException] = []
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listening.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._play, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _play(self, sock: socket.socket) -> None:
        with sock:
            sock.settimeout(20)
            try:
                self._serve(sock)
            except (ConnectionError, ssl.SSLError):
                pass  # Clients break off: that is what many tests are about.
            except BaseException as e:
                self.failures.append(e)

    def end(self) -> None:
        """Waits until all connections are served; what went wrong in one is raised."""
        if self._listening.fileno() >= 0:
            self._listening.shutdown(socket.SHUT_RDWR)
            self._listening.close()
        self._accepting.join(10)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a server of this test still waits"
        if self.failures:
            raise self.failures[0]


def line(sock: socket.socket | ssl.SSLSocket) -> bytes:
    """A line from the client, byte by byte: what comes behind it may be TLS."""
    text = b""
    while not text.endswith(b"\n"):
        byte = sock.recv(1)
        if not byte:
            raise ConnectionError("the client closed")
        text += byte
    return text


def play(sock: socket.socket, script: list[bytes | None]) -> list[bytes]:
    """Sends what is bytes, reads a line where there is None; the lines that were read."""
    heard = []
    for step in script:
        if step is None:
            heard.append(line(sock))
        else:
            sock.sendall(step)
    return heard


def imap_until_starttls(sock: socket.socket, before: bytes = b"") -> bytes:
    """An IMAP server up to STARTTLS, with the bytes said before its answer; the answer's tag."""
    sock.sendall(b"* OK hello\r\n")
    while True:
        tag, command = line(sock).split()[:2]
        if command.upper() == b"STARTTLS":
            sock.sendall(before)
            return tag
        assert command.upper() == b"CAPABILITY"
        sock.sendall(b"* CAPABILITY IMAP4rev1 STARTTLS\r\n" + tag + b" OK done\r\n")


def smtp(context: ssl.SSLContext, afterwards: Callable[[ssl.SSLSocket], None]) -> Serve:
    """An SMTP server that upgrades; `afterwards` gets the TLS session."""

    def serve(sock: socket.socket) -> None:
        play(sock, SMTP)
        with context.wrap_socket(sock, server_side=True) as tls:
            afterwards(tls)

    return serve


def how_it_ends(context: ssl.SSLContext, ended: list[str]) -> Serve:
    """An SMTP server that upgrades and notes whether the client says close_notify: clean, or ragged."""

    def serve(sock: socket.socket) -> None:
        play(sock, SMTP)
        note_end(context, sock, ended)

    return serve


def note_end(context: ssl.SSLContext, sock: socket.socket, ended: list[str]) -> None:
    """The server's side of a TLS connection of which only the end is of interest."""
    with context.wrap_socket(sock, server_side=True, suppress_ragged_eofs=False) as tls:
        try:
            while tls.recv(100):
                pass
            ended.append("clean")
        except (ssl.SSLError, ConnectionResetError):
            ended.append("ragged")


def echo(tls: ssl.SSLSocket) -> None:
    """Sends back what comes, until the client closes; then closes properly."""
    with tls:
        while data := tls.recv(16384):
            tls.sendall(data)
        # Answers the client's close_notify.
        tls.unwrap()
