"""A session behaves as a socket."""

import errno
import io
import os
import select
import socket
import ssl
import threading
import time
import weakref

import pytest
import starttls
from peers import NAME, SMTP, echo, line, play, smtp


@pytest.fixture
def session(peer, server_context, strict):
    port = peer(smtp(server_context, echo)).port
    with starttls.connect("smtp", NAME, port, policy=strict) as session:
        yield session


def until(session, n):
    data = b""
    while len(data) < n:
        data += session.recv(n - len(data))
    return data


def test_bytes_go_and_come(session):
    session.sendall(b"one")
    assert until(session, 3) == b"one"
    assert session.send(bytearray(b"two")) == 3
    assert until(session, 3) == b"two"
    session.sendall(memoryview(b"xthreex")[1:-1])
    buffer = bytearray(10)
    assert session.recv_into(buffer, 4) == 4 and bytes(buffer[:4]) == b"thre"
    assert session.recv_into(memoryview(buffer)[4:]) == 1 and bytes(buffer[:5]) == b"three"
    assert session.recv(0) == b""
    session.sendall(b"")


def test_a_record_at_a_time_and_much_more(session):
    data = os.urandom(1_000_003)
    received = []

    def read():
        received.append(until(session, len(data)))

    reader = threading.Thread(target=read)
    reader.start()
    session.sendall(data)
    reader.join(20)
    assert received == [data]
    assert session.send(bytes(100_000)) == 16384
    assert len(session.recv(1 << 20)) <= 16384


def test_wrong_arguments(session):
    with pytest.raises(ValueError):
        session.recv(1, socket.MSG_PEEK)
    with pytest.raises((ValueError, OverflowError)):
        session.recv(-1)
    with pytest.raises(ValueError):
        session.recv_into(bytearray(2), 3)
    with pytest.raises(BufferError):
        session.recv_into(b"constant")
    with pytest.raises(TypeError):
        session.sendall("text")
    with pytest.raises(BufferError):
        session.sendall(memoryview(b"abcdef")[::2])
    with pytest.raises(ValueError):
        session.settimeout(-1)
    with pytest.raises(ValueError):
        session.shutdown(7)


def test_what_it_says_of_itself(session, certs):
    assert session.version() in ("TLSv1.2", "TLSv1.3")
    name, protocol, bits = session.cipher()
    assert name == session.outcome.tls.cipher and protocol.startswith("TLS") and bits >= 128
    assert session.getpeername()[0] == "127.0.0.1"
    assert session.getsockname()[1] != session.getpeername()[1]
    assert NAME in repr(session)
    assert weakref.ref(session)() is session
    assert not isinstance(session, (socket.socket, ssl.SSLSocket))
    assert not hasattr(session, "sendfile")


def test_the_certificate_is_as_ssl_has_it(session, certs):
    der = ssl.PEM_cert_to_DER_cert((certs / "good.pem").read_text().partition("-----BEGIN PRIVATE")[0])
    assert session.getpeercert(True) == der
    found = session.getpeercert()
    expected = ssl._ssl._test_decode_cert(str(certs / "good.pem"))
    assert found == expected
    assert ssl.cert_time_to_seconds(found["notAfter"]) > time.time()


def test_a_certificate_that_proves_nothing_is_an_empty_dict(peer, server_context, certs, strict):
    policy = strict.derive(level="encrypt", ca_file=certs / "wrong.pem")
    with starttls.connect("smtp", NAME, peer(smtp(server_context, echo)).port, policy=policy) as session:
        assert session.getpeercert() == {}
        assert session.getpeercert(True)
        assert session.outcome.identity.proven_by is None


def test_channel_binding_is_the_same_at_both_ends(peer, server_context, strict):
    def afterwards(tls):
        tls.sendall(tls.getpeercert(True) or b"none")
        echo(tls)

    with starttls.connect("smtp", NAME, peer(smtp(server_context, afterwards)).port, policy=strict) as session:
        assert len(session.get_channel_binding()) == 32
        assert session.get_channel_binding() == session.get_channel_binding("tls-exporter")
        assert len(session.get_channel_binding("tls-server-end-point")) == 32
        with pytest.raises(starttls.errors.InvalidError):
            session.get_channel_binding("tls-unique")


