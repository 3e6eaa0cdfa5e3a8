"""A server for each protocol, built on `starttls.accept`, that says just enough for real clients to use it.

It reads as servers do, all that is there, and hands what it has of the upgrade command and behind it to `accept`.
Before TLS it does next to nothing for anybody.
"""

import socket
import ssl
from collections.abc import Callable

import starttls
from peers import Peer
from starttls import _core

IMPLICIT = {row[2]: row[0] for row in _core.protocols() if row[2]}


class Gone(Exception):
    """The client has closed, or said good-bye."""


class Client:
    """A connection: in clear, and on the session once it has upgraded."""

    def __init__(self, sock: socket.socket, word: str, policy: starttls.Policy, daemon: "Daemon") -> None:
        self.sock = sock
        self.stream: socket.socket | starttls.Session = sock
        self.word = word
        self.policy = policy
        self.daemon = daemon
        self.inside = False
        self._read = b""

    def upgrade(self, command: bytes) -> None:
        """TLS, asked for by this command."""
        session = starttls.accept(self.word, self.sock, command=command + self._read, policy=self.policy)
        self.daemon.sessions.append(session.outcome)
        self.stream, self.inside, self._read = session, True, b""

    def send(self, *texts: bytes) -> None:
        """Each is a line."""
        self.stream.sendall(b"".join(text + b"\r\n" for text in texts))

    def _until(self, found: Callable[[bytes], int]) -> bytes:
        while (end := found(self._read)) <= 0:
            data = self.stream.recv(4096)
            if not data:
                raise Gone
            self._read += data
        heard, self._read = self._read[:end], self._read[end:]
        self.daemon.heard.append((self.inside, heard))
        return heard

    def until(self, text: bytes) -> bytes:
        return self._until(lambda read: read.find(text) + len(text) if text in read else 0)

    def take(self, n: int) -> bytes:
        return self._until(lambda read: n if len(read) >= n else 0)

    def command(self) -> tuple[bytes, list[bytes]]:
        """A line, and its words; the first one in capitals."""
        line = self.until(b"\n")
        first, *words = line.split() or [b""]
        return line, [first.upper(), *words]

    def choose(self, verb: bytes, answers: dict[bytes, bytes], otherwise: bytes, bye: bytes = b"QUIT") -> None:
        """Answers with one of these; it is over after `bye`."""
        self.send(answers.get(verb, otherwise))
        if verb == bye:
            raise Gone


def smtp(client: Client) -> None:
    client.send(b"220 mail.example.test ready")
    answers = dict.fromkeys([b"MAIL", b"RCPT", b"RSET", b"HELO"], b"250 2.0.0 fine") | {b"QUIT": b"221 2.0.0 bye"}
    while True:
        line, [verb, *words] = client.command()
        if verb == b"STARTTLS" and not client.inside:
            client.upgrade(line)
        elif verb in (b"EHLO", b"LHLO"):
            client.send(b"250-mail.example.test", b"250 8BITMIME" if client.inside else b"250 STARTTLS")
        elif verb == b"DATA" and client.inside:
            client.send(b"354 go on")
            client.until(b"\r\n.\r\n")
            client.send(b"250 2.0.0 taken")
        elif verb == b"NOOP":
            client.send(b"250 " + b" ".join(words))
        elif verb in (b"MAIL", b"RCPT", b"DATA") and not client.inside:
            client.send(b"530 5.7.0 STARTTLS first")
        else:
            client.choose(verb, answers, b"502 5.5.1 unknown")


