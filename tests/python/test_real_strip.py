"""Between the client and a real server sits a box that takes the offer of TLS out of what the server says.

Where the level requires TLS the client asks all the same, and such a box is beaten. What a box can still do is to
say no in the server's place: that is an error, never a session in clear.
"""

import contextlib
import select
import socket

import pytest
import starttls
from peers import Peer
from real import IN_BAND, ports
from starttls import errors

XMPP = b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>"


def overwrite(data):
    return data.replace(b"250-STARTTLS", b"250-XXXXXXXA").replace(b"250 STARTTLS", b"250 XXXXXXXA")


def no_ssl_flag(data):
    """CLIENT_SSL, in the flags behind the server's version, the connection's id and the scramble."""
    at = data.index(b"\0", 5) + 15
    return data[:at] + bytes([data[at] & ~8]) + data[at + 1 :]


# The protocols whose servers advertise TLS.
STRIPS = {
    "smtp": overwrite,
    "submission": overwrite,
    "lmtp": overwrite,
    "imap": lambda data: data.replace(b" STARTTLS", b""),
    "pop3": lambda data: data.replace(b"STLS\r\n", b""),
    "sieve": lambda data: data.replace(b'"STARTTLS"\r\n', b""),
    "nntp": lambda data: data.replace(b"STARTTLS\r\n", b""),
    "xmpp": lambda data: data.replace(XMPP, b""),
    "xmpp-server": lambda data: data.replace(XMPP, b""),
    "mysql": no_ssl_flag,
}
# The others' do not: the client just asks. What a box says no with.
NOES = {
    "irc": b":irc.example.test 421 * STARTTLS :Unknown command\r\n",
    "ftp": b"500 unknown command\r\n",
    "http": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "ldap": bytes.fromhex("300c02010178070a010204000400"),
    "postgres": b"N",
    "telnet": b"\xff\xfe\x2e",
}


class Box(Peer):
    """Goes between, and rewrites what the server says until TLS begins."""

    def __init__(self, server, rewrite):
        self._server = server
        self._rewrite = rewrite
        self.stripped = False
        super().__init__(self._between)

    def _between(self, client):
        with socket.create_connection(("127.0.0.1", self._server), 10) as server:
            other = {client: server, server: client}
            clear = True
            while True:
                for sock in select.select(list(other), [], [], 20)[0]:
                    data = sock.recv(65536)
                    if not data:
                        return
                    # A record of a handshake: MySQL's comes behind its request.
                    clear = clear and b"\x16\x03\x01" not in data
                    if sock is server and clear:
                        rewritten = self._rewrite(data)
                        self.stripped |= rewritten != data
                        data = rewritten
                    with contextlib.suppress(ConnectionError):
                        other[sock].sendall(data)


def by_the_box(port, rewrite, servers, level, check):
    box = Box(port.number, rewrite)
    try:
        policy = servers.policy(level, address="127.0.0.1")
        with starttls.connect(port.word, port.host, box.port, policy=policy) as session:
            check(session.outcome)
    finally:
        box.end()
    return box.stripped


def test_every_protocol_is_stripped_or_has_no_offer():
    assert set(STRIPS) | set(NOES) == set(IN_BAND) and not set(STRIPS) & set(NOES)


@pytest.mark.parametrize("port", [port for port in ports("") if port.word in STRIPS], ids=str)
def test_a_box_that_strips_the_offer_is_beaten(port, servers):
    def proven(outcome):
        assert outcome.encrypted and outcome.identity.proven_by == "pkix"
        assert not outcome.offered

    def plain(outcome):
        assert outcome.channel == "plain" and outcome.because == "not-offered" and outcome.offered is False

    for level in ("strict", "encrypt", "verify"):
        stripped = by_the_box(port, STRIPS[port.word], servers, level, proven)
        # These do not ask for the offer where the level requires TLS.
        assert stripped == (port.word not in ("pop3", "nntp"))
    # The same box, and a client that goes on in clear: there was something to strip.
    assert by_the_box(port, STRIPS[port.word], servers, "may", plain)


@pytest.mark.parametrize("port", [port for port in ports("") if port.word in ("smtp", "submission", "lmtp")], ids=str)
def test_an_offer_that_was_overwritten_is_told(port, servers):
    def told(outcome):
        assert outcome.suspicions == ("capability overwritten: XXXXXXXA",)

    assert by_the_box(port, overwrite, servers, "strict", told)


@pytest.mark.parametrize("port", [port for port in ports("") if port.word in NOES], ids=str)
def test_a_box_that_says_no_gets_nothing(port, servers):
    def say_no(data):
        return data if data.startswith(b"220") else NOES[port.word]

    for level in ("strict", "encrypt"):
        with pytest.raises(errors.NotOfferedError):
            by_the_box(port, say_no, servers, level, pytest.fail)
