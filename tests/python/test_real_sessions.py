"""Real servers: what is said once the session is there, inside TLS, or in clear where a server has none.

The servers look at each other's work: what they answer inside TLS shows that the upgrade was whole, that the
data connections are protected as they demand, and that keying material is the same at both ends.
"""

import base64
import contextlib
import hashlib
import hmac
import re
import socket
import struct
import uuid

import pytest
import starttls
from daemon import packet, tlv
from plays import LOGIN, STREAM
from real import HOST, NOBODY, WORDS, Talk, ports


def smtp(talk, port, servers):
    talk.say("LHLO me.example.test\r\n" if port.word == "lmtp" else "EHLO me.example.test\r\n")
    lines = [talk.line()]
    while lines[-1][3:4] == b"-":
        lines.append(talk.line())
    assert lines[-1].startswith(b"250 ") and b"STARTTLS" not in b"".join(lines)
    if port.word != "lmtp" and b"AUTH" in b"".join(lines):
        login = base64.b64encode(f"\0{servers.user}\0{servers.password}".encode()).decode()
        assert talk.reply(f"AUTH PLAIN {login}").startswith(b"235 ")
    assert talk.reply("QUIT").startswith(b"221 ")


def imap(talk, port, servers):
    if port.word == "imaps":
        talk.line()
    talk.say("a CAPABILITY\r\n")
    assert b"STARTTLS" not in talk.hear("a OK ")
    talk.line()
    talk.say(f"b LOGIN {servers.user} {servers.password}\r\n")
    talk.hear("b OK ")
    talk.line()
    talk.say("c LOGOUT\r\n")
    talk.hear("c OK ")


def pop3(talk, port, servers):
    if port.word == "pop3s":
        talk.line()
    for command in (f"USER {servers.user}", f"PASS {servers.password}", "STAT", "QUIT"):
        assert talk.reply(command).startswith(b"+OK")


def sieve(talk, port, servers):
    if talk.session.outcome.encrypted:
        # Its capabilities again, without being asked.
        assert b"STARTTLS" not in talk.hear("\nOK ")
        talk.line()
    login = base64.b64encode(f"\0{servers.user}\0{servers.password}".encode()).decode()
    assert talk.reply(f'AUTHENTICATE "PLAIN" "{login}"').startswith(b"OK")
    assert talk.reply("LOGOUT").startswith(b"OK")


def nntp(talk, port, servers):
    if port.word == "nntps":
        talk.line()
    talk.say("CAPABILITIES\r\n")
    assert b"STARTTLS" not in talk.hear("\r\n.\r\n")
    assert talk.reply("GROUP example.test").startswith(b"211 ")
    assert talk.reply("QUIT").startswith(b"205 ")