def imap(client: Client) -> None:
    # Without LOGINDISABLED: curl 7.88 heeds it inside TLS although it was said in clear.
    client.send(b"* OK [CAPABILITY IMAP4rev1 STARTTLS] ready")
    while True:
        line, words = client.command()
        tag, verb = line.split()[0], words[1].upper() if len(words) > 1 else b""
        done = tag + b" OK " + b" ".join(words[2:] or [b"done"])
        if verb == b"STARTTLS" and not client.inside:
            client.upgrade(line)
        elif verb == b"CAPABILITY":
            client.send(b"* CAPABILITY IMAP4rev1" + (b"" if client.inside else b" STARTTLS"), done)
        elif verb == b"LOGOUT":
            client.send(b"* BYE", done)
            raise Gone
        elif verb == b"LIST" and client.inside:
            client.send(b'* LIST () "/" INBOX', done)
        else:
            client.send(done if client.inside or verb == b"NOOP" else tag + b" NO STARTTLS first")


def pop3(client: Client) -> None:
    client.send(b"+OK ready")
    inside = dict.fromkeys([b"USER", b"PASS", b"NOOP"], b"+OK fine") | {b"STAT": b"+OK 0 0", b"LIST": b"+OK\r\n."}
    while True:
        line, [verb, *words] = client.command()
        if verb == b"STLS" and not client.inside:
            client.upgrade(line)
        elif verb == b"CAPA":
            client.send(b"+OK", b"USER" if client.inside else b"STLS", b".")
        else:
            inside[b"NOOP"] = b"+OK " + b" ".join(words)
            client.choose(verb, {b"QUIT": b"+OK bye"} | (inside if client.inside else {}), b"-ERR no")


def sieve(client: Client) -> None:
    def capabilities() -> None:
        offer = [] if client.inside else [b'"STARTTLS"']
        client.send(b'"IMPLEMENTATION" "test"', b'"SASL" ""', *offer, b'"VERSION" "1.0"', b'OK "ready"')

    capabilities()
    while True:
        line, [verb, *words] = client.command()
        if verb == b"STARTTLS" and not client.inside:
            client.upgrade(line)
            capabilities()
        else:
            answers = {b"NOOP": b"OK " + b" ".join(words), b"LOGOUT": b"OK"}
            client.choose(verb, answers, b'NO "what?"', bye=b"LOGOUT")


def nntp(client: Client) -> None:
    client.send(b"200 ready")
    while True:
        line, [verb, *words] = client.command()
        if verb == b"STARTTLS" and not client.inside:
            client.upgrade(line)
        elif verb == b"CAPABILITIES":
            client.send(b"101 list", b"VERSION 2", b"READER" if client.inside else b"STARTTLS", b".")
        else:
            client.choose(verb, {b"GROUP": b"411 " + b" ".join(words), b"QUIT": b"205 bye"}, b"500 what?")


def irc(client: Client) -> None:
    while True:
        line, [verb, *words] = client.command()
        if verb == b"STARTTLS" and not client.inside:
            client.upgrade(line)
        elif verb == b"USER" and client.inside:
            client.send(b":irc.example.test 001 me :Welcome")
        elif verb == b"PING":
            client.send(b":irc.example.test PONG irc.example.test :" + b" ".join(words))
        elif verb == b"QUIT":
            client.send(b"ERROR :bye")
            raise Gone


def xmpp(client: Client) -> None:
    streams = b"http://etherx.jabber.org/streams"
    starttls_feature = b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>"
    while True:
        heard = client.until(b">")
        if b"<stream:stream" in heard:
            features = b"<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>" if client.inside else starttls_feature
            header = b"<stream:stream from='mail.example.test' id='1' version='1.0' xmlns='jabber:client'"
            header += b" xmlns:stream='" + streams + b"'>"
            client.stream.sendall(header + b"<stream:features>" + features + b"</stream:features>")
        elif b"<starttls" in heard and not client.inside:
            client.upgrade(heard)
        elif b"</stream:stream" in heard:
            client.stream.sendall(heard)
            raise Gone