def test_files_as_the_standard_library_uses_them(session):
    file = session.makefile("rb")
    session.sendall(b"a line\r\nand another\r\n")
    assert file.readline() == b"a line\r\n"
    assert file.readline(100) == b"and another\r\n"
    assert isinstance(file, io.BufferedReader) and file.fileno() == session.fileno()
    with session.makefile("rwb") as both:
        both.write(b"by file\r\n")
        both.flush()
        assert both.readline() == b"by file\r\n"
    with session.makefile("rw", encoding="utf-8", newline="\n") as text:
        text.write("gr\u00fc\u00df\n")
        text.flush()
        assert text.readline() == "gr\u00fc\u00df\n"
    with pytest.raises(ValueError):
        session.makefile("a")
    with pytest.raises(ValueError):
        session.makefile("r", 0)
    # As with a socket, the connection lives as long as its files.
    session.close()
    assert session.fileno() >= 0
    file.close()
    assert session.fileno() == -1
    with pytest.raises(starttls.Error):
        session.makefile("rb")


def test_a_file_can_be_read_again_after_a_time_out(session):
    file = session.makefile("rb", buffering=0)
    session.settimeout(0.05)
    with pytest.raises(TimeoutError):
        file.read(1)
    session.sendall(b"x")
    session.settimeout(10)
    assert file.read(1) == b"x"
    file.close()


def test_time_outs(session):
    assert session.gettimeout() is None
    session.settimeout(0.1)
    assert session.gettimeout() == 0.1
    before = time.monotonic()
    with pytest.raises(starttls.Error) as raised:
        session.recv(1)
    assert 0.05 < time.monotonic() - before < 5
    assert raised.value.word == "timeout" and raised.value.temporary
    assert isinstance(raised.value, TimeoutError)
    session.sendall(b"still fine")
    assert until(session, 10) == b"still fine"


def test_without_waiting(session):
    session.setblocking(False)
    assert session.gettimeout() == 0
    with pytest.raises(ssl.SSLWantReadError):
        session.recv(1)
    assert session.makefile("rb", buffering=0).read(1) is None
    session.sendall(b"x")
    assert select.select([session], [], [], 10)[0]
    got = b""
    while not got:
        # A ticket may come first, which is not data.
        try:
            got = session.recv(1)
        except ssl.SSLWantReadError:
            time.sleep(0.01)
    assert got == b"x"


def test_without_waiting_a_full_socket_is_told(peer, server_context, strict):
    begin = threading.Event()
    sent = bytearray()
    received = bytearray()

    def afterwards(tls):
        begin.wait(20)
        while not received.endswith(b"end"):
            received.extend(tls.recv(65536))
        tls.sendall(b"got it")

    with starttls.connect("smtp", NAME, peer(smtp(server_context, afterwards)).port, policy=strict) as session:
        session.setblocking(False)
        block = os.urandom(16384)
        with pytest.raises(ssl.SSLWantWriteError):
            for _ in range(10_000):
                sent += block[: session.send(block)]
        begin.set()
        # Called again with the same data, as with ssl; nothing is lost and nothing sent twice.
        while True:
            select.select([], [session], [], 10)
            try:
                sent += block[: session.send(block)]
                break
            except ssl.SSLWantWriteError:
                continue
        session.setblocking(True)
        session.sendall(b"end")
        assert until(session, 6) == b"got it"
    assert received == sent + b"end"


def test_pending_is_what_needs_no_waiting(session):
    session.sendall(b"12345")
    assert session.recv(1) == b"1"
    while session.pending() == 0 and not select.select([session], [], [], 0.2)[0]:
        pass
    assert until(session, 4) == b"2345"
    assert session.pending() == 0