def xmpp(talk, port, servers):
    talk.say(STREAM.replace(b"client", b"server" if "server" in port.word else b"client"))
    assert b"xmpp-tls" not in talk.hear("</stream:features>")
    if "server" not in port.word:
        login = base64.b64encode(f"\0{servers.user}\0{servers.password}".encode()).decode()
        talk.say(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{login}</auth>")
        assert talk.hear("/>").startswith(b"<success ")
    else:
        talk.say("</stream:stream>")
        talk.hear("</stream:stream>")


def irc(talk, port, servers):
    name = "n" + uuid.uuid4().hex[:8]
    talk.say(f"NICK {name}\r\nUSER {name} 0 * :{name}\r\n")
    assert b"irc.example.test" in talk.hear(f" 001 {name} ")
    talk.say("QUIT\r\n")
    talk.hear("ERROR ")


@contextlib.contextmanager
def data_connection(talk, command):
    """One that the server accepts for this command: protected by the session, unless that is in clear."""
    numbers = re.search(rb"\(([\d,]+)\)", talk.reply("PASV"))[1].split(b",")
    with socket.create_connection(("127.0.0.1", int(numbers[4]) << 8 | int(numbers[5])), 20) as sock:
        talk.say(command + "\r\n")
        assert talk.line().startswith(b"150 ")
        if not talk.session.outcome.encrypted:
            yield sock
        else:
            with talk.session.protect(sock) as data:
                assert data.outcome.identity.proven_by == "pkix"
                yield data
    assert talk.line().startswith(b"226 ")


def ftp(talk, port, servers):
    if port.word == "ftps":
        assert talk.line().startswith(b"220 ")
    assert talk.reply("USER anonymous")[:3] in (b"331", b"230")
    talk.reply("PASS me@example.test")
    if talk.session.outcome.encrypted:
        assert talk.reply("PBSZ 0").startswith(b"200 ") and talk.reply("PROT P").startswith(b"200 ")
    for command, wanted in (("RETR hello.txt", b"hello from vsftpd\n"), ("LIST", b"hello.txt")):
        with data_connection(talk, command) as data:
            heard = b""
            while more := data.recv(4096):
                heard += more
        assert wanted in heard
    name, content = f"incoming/{uuid.uuid4().hex}", b"x" * 100_000
    with data_connection(talk, f"STOR {name}") as data:
        data.sendall(content)
    assert talk.reply(f"SIZE {name}").startswith(b"550 ") or talk.reply(f"SIZE {name}") == b"213 100000\r\n"
    assert talk.reply("QUIT").startswith(b"221 ")


def http(talk, port, servers):
    """Each request has its own answer: that to the OPTIONS which asked for TLS was read away."""
    for request, status in (("OPTIONS *", b"200"), ("GET /none", b"404")):
        talk.say(f"{request} HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = talk.hear("\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 " + status), head
        size = re.search(rb"(?i)content-length: (\d+)", head)
        talk.take(int(size[1]) if size else 0)


def ldap(talk, port, servers):
    name, password = b"cn=alice,dc=example,dc=test", servers.password.encode()
    talk.say(tlv(0x30, tlv(2, b"\2"), tlv(0x60, tlv(2, b"\3"), tlv(4, name), tlv(0x80, password))))
    assert talk.take(14) == bytes.fromhex("300c02010261070a010004000400")
    # The root DSE.
    scope = tlv(4) + tlv(0x0A, b"\0") * 2 + tlv(2, b"\0") * 2 + tlv(1, b"\0")
    talk.say(tlv(0x30, tlv(2, b"\3"), tlv(0x63, scope, tlv(0x87, b"objectClass"), tlv(0x30))))
    assert b"OpenLDAProotDSE" in talk.hear(bytes.fromhex("300c02010365070a010004000400"))
    talk.say(tlv(0x30, tlv(2, b"\4"), tlv(0x42)))


def postgres(talk, port, servers):
    def say(kind, content):
        talk.say(kind + struct.pack("!i", len(content) + 4) + content)

    def hear():
        kind, size = struct.unpack("!ci", talk.take(5))
        content = talk.take(size - 4)
        assert kind != b"E", content
        return kind, content

    say(b"", b"\0\3\0\0user\0" + servers.user.encode() + b"\0database\0postgres\0\0")
    kind, mechanisms = hear()
    assert kind == b"R" and mechanisms.startswith(b"\0\0\0\x0a")
    # SCRAM (RFC 5802), over TLS bound to the server's certificate (RFC 5929): both ends have the same.
    plus, header, binding = b"", b"n,,", b""
    if talk.session.outcome.encrypted:
        assert b"SCRAM-SHA-256-PLUS\0" in mechanisms
        plus, header = b"-PLUS", b"p=tls-server-end-point,,"
        binding = talk.session.get_channel_binding("tls-server-end-point")
    nonce = uuid.uuid4().hex.encode()
    first = b"n=,r=" + nonce
    say(b"p", b"SCRAM-SHA-256" + plus + b"\0" + struct.pack("!i", len(header + first)) + header + first)
    challenge = hear()[1][4:]
    parts = dict(part.split(b"=", 1) for part in challenge.split(b","))
    salted = hashlib.pbkdf2_hmac("sha256", servers.password.encode(), base64.b64decode(parts[b"s"]), int(parts[b"i"]))
    final = b"c=" + base64.b64encode(header + binding) + b",r=" + parts[b"r"]
    key = hmac.digest(salted, b"Client Key", "sha256")
    signature = hmac.digest(hashlib.sha256(key).digest(), b",".join([first, challenge, final]), "sha256")
    proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
    say(b"p", final + b",p=" + base64.b64encode(proof))
    while hear()[0] != b"Z":
        pass
    say(b"Q", b"SELECT 1, (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid())\0")
    rows = []
    while (heard := hear())[0] != b"Z":
        rows += [heard[1]] if heard[0] == b"D" else []
    truth = b"t" if talk.session.outcome.encrypted else b"f"
    assert rows == [b"\0\2\0\0\0\x011\0\0\0\1" + truth]
    say(b"X", b"")


def mysql(talk, port, servers):
    def hear():
        head = talk.take(4)
        return head[3], talk.take(int.from_bytes(head[:3], "little"))

    # The only thing said in clear that is of use afterwards.
    greeting = talk.session.heard()
    _, _, behind = greeting[5:].partition(b"\0")
    scramble = behind[4:12] + behind[31:43]
    once = hashlib.sha1(servers.password.encode()).digest()
    twice = hashlib.sha1(scramble + hashlib.sha1(once).digest()).digest()
    token = bytes(a ^ b for a, b in zip(once, twice, strict=True))
    encrypted = talk.session.outcome.encrypted
    # Without CLIENT_SSL where there is none.
    login = LOGIN if encrypted else bytes([LOGIN[0], LOGIN[1] & ~8]) + LOGIN[2:]
    response = login + servers.user.encode() + b"\0\x14" + token + b"mysql_native_password\0"
    talk.say(packet(2 if encrypted else 1, response))
    sequence, answer = hear()
    assert (sequence, answer[:1]) == (3 if encrypted else 2, b"\0"), answer
    for query, wanted in ((b"SELECT 1", b"1"), (b"SHOW STATUS LIKE 'Ssl_cipher'", b"TLS_" if encrypted else b"\0")):
        talk.say(packet(0, b"\3" + query))
        count, ends, rows = hear()[1], 0, b""
        assert count[0] in (1, 2), count
        while ends < 2:
            _, part = hear()
            ends += part[:1] == b"\xfe" and len(part) < 9
            rows += part if ends == 1 else b""
        assert wanted in rows, rows
    talk.say(packet(0, b"\1"))


SESSIONS = {
    "smtp": smtp,
    "submission": smtp,
    "lmtp": smtp,
    "imap": imap,
    "pop3": pop3,
    "sieve": sieve,
    "nntp": nntp,
    "xmpp": xmpp,
    "xmpp-server": xmpp,
    "irc": irc,
    "ftp": ftp,
    "http": http,
    "ldap": ldap,
    "postgres": postgres,
    "mysql": mysql,
}
for _row in starttls._core.protocols():
    if _row[2] and _row[0] in SESSIONS:
        SESSIONS[_row[2]] = SESSIONS[_row[0]]


def test_every_protocol_is_spoken():
    assert set(SESSIONS) | set(NOBODY) == set(WORDS)


@pytest.mark.parametrize("port", ports("", "reuse"), ids=str)
def test_inside_tls(port, servers):
    policy = servers.policy(address="127.0.0.1")
    with starttls.connect(port.word, port.host, port.number, policy=policy) as session:
        assert session.outcome.identity.name == port.host
        talk = Talk(session)
        if port.word in ("smtps", "submissions"):
            assert talk.line().startswith(b"220 ")
        SESSIONS[port.word](talk, port, servers)


@pytest.mark.parametrize("port", ports("no-tls"), ids=str)
def test_in_clear(port, servers):
    """What the policy `may` goes on with is as good as a session in clear can be."""
    policy = servers.policy("may", address="127.0.0.1")
    with starttls.connect(port.word, port.host, port.number, policy=policy) as session:
        assert session.outcome.because == "not-offered"
        SESSIONS[port.word](Talk(session), port, servers)


def test_a_data_connection_must_resume(servers):
    """The server of `ftp-reuse` turns away what does not: the other test shows something."""
    policy = servers.policy(address="127.0.0.1")
    with starttls.connect("ftp", HOST, servers.port("vsftpd", "ftp-reuse"), policy=policy) as session:
        talk = Talk(session)
        for command in ("USER anonymous", "PASS me", "PBSZ 0", "PROT P"):
            talk.reply(command)
        numbers = re.search(rb"\(([\d,]+)\)", talk.reply("PASV"))[1].split(b",")
        with socket.create_connection(("127.0.0.1", int(numbers[4]) << 8 | int(numbers[5])), 20) as sock:
            talk.say("RETR hello.txt\r\n")
            talk.line()
            other = servers.policy(address="127.0.0.1")
            with (
                contextlib.suppress(starttls.Error),
                starttls.upgrade("ftp", sock, HOST, "go-ahead", policy=other) as s,
            ):
                s.recv(1)
        assert talk.line().startswith(b"522 ")
