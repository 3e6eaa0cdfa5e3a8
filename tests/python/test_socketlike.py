"""What scripts do to a socket beyond reading and writing, and the ends that a reader must tell apart."""

import gc
import os
import shutil
import socket
import ssl
import struct
import subprocess
import warnings
import weakref

import pytest
import starttls
from peers import NAME, SMTP, echo, how_it_ends, line, play, smtp
from starttls import errors


@pytest.fixture
def session(peer, server_context, strict):
    port = peer(smtp(server_context, echo)).port
    with starttls.connect("smtp", NAME, port, policy=strict) as session:
        session.settimeout(10)
        yield session


def test_truth_values_and_none(session):
    session.setblocking(0)
    assert session.gettimeout() == 0 and session.getblocking() is False
    session.setblocking(1)
    assert session.gettimeout() is None and session.getblocking() is True
    assert session.getpeercert(1) == session.getpeercert(True)
    assert session.getpeercert(0) == session.getpeercert() != session.getpeercert(1)
    session.sendall(b"x")
    assert session.recv_into(bytearray(4), None) == 1


def test_sizes_are_not_negative(session):
    with pytest.raises(ValueError):
        session.recv(-1)
    with pytest.raises(ValueError):
        session.recv_into(bytearray(1), -1)


def test_a_very_short_time_is_not_none_at_all(session):
    session.settimeout(1e-12)
    assert session.gettimeout() > 0 and session.getblocking()
    with pytest.raises(TimeoutError):
        session.recv(1)


def test_options_and_kind(session, peer, server_context, strict):
    port = peer(smtp(server_context, echo)).port
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        for one in (session, starttls.upgrade("smtp", sock, NAME, policy=strict)):
            before = len(os.listdir("/proc/self/fd"))
            one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            assert one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert one.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == bytes(8)
            assert (one.family, one.type) == (socket.AF_INET, socket.SOCK_STREAM)
            assert one.proto in (0, socket.IPPROTO_TCP)
            with pytest.raises(OSError):
                one.getsockopt(socket.SOL_SOCKET, -1)
            # Fewer is the peer, whose thread may just close its listener.
            assert len(os.listdir("/proc/self/fd")) <= before
            one.close()
            with pytest.raises(errors.InvalidError):
                one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


@pytest.mark.parametrize(("mode", "raw"), [("rb", "rb"), ("wb", "wb")])
def test_files_say_their_mode(session, mode, raw):
    with session.makefile(mode) as file:
        assert file.mode == raw
    with session.makefile(mode, buffering=0) as file:
        assert file.mode == raw


def after_handshake(server_context, end):
    def serve(sock):
        play(sock, SMTP)
        end(server_context.wrap_socket(sock, server_side=True))

    return serve


def close_without_a_word(tls):
    tls.sendall(b"x")
    os.close(tls.detach())


def reset(tls):
    tls.sendall(b"x")
    assert tls.recv(1) == b"y"
    tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(tls.detach())


@pytest.mark.parametrize("how", ["context", "stdlib"])
def test_only_an_end_without_close_notify_reads_as_an_end(how, peer, server_context, strict):
    def adopt(end):
        port = peer(after_handshake(server_context, end)).port
        if how == "stdlib":
            session = starttls.connect("smtp", NAME, port, policy=strict, timeout=5)
            session._as_stream(b"")
        else:
            sock = socket.create_connection(("127.0.0.1", port), 5)
            line(sock)
            sock.sendall(b"EHLO me\r\n")
            line(sock)
            line(sock)
            sock.sendall(b"STARTTLS\r\n")
            line(sock)
            session = starttls.Context(strict).wrap_socket(sock, server_hostname=NAME)
        session.settimeout(5)
        assert session.recv(1) == b"x"
        return session

    with adopt(close_without_a_word) as session:
        assert session.recv(1) == b""
    with adopt(reset) as session:
        session.sendall(b"y")
        with pytest.raises(ConnectionError):
            session.recv(1)


