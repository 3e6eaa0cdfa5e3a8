"""Servers that do what they should not: a clear error, in bounded time and memory, nothing leaked."""

import os
import socket
import threading
import time
import tracemalloc

import pytest
import starttls
from peers import NAME, POP3, SMTP, imap_until_starttls, line, play
from starttls import _core, errors

EHLO = [b"220 hello\r\n", None]
GO_AHEAD = SMTP[:-1]


def connect(protocol, one, policy):
    return starttls.connect(protocol, NAME, one.port, policy=policy)


@pytest.mark.parametrize(
    ("protocol", "script", "word", "temporary"),
    [
        ("smtp", [b"421 busy\r\n"], "refused", True),
        ("smtp", [b"554 no\r\n"], "refused", False),
        ("smtp", [b"HTTP/1.1 400 Bad Request\r\n\r\n"], "malformed", False),
        ("smtp", [b"\x16\x03\x03\x00\x05hello"], "malformed", False),
        ("smtp", [b"* OK imap\r\n"], "malformed", False),
        ("smtp", [b"220 nul\0\r\n"], "malformed", False),
        ("smtp", [b"220 two\r\n220 greetings\r\n"], "malformed", False),
        ("smtp", [*EHLO, b"250-x\r\n251 y\r\n"], "malformed", False),
        ("smtp", [*EHLO, b"421 later\r\n"], "closed", True),
        ("smtp", [*GO_AHEAD, b"220 go\r\nX"], "injected", False),
        ("smtp", [*GO_AHEAD, b"454 not now\r\n"], "refused", True),
        ("smtp", [*GO_AHEAD, b"501 no\r\n"], "refused", False),
        ("imap", [b"* BYE go\r\n"], "refused", True),
        ("imap", [b"* PREAUTH welcome\r\n"], "not-offered", False),
        ("imap", [b"220 smtp\r\n"], "malformed", False),
        ("pop3", [b"-ERR no\r\n"], "refused", False),
        ("pop3", [b"+OK\r\n", None, b"+OK go\r\n+OK and more\r\n"], "injected", False),
        ("smtps", [b"220 plaintext\r\n"], "malformed", False),
        ("imaps", [b"* OK plaintext\r\n"], "malformed", False),
    ],
)
def test_one_word_for_each(protocol, script, word, temporary, peer, strict):
    def serve(sock):
        play(sock, script)
        sock.recv(4096)

    with pytest.raises(starttls.Error) as raised:
        connect(protocol, peer(serve), strict)
    assert (raised.value.word, raised.value.temporary) == (word, temporary)
    assert raised.value.outcome.protocol == protocol


def test_residue_in_the_next_segment(peer, strict):
    def serve(sock):
        play(sock, SMTP)
        # After our ClientHello: what is said then must be TLS.
        sock.recv(1)
        sock.sendall(b"250 injected\r\n")
        sock.recv(4096)

    with pytest.raises(errors.InjectedError):
        connect("smtp", peer(serve), strict)


def test_the_careless_caller_finds_its_socket_shut_down(peer, server_context, strict, tmp_path):
    # A CA that the server's certificate is not from.
    _core.make_certificates(tmp_path, [])
    other_ca = starttls.Policy(ca_file=tmp_path / "ca.crt")

    def serve(sock):
        play(sock, SMTP)
        try:
            server_context.wrap_socket(sock, server_side=True)
        except OSError:
            pass

    sock = socket.create_connection(("127.0.0.1", peer(serve).port))
    with sock, pytest.raises(errors.UntrustedError):
        starttls.upgrade("smtp", sock, NAME, policy=other_ca)
    sock = socket.create_connection(("127.0.0.1", peer(serve).port))
    with sock:
        with pytest.raises(errors.NameMismatchError):
            starttls.upgrade("smtp", sock, "other.test", policy=strict)
        with pytest.raises(OSError):
            sock.sendall(b"AUTH PLAIN secret\r\n")