def test_family_type_and_proto_stay(session):
    def what():
        return session.family, session.type, session.proto

    before = what()
    assert before == (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    session.close()
    assert what() == before
    assert [type(one) for one in what()] == [socket.AddressFamily, socket.SocketKind, int]


def test_closed(session):
    session.close()
    session.close()
    assert session.fileno() == -1
    assert "closed" in repr(session)
    assert session.outcome.encrypted
    for call in (lambda: session.recv(1), lambda: session.sendall(b"x"), session.version, session.getpeername):
        with pytest.raises(starttls.Error) as raised:
            call()
        assert raised.value.word == "invalid" and raised.value.errno == errno.EBADF


def test_the_peer_hears_close_notify(peer, server_context, strict):
    heard = []

    def afterwards(tls):
        # With suppress_ragged_eofs=False an end without close_notify would raise.
        heard.append(tls.recv(1))

    def serve(sock):
        play(sock, SMTP)
        with server_context.wrap_socket(sock, server_side=True, suppress_ragged_eofs=False) as tls:
            afterwards(tls)

    one = peer(serve)
    starttls.connect("smtp", NAME, one.port, policy=strict).close()
    one.end()
    assert heard == [b""]


def test_an_end_without_close_notify_is_not_a_clean_one(peer, server_context, strict):
    def serve(sock):
        play(sock, SMTP)
        tls = server_context.wrap_socket(sock, server_side=True)
        tls.sendall(b"half")
        os.close(tls.detach())

    with starttls.connect("smtp", NAME, peer(serve).port, policy=strict) as session:
        assert until(session, 4) == b"half"
        with pytest.raises(ConnectionError) as raised:
            session.recv(1)
        assert raised.value.word == "closed"


def test_a_clean_end(peer, server_context, strict):
    def afterwards(tls):
        tls.sendall(b"all")
        tls.unwrap()

    with starttls.connect("smtp", NAME, peer(smtp(server_context, afterwards)).port, policy=strict) as session:
        assert until(session, 3) == b"all"
        assert session.recv(10) == b""
        assert session.recv(10) == b""


def test_closing_after_the_peer_is_gone_does_not_raise(peer, server_context, strict):
    def serve(sock):
        play(sock, SMTP)
        tls = server_context.wrap_socket(sock, server_side=True)
        tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        os.close(tls.detach())

    session = starttls.connect("smtp", NAME, peer(serve).port, policy=strict)
    time.sleep(0.1)
    session.close()


def test_shutdown(session):
    session.shutdown(socket.SHUT_WR)
    # The peer has heard the end and answers it; reading went on.
    assert session.recv(1) == b""
    # As with a socket: imaplib and poplib look at errno.
    with pytest.raises(OSError) as raised:
        session.shutdown(socket.SHUT_RDWR)
    assert raised.value.errno == errno.ENOTCONN


def test_unwrap_gives_the_plain_socket_back(peer, server_context, strict):
    def serve(sock):
        play(sock, SMTP)
        tls = server_context.wrap_socket(sock, server_side=True)
        assert line(tls) == b"over\r\n"
        plain = tls.unwrap()
        plain.sendall(b"in clear again\r\n")
        assert line(plain) == b"thanks\r\n"
        plain.close()

    port = peer(serve).port
    for borrowed in (False, True):
        if borrowed:
            sock = socket.create_connection(("127.0.0.1", port), 10)
            session = starttls.upgrade("smtp", sock, NAME, policy=strict)
        else:
            session = starttls.connect("smtp", NAME, port, policy=strict)
        session.sendall(b"over\r\n")
        plain = session.unwrap()
        assert session.fileno() == -1
        assert not borrowed or plain is sock
        with plain:
            assert line(plain) == b"in clear again\r\n"
            plain.sendall(b"thanks\r\n")


def test_unwrap_on_a_plain_session_is_refused(peer, strict):
    def serve(sock):
        sock.recv(1)

    with starttls.connect("smtp", NAME, peer(serve).port, policy=strict.derive(level="none")) as session:
        with pytest.raises(ValueError):
            session.unwrap()


def test_a_plain_session(peer, strict):
    def serve(sock):
        play(sock, [b"220 plain\r\n", None, b"502 what\r\n", None, b"250 mail.example.test\r\n"])
        assert line(sock) == b"NOOP\r\n"
        sock.sendall(b"250 ok\r\n")
        assert sock.recv(1) == b""

    with starttls.connect("smtp", NAME, peer(serve).port, policy=strict.derive(level="may")) as session:
        outcome = session.outcome
        assert (outcome.channel, outcome.because, outcome.encrypted) == ("plain", "not-offered", False)
        assert outcome.suspicions == ("EHLO refused",)
        assert session.version() is None and session.cipher() is None and session.getpeercert() is None
        assert session.getpeercert(True) is None
        assert session.heard().startswith(b"220 plain\r\n")
        with pytest.raises(starttls.errors.InvalidError):
            session.get_channel_binding()
        session.setblocking(False)
        with pytest.raises(BlockingIOError):
            session.recv(1)
        session.setblocking(True)
        session.sendall(b"NOOP\r\n")
        assert until(session, 8) == b"250 ok\r\n"
        assert "in clear" in repr(session)