def ftp(client: Client) -> None:
    protected, listener = client.word == "ftps", None
    client.send(b"220-Welcome", b" to this server.", b"220 ready")
    answers = dict.fromkeys([b"TYPE", b"CWD", b"NOOP", b"PBSZ"], b"200 fine")
    answers |= {b"USER": b"331 password?", b"PASS": b"230 welcome", b"PWD": b'257 "/"', b"QUIT": b"221 bye"}
    while True:
        line, [verb, *words] = client.command()
        if verb == b"AUTH" and words == [b"TLS"] and not client.inside:
            client.upgrade(line)
        elif verb == b"FEAT":
            client.send(b"211-Features", b" AUTH TLS", b"211 End")
        elif not client.inside and verb != b"QUIT":
            client.send(b"534 AUTH TLS first")
        elif verb == b"PROT":
            protected = words == [b"P"]
            client.send(b"200 " + words[0])
        elif verb in (b"EPSV", b"PASV"):
            listener = socket.create_server(("127.0.0.1", 0))
            port = listener.getsockname()[1]
            passive = f"227 Entering (127,0,0,1,{port >> 8},{port & 255})", f"229 Entering (|||{port}|)"
            client.send(passive[verb == b"EPSV"].encode())
        elif verb in (b"RETR", b"LIST", b"NLST", b"STOR") and listener and protected:
            client.send(b"150 here it comes")
            with listener, listener.accept()[0] as data:
                data.settimeout(20)
                # On it TLS begins at once, and the go-ahead was given on the other.
                with starttls.accept("ftps", data, policy=client.policy) as session:
                    if verb == b"STOR":
                        while more := session.recv(4096):
                            client.daemon.heard.append((True, more))
                    else:
                        session.sendall(b"hello from the daemon\r\n")
            listener = None
            client.send(b"226 done")
        else:
            client.choose(verb, answers, b"502 unknown")


def element(client: Client) -> bytes:
    """A whole BER element."""
    head = client.take(2)
    size = head[1]
    if size & 0x80:
        more = client.take(size & 0x7F)
        head, size = head + more, int.from_bytes(more)
    return head + (client.take(size) if size else b"")


def tlv(tag: int, *contents: bytes) -> bytes:
    """A short BER element."""
    content = b"".join(contents)
    return bytes([tag, len(content)]) + content


def ldap(client: Client) -> None:
    while True:
        message = element(client)
        content = message[2 + (message[1] & 0x7F if message[1] & 0x80 else 0) :]
        message_id, operation = content[: 2 + content[1]], content[2 + content[1]]
        if operation == 0x42:
            raise Gone
        if b"1.3.6.1.4.1.1466.20037" in message and not client.inside:
            client.upgrade(message)
            continue
        # Bind, search and extended operations; in clear: confidentialityRequired.
        answer = {0x60: 0x61, 0x63: 0x65}.get(operation, 0x78)
        result = tlv(0x0A, b"\x00" if client.inside else b"\x0d") + tlv(4) + tlv(4)
        client.stream.sendall(tlv(0x30, message_id, tlv(answer, result)))


def http(client: Client) -> None:
    while True:
        request = client.until(b"\r\n\r\n")
        if b"\r\nupgrade: tls" in request.lower() and not client.inside:
            client.upgrade(request)
        target = request.split()[1]
        status = b"200 OK" if client.inside else b"426 Upgrade Required\r\nUpgrade: TLS/1.2"
        client.send(b"HTTP/1.1 " + status, b"Content-Length: %d" % len(target), b"")
        client.stream.sendall(target)
        if b"\r\nconnection: close" in request.lower():
            raise Gone


