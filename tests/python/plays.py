"""What a client says to the servers of `daemon.py`, raw: up to the upgrade command, and behind it."""

from dataclasses import dataclass

from daemon import MYSQL_CAPABILITIES, packet, tlv


@dataclass(frozen=True)
class Play:
    before: tuple[tuple[bytes, bytes], ...]
    """What to wait for, and what to say then."""
    command: bytes
    """Asks for the upgrade."""
    go_ahead: bytes
    more: bytes
    """Makes sense inside TLS, and in clear to a server that does not heed where it came."""
    answer: bytes
    """To that."""
    bye: bytes = b"QUIT\r\n"


HELLO = ((b"220 mail.example.test ready\r\n", b"EHLO me\r\n"), (b"250 STARTTLS\r\n", b""))
SMTP = Play(HELLO, b"STARTTLS\r\n", b"220 ", b"NOOP marker\r\n", b"250 marker\r\n")
STREAM = b"<stream:stream to='mail.example.test' version='1.0' xmlns='jabber:client'"
STREAM += b" xmlns:stream='http://etherx.jabber.org/streams'>"
XMPP = Play(
    ((b"", STREAM), (b"</stream:features>", b"")),
    b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
    b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
    STREAM,
    b"<mechanisms",
    b"</stream:stream>",
)
# Capabilities, the longest packet, a character set, and who is there: user "marker".
LOGIN = (MYSQL_CAPABILITIES & ~8).to_bytes(4, "little") + b"\0\0\0\1\x2d" + bytes(23)
RESPONSE = packet(2, LOGIN + b"marker\0\0mysql_native_password\0")
STARTUP = b"\0\3\0\0user\0marker\0\0"

PLAYS = {
    "smtp": SMTP,
    "submission": SMTP,
    "lmtp": SMTP,
    "imap": Play(
        ((b"ready\r\n", b""),), b"a1 STARTTLS\r\n", b"a1 OK", b"a2 NOOP marker\r\n", b"a2 OK marker", b"a3 LOGOUT\r\n"
    ),
    "pop3": Play(((b"ready\r\n", b""),), b"STLS\r\n", b"+OK", b"NOOP marker\r\n", b"+OK marker"),
    "sieve": Play(
        ((b'OK "ready"\r\n', b""),), b"STARTTLS\r\n", b"OK ", b"NOOP marker\r\n", b"OK marker", b"LOGOUT\r\n"
    ),
    "nntp": Play(((b"200 ready\r\n", b""),), b"STARTTLS\r\n", b"382 ", b"GROUP marker\r\n", b"411 marker"),
    "xmpp": XMPP,
    "xmpp-server": XMPP,
    "irc": Play((), b"STARTTLS\r\n", b":localhost 670 ", b"PING marker\r\n", b"PONG irc.example.test :marker"),
    "ftp": Play(((b"220 ready\r\n", b""),), b"AUTH TLS\r\n", b"234 ", b"PROT marker\r\n", b"200 marker"),
    "http": Play(
        (),
        b"OPTIONS /first HTTP/1.1\r\nHost: a\r\nUpgrade: TLS/1.0\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 101 ",
        b"GET /marker HTTP/1.1\r\nHost: a\r\n\r\n",
        b"/marker",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ),
    "ldap": Play(
        (),
        tlv(0x30, tlv(2, b"\1"), tlv(0x77, tlv(0x80, b"1.3.6.1.4.1.1466.20037"))),
        b"\x30",
        # A bind as "marker".
        tlv(0x30, tlv(2, b"\2"), tlv(0x60, tlv(2, b"\3"), tlv(4, b"marker"), tlv(0x80))),
        b"\2\1\2\x61\7\x0a\1\0",
        tlv(0x30, tlv(2, b"\3"), tlv(0x42)),
    ),
    "postgres": Play(
        (),
        b"\0\0\0\x08\x04\xd2\x16\x2f",
        b"S",
        (len(STARTUP) + 4).to_bytes(4) + STARTUP,
        b"R\0\0\0\x08\0\0\0\0",
        b"X\0\0\0\4",
    ),
    "mysql": Play(
        ((b"mysql_native_password\0", b""),),
        packet(1, (MYSQL_CAPABILITIES & ~8).to_bytes(4, "little") + b"\0\0\0\1\x2d" + bytes(23)),
        b"",
        RESPONSE,
        packet(3, b"\0\0\0\2\0\0\0"),
        packet(0, b"\1"),
    ),
    "telnet": Play(
        ((b"\xff\xfd\x2e", b""),),
        b"\xff\xfb\x2e\xff\xfa\x2e\1\xff\xf0",
        b"\xff\xfa\x2e\1\xff\xf0",
        b"marker\r\n",
        b"hello marker",
        b"",
    ),
}
