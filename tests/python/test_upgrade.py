"""`starttls.upgrade` on sockets of the caller's own."""

import contextlib
import os
import socket
import ssl
import threading
from pathlib import Path

import pytest
import starttls
from peers import NAME, echo, line, smtp


def test_upgrade_borrows_the_socket(peer, server_context, strict):
    port = peer(smtp(server_context, echo)).port
    sock = socket.create_connection(("127.0.0.1", port), 7)
    flags = sock.getblocking()
    with starttls.upgrade("smtp", sock, NAME, policy=strict) as session:
        assert session.gettimeout() == 7
        assert session.outcome.milliseconds.connect is None
        session.sendall(b"x")
        assert session.recv(1) == b"x"
    assert sock.fileno() >= 0 and sock.getblocking() == flags
    sock.close()


def test_upgrade_survives_a_caller_who_closes_its_socket(peer, server_context, strict):
    port = peer(smtp(server_context, echo)).port
    sock = socket.create_connection(("127.0.0.1", port))
    with starttls.upgrade("smtp", sock, NAME, policy=strict) as session:
        number = sock.fileno()
        sock.close()
        # Another file takes the number; the session must not write into it.
        reader, writer = os.pipe()
        assert number in (reader, writer) or os.dup2(writer, number) == number
        session.sendall(b"x")
        assert session.recv(1) == b"x"
        for fd in {reader, writer, number}:
            os.close(fd)


def test_upgrade_of_a_non_blocking_socket(peer, server_context, strict):
    sock = socket.create_connection(("127.0.0.1", peer(smtp(server_context, echo)).port))
    sock.setblocking(False)
    with sock, starttls.upgrade("smtp", sock, NAME, policy=strict) as session:
        assert session.gettimeout() == 0
        with pytest.raises(ssl.SSLWantReadError):
            session.recv(1)


def test_stages(peer, server_context, strict):
    def from_ready(sock):
        assert line(sock) == b"STARTTLS\r\n"
        sock.sendall(b"220 go\r\n")
        from_go_ahead(sock)

    def from_go_ahead(sock):
        with server_context.wrap_socket(sock, server_side=True) as tls:
            echo(tls)

    for stage, serve in (("ready", from_ready), ("go-ahead", from_go_ahead)):
        with socket.create_connection(("127.0.0.1", peer(serve).port)) as sock:
            with starttls.upgrade("smtp", sock, NAME, stage=stage, policy=strict) as session:
                assert session.outcome.identity.proven_by == "pkix"


def test_pending_at_go_ahead_is_injected_and_the_connection_is_shut(peer, strict):
    sock = socket.create_connection(("127.0.0.1", peer(lambda s: s.recv(1)).port), 5)
    with sock, pytest.raises(starttls.errors.InjectedError) as raised:
        starttls.upgrade("smtp", sock, NAME, "go-ahead", b"x", policy=strict)
    assert raised.value.outcome.protocol == "smtp"
    sock = socket.create_connection(("127.0.0.1", peer(lambda s: s.recv(1)).port), 5)
    with sock:
        with pytest.raises(starttls.errors.InjectedError):
            starttls.upgrade("smtp", sock, NAME, "go-ahead", memoryview(b"x"), policy=strict)
        # A careless caller that goes on finds it shut down.
        assert sock.recv(1) == b""
        with pytest.raises(BrokenPipeError):
            sock.sendall(b"AUTH PLAIN secret\r\n")


def test_what_cannot_be_upgraded(peer, server_context, strict, tmp_path: Path):
    port = peer(smtp(server_context, echo)).port
    with starttls.connect("smtp", NAME, port, policy=strict) as session:
        with pytest.raises(starttls.errors.InvalidError, match="already"):
            starttls.upgrade("smtp", session, NAME, policy=strict)
    closed = socket.socket()
    closed.close()
    with pytest.raises(ValueError):
        starttls.upgrade("smtp", closed, NAME, policy=strict)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams, pytest.raises(ValueError):
        starttls.upgrade("smtp", datagrams, NAME, policy=strict)
    with pytest.raises(TypeError, match="sock: a socket is wanted"):
        starttls.upgrade("smtp", object(), NAME, policy=strict)
    with socket.socket() as sock, pytest.raises(ValueError):
        starttls.upgrade("smtp", sock, NAME, stage="later", policy=strict)


def test_over_a_unix_socket(server_context, strict):
    ours, theirs = socket.socketpair()

    def serve():
        with contextlib.suppress(ssl.SSLError):
            smtp(server_context, echo)(theirs)

    thread = threading.Thread(target=serve)
    thread.start()
    with ours, starttls.upgrade("smtp", ours, NAME, policy=strict) as session:
        assert session.getpeername() == ""
        session.sendall(b"x")
        assert session.recv(1) == b"x"
    thread.join(10)
    theirs.close()