def postgres(client: Client) -> None:
    def message(kind: bytes, *contents: bytes) -> bytes:
        content = b"".join(contents)
        return kind + (len(content) + 4).to_bytes(4) + content

    ready = message(b"Z", b"I")
    if not client.inside:
        client.upgrade(client.take(8))
    client.take(int.from_bytes(client.take(4)) - 4)
    version = message(b"S", b"server_version\0", b"15.0\0")
    client.stream.sendall(message(b"R", bytes(4)) + version + message(b"K", bytes(8)) + ready)
    while True:
        kind, size = client.take(1), int.from_bytes(client.take(4)) - 4
        text = client.take(size) if size else b""
        if kind != b"Q":
            raise Gone
        column = b"one\0" + bytes(6) + (25).to_bytes(4) + b"\xff\xff" + b"\xff" * 4 + bytes(2)
        row = b"\0\1" + (len(text) - 1).to_bytes(4) + text[:-1]
        answer = message(b"T", b"\0\1", column) + message(b"D", row) + message(b"C", b"SELECT 1\0")
        client.stream.sendall(answer + ready)


MYSQL_CAPABILITIES = 0x0008AA0D


def packet(sequence: int, *contents: bytes) -> bytes:
    """MySQL's."""
    content = b"".join(contents)
    return len(content).to_bytes(3, "little") + bytes([sequence]) + content


def mysql(client: Client) -> None:
    def read() -> tuple[int, bytes]:
        head = client.take(4)
        return head[3], head + client.take(int.from_bytes(head[:3], "little"))

    low, high = MYSQL_CAPABILITIES.to_bytes(4, "little")[:2], MYSQL_CAPABILITIES.to_bytes(4, "little")[2:]
    greeting = b"\x0a8.0.36-test\0" + bytes(4) + b"abcdefgh\0" + low + b"\x2d\x02\0" + high + b"\x15" + bytes(10)
    client.stream.sendall(packet(0, greeting, b"ijklmnopqrst\0mysql_native_password\0"))
    client.upgrade(read()[1])
    ok = b"\0\0\0\x02\0\0\0"
    sequence, _ = read()
    assert sequence == 2, "a handshake response that does not follow the SSLRequest"
    client.stream.sendall(packet(3, ok))
    while True:
        _, command = read()
        if command[4] == 1:
            raise Gone
        if command[4] != 3:
            client.stream.sendall(packet(1, ok))
            continue

        def text(value: bytes) -> bytes:
            return bytes([len(value)]) + value

        column = text(b"def") + text(b"") * 3 + text(b"one") + text(b"") + b"\x0c\x2d\0\xff\0\0\0\xfd\0\0\0\0\0"
        parts = b"\x01", column, b"\xfe\0\0\x02\0", text(b"inside"), b"\xfe\0\0\x02\0"
        client.stream.sendall(b"".join(packet(n + 1, part) for n, part in enumerate(parts)))


def telnet(client: Client) -> None:
    if not client.inside:
        client.stream.sendall(b"\xff\xfd\x2e")
        client.upgrade(b"")
    client.stream.sendall(b"login: ")
    client.send(b"hello " + client.until(b"\n").strip())
    raise Gone


SPEAK: dict[str, Callable[[Client], None]] = {
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
    "telnet": telnet,
}


class Daemon(Peer):
    """Listens for a protocol's word; with TLS from the first byte where that is what the word means."""

    def __init__(self, word: str, policy: starttls.Policy) -> None:
        # Of each connection that got TLS; whether it was said inside TLS, and what; why none came about.
        self.sessions: list[starttls.Outcome] = []
        self.heard: list[tuple[bool, bytes]] = []
        self.errors: list[str] = []
        self._word = word
        self._policy = policy
        super().__init__(self._talk)

    def inside(self) -> bytes:
        """All that was said inside TLS."""
        return b"".join(text for inside, text in self.heard if inside)

    def _talk(self, sock: socket.socket) -> None:
        client = Client(sock, self._word, self._policy, self)
        try:
            if self._word in IMPLICIT:
                client.upgrade(b"")
            SPEAK[IMPLICIT.get(self._word, self._word)](client)
        except Gone:
            pass
        except (starttls.Error, ssl.SSLError, ConnectionError) as error:
            self.errors.append(getattr(error, "word", type(error).__name__))
        finally:
            client.stream.close()