@pytest.mark.parametrize("protocol", ["smtp", "imap", "pop3", "sieve", "lmtp", "submission"])
def test_every_truncation(protocol, peer, strict):
    """The dialog cut off after each of its bytes: always an error, never a hang or a session."""
    script = {
        "smtp": SMTP,
        "submission": SMTP,
        "lmtp": SMTP,
        "imap": [b"* OK hello\r\n", None, b"%s OK go\r\n"],
        "pop3": POP3,
        "sieve": [b'"STARTTLS"\r\nOK "hello"\r\n', None, b'OK "go"\r\n'],
    }[protocol]
    length = sum(len(step) for step in script if step)

    def cut(at):
        def serve(sock):
            left = at
            tag = b""
            for step in script:
                if step is None:
                    tag = line(sock).split()[0]
                    continue
                step = step.replace(b"%s", tag)
                sock.sendall(step[:left])
                left -= len(step)
                if left <= 0:
                    return

        return serve

    for at in range(length):
        with pytest.raises(starttls.Error) as raised:
            connect(protocol, peer(cut(at)), strict)
        assert raised.value.word in ("closed", "malformed"), at


def test_a_server_that_says_nothing(peer, strict):
    silent = peer(lambda sock: sock.recv(1))
    for policy in (strict.derive(timeout=0.2), strict.derive(timeout=0.2, level="may")):
        before = time.monotonic()
        with pytest.raises(TimeoutError, match="greeting"):
            connect("smtp", silent, policy)
        assert time.monotonic() - before < 3


def test_go_ahead_and_then_silence(peer, strict):
    def serve(sock):
        play(sock, SMTP)
        while sock.recv(4096):
            pass

    with pytest.raises(TimeoutError) as raised:
        connect("smtp", peer(serve), strict.derive(timeout=0.3))
    assert raised.value.outcome.transcript[-1].text == "220 go"


def test_one_byte_at_a_time(peer, server_context, strict):
    def serve(sock):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for step in SMTP:
            if step is None:
                line(sock)
                continue
            for byte in step:
                sock.sendall(bytes([byte]))
        server_context.wrap_socket(sock, server_side=True).close()

    connect("smtp", peer(serve), strict).close()


@pytest.mark.parametrize("piece", [b"x" * 65536, b"250-more\r\n" * 6000], ids=["line", "continuations"])
def test_endless(piece, peer, strict):
    sent = 0

    def serve(sock):
        nonlocal sent
        play(sock, EHLO)
        sock.sendall(b"250-")
        while sent < 20_000_000:
            sock.sendall(piece)
            sent += len(piece)

    tracemalloc.start()
    with pytest.raises(errors.TooLongError):
        connect("smtp", peer(serve), strict)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sent < 10_000_000 and most < 5_000_000


def test_the_peers_bytes_are_escaped(peer, strict):
    one = peer(lambda sock: sock.sendall(b"554 \x1b[31m\xff\r\n"))
    with pytest.raises(errors.RefusedError) as raised:
        connect("smtp", one, strict)
    assert r"\x1b[31m\xff" in raised.value.message
    assert raised.value.outcome.transcript[0].text == r"554 \x1b[31m\xff"


def test_a_handshake_cut_half_way(peer, strict):
    def serve(sock):
        play(sock, SMTP)
        sock.recv(4096)
        sock.sendall(b"\x16\x03\x03\x40\x00\x02\x00")

    with pytest.raises(errors.ClosedError):
        connect("smtp", peer(serve), strict)


def test_a_handshake_that_fails_is_an_ssl_error(peer, strict):
    def serve(sock):
        play(sock, SMTP)
        sock.recv(4096)
        sock.sendall(b"\x15\x03\x03\x00\x02\x02\x28")

    with pytest.raises(errors.HandshakeError) as raised:
        connect("smtp", peer(serve), strict)
    assert raised.value.word == "handshake" and raised.value.reason == "HANDSHAKE"


def test_untagged_data_in_the_middle_of_imap_is_harmless(peer, server_context, strict):
    def serve(sock):
        tag = imap_until_starttls(sock, b"* LIST () NIL INBOX\r\n" * 100)
        sock.sendall(tag + b" OK go\r\n")
        server_context.wrap_socket(sock, server_side=True).close()

    with connect("imap", peer(serve), strict) as session:
        assert session.pending() == 0


def test_nothing_is_left_open(peer, strict):
    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    def serve(sock):
        play(sock, [*GO_AHEAD, b"220 go\r\nX"])

    one = peer(serve)
    before = descriptors(), threading.active_count()
    for _ in range(20):
        with pytest.raises(errors.InjectedError):
            connect("smtp", one, strict)
    for _ in range(100):
        if (descriptors(), threading.active_count()) <= before:
            break
        time.sleep(0.02)
    assert descriptors() <= before[0]