def test_a_fatal_alert_is_not_an_end(peer, certs, strict):
    # A server that asks for a certificate: with TLS 1.3 the client hears of it when it reads.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs / "good.pem")
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certs / "ca.crt")
    port = peer(lambda sock: context.wrap_socket(sock, server_side=True)).port
    sock = socket.create_connection(("127.0.0.1", port), 5)
    with starttls.Context(strict).wrap_socket(sock, server_hostname=NAME) as session:
        with pytest.raises(errors.ClosedError, match="alert"):
            session.recv(1)


def test_what_unwrap_meets_is_kept_for_recv(peer, server_context, strict):
    def serve(tls):
        assert tls.recv(1) == b"x"
        tls.sendall(b"unread")
        echo(tls)

    with starttls.connect("smtp", NAME, peer(smtp(server_context, serve)).port, policy=strict) as session:
        session.settimeout(5)
        session.sendall(b"x")
        for _ in range(2):
            with pytest.raises(errors.InvalidError, match="not read"):
                session.unwrap()
        got = b""
        while len(got) < 6:
            got += session.recv(10)
        assert got == b"unread"
        session.unwrap().close()


def test_a_circle_of_socket_and_session_is_collected(peer, server_context, strict):
    class Socket(socket.socket):
        pass

    port = peer(smtp(server_context, echo)).port
    sock = Socket()
    sock.connect(("127.0.0.1", port))
    sock.session = starttls.upgrade("smtp", sock, NAME, policy=strict)
    seen = weakref.ref(sock), weakref.ref(sock.session)
    fds = sock.fileno(), sock.session.fileno()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del sock
        gc.collect()
    assert seen[0]() is None and seen[1]() is None
    for fd in fds:
        with pytest.raises(OSError):
            os.fstat(fd)


def test_alternative_names_are_as_ssl_has_them(peer, tmp_path, strict):
    if not shutil.which("openssl"):
        pytest.skip("no command openssl")
    config = tmp_path / "config"
    config.write_text(
        "[req]\ndistinguished_name = dn\nx509_extensions = ext\nprompt = no\n[dn]\nCN = somebody\n"
        "[ext]\nsubjectAltName = DNS:a.test, IP:2001:db8::1, IP:192.0.2.1, dirName:dir, email:a@a.test\n"
        "[dir]\nC = DE\nO = Nobody\n"
    )
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-config", str(config), "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    policy = starttls.Policy("strict", ca_file=cert, address="127.0.0.1")
    with starttls.connect("smtp", "a.test", peer(smtp(context, echo)).port, policy=policy) as session:
        found = session.getpeercert()["subjectAltName"]
    assert found == ssl._ssl._test_decode_cert(str(cert))["subjectAltName"]
    assert ("IP Address", "2001:DB8:0:0:0:0:0:1") in found


@pytest.mark.parametrize("files", [0, 1])
@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("borrowed", [False, True])
def test_an_exception_ends_it_without_close_notify(borrowed, error, files, peer, exact_context, strict):
    ended = []
    one = peer(how_it_ends(exact_context, ended))
    sock = socket.create_connection(("127.0.0.1", one.port), 10) if borrowed else None
    if sock is None:
        session = starttls.connect("smtp", NAME, one.port, policy=strict)
    else:
        session = starttls.upgrade("smtp", sock, NAME, policy=strict)
    open_files = [session.makefile("rb") for _ in range(files)]
    try:
        with session:
            session.sendall(b"half")
            if error:
                raise error
    except (ValueError, KeyboardInterrupt):
        assert error and session.fileno() == -1
    for file in open_files:
        file.close()
    assert session.fileno() == -1
    if sock is not None:
        assert sock.fileno() >= 0
        if error:
            # Nobody goes on in clear.
            with pytest.raises(OSError):
                sock.sendall(b"x")
        sock.close()
    one.end()
    assert ended == ["ragged" if error else "clean"]
