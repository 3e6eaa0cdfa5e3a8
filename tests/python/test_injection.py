"""CVE-2011-0411 with real bytes: what a client, or somebody in front of it, sends in clear behind the upgrade
command is never answered, neither in clear nor inside TLS. Every protocol of the table."""

import contextlib
import socket
import ssl
import time

import pytest
import starttls
from daemon import IMPLICIT, SPEAK, Daemon
from plays import PLAYS
from real import IN_BAND


@pytest.fixture(scope="module")
def policy(certs):
    return starttls.Policy("encrypt", server_cert=certs / "good.pem", timeout=10)


@pytest.fixture(scope="module")
def context(certs):
    return ssl.create_default_context(cafile=certs / "ca.crt")


def test_every_protocol_is_played():
    assert list(PLAYS) == list(SPEAK) == IN_BAND


@contextlib.contextmanager
def at_the_command(word, policy):
    """A server, and a client of it that has come to its upgrade command."""
    daemon = Daemon(word, policy)
    with socket.create_connection(("127.0.0.1", daemon.port), 10) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        heard = b""
        for wanted, said in PLAYS[word].before:
            while wanted not in heard:
                data = client.recv(4096)
                assert data, heard
                heard += data
            client.sendall(said)
        yield daemon, client
    daemon.end()


def rest(client):
    """All that still comes."""
    text = b""
    with contextlib.suppress(ConnectionError):
        while data := client.recv(4096):
            text += data
    return text


@pytest.mark.parametrize("word", PLAYS)
def test_what_is_said_inside_is_answered(word, policy, context):
    """The other tests can fail."""
    play = PLAYS[word]
    with at_the_command(word, policy) as (daemon, client):
        client.sendall(play.command)
        if play.go_ahead:
            assert client.recv(4096).startswith(play.go_ahead)
        with context.wrap_socket(client, server_hostname="localhost") as tls:
            tls.sendall(play.more)
            heard = b""
            while play.answer not in heard:
                heard += tls.recv(4096) or pytest.fail(f"closed after {heard!r}")
            tls.sendall(play.bye)
            with contextlib.suppress(OSError):
                tls.unwrap()
    assert play.more.strip() in daemon.inside() and not daemon.errors and len(daemon.sessions) == 1


@pytest.mark.parametrize("word", PLAYS)
def test_pipelined_in_the_same_segment(word, policy):
    play = PLAYS[word]
    with at_the_command(word, policy) as (daemon, client):
        client.sendall(play.command + play.more)
        # Not even the go-ahead comes: it is closed, and there is no TLS in which it could be answered.
        assert rest(client) == b""
    assert daemon.errors == ["injected"] and not daemon.sessions and not daemon.inside()


@pytest.mark.parametrize("word", PLAYS)
@pytest.mark.parametrize("pause", [0, 0.05])
def test_pipelined_in_the_next_segment(word, pause, policy, context):
    """Where the server cannot have seen it before it gave the go-ahead, it stands where TLS begins."""
    play = PLAYS[word]
    with at_the_command(word, policy) as (daemon, client):
        client.sendall(play.command)
        time.sleep(pause)
        with contextlib.suppress(ConnectionError):
            client.sendall(play.more)
        # A client that knows nothing of what was put in front of its ClientHello.
        go_ahead = b""
        with contextlib.suppress(ConnectionError):
            go_ahead = client.recv(4096) if play.go_ahead else b""
        assert go_ahead == b"" or go_ahead.startswith(play.go_ahead)
        assert play.answer not in go_ahead
        with pytest.raises(OSError):
            with context.wrap_socket(client, server_hostname="localhost") as tls:
                tls.recv(1)
    assert daemon.errors == ["injected"] and not daemon.sessions and not daemon.inside()


@pytest.mark.parametrize("word", IMPLICIT)
def test_in_clear_where_tls_comes_first(word, policy):
    play = PLAYS[IMPLICIT[word]]
    daemon = Daemon(word, policy)
    with socket.create_connection(("127.0.0.1", daemon.port), 10) as client:
        client.sendall(play.command + play.more)
        # An alert may say that it is no TLS.
        assert rest(client)[:1] in (b"", b"\x15")
    daemon.end()
    assert len(daemon.errors) == 1 and not daemon.sessions and not daemon.inside()
