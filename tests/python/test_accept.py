"""The server's side: `starttls.accept` and `starttls.refuse` on sockets, with clients of all kinds."""

import contextlib
import imaplib
import poplib
import smtplib
import ssl
import subprocess
import sys

import pytest
import starttls
from acceptors import COMMANDS, GO_AHEADS, accepting, handshake, sockets, trusting
from peers import NAME, line
from starttls import errors

REFUSALS = {"smtp": b"454 ", "lmtp": b"454 ", "imap": b"a7 NO ", "pop3": b"-ERR ", "sieve": b"NO "}


@pytest.fixture(scope="module")
def policy(certs):
    return starttls.Policy("encrypt", server_cert=certs / "good.pem", timeout=10)


def test_accept_borrows_the_socket(policy, certs):
    with sockets() as (server, client):
        server.settimeout(7)
        wait = accepting(lambda: starttls.accept("smtp", server, command=b"STARTTLS\r\n", policy=policy))
        client.recv(100)
        with trusting(certs / "ca.crt").wrap_socket(client, server_hostname=NAME) as tls:
            with wait() as session:
                assert session.gettimeout() == 7 and "127.0.0.1" in repr(session)
                outcome = session.outcome
                assert outcome.role == "server" and outcome.protocol == "smtp" and outcome.sni == NAME
                assert outcome.peer.name is None and outcome.peer.address == "127.0.0.1"
                assert outcome.level == "encrypt" and outcome.certificate is None and outcome.checks == ()
                assert [said.from_ for said in outcome.transcript] == ["C", "S"]
                with pytest.raises(ValueError):
                    session.protect(client)
            assert tls.recv(1) == b""
        assert server.fileno() >= 0


@pytest.mark.parametrize("protocol", COMMANDS)
def test_it_reads_the_command_itself(protocol, policy):
    whole = COMMANDS[protocol]
    for read in (b"", whole[:1], whole[:-1], whole):
        with sockets() as (server, client):
            wait = accepting(
                lambda read=read, server=server: starttls.accept(
                    protocol, server, command=bytearray(read), policy=policy
                )
            )
            client.sendall(whole[len(read) :])
            assert client.recv(100).startswith(GO_AHEADS[protocol])
            context = ssl._create_unverified_context()
            with context.wrap_socket(client) as tls, wait():
                assert tls.version()


@pytest.mark.parametrize("protocol", COMMANDS)
def test_what_comes_behind_the_command_is_never_obeyed(protocol, policy):
    command, more = COMMANDS[protocol], b"MAIL FROM:<evil@example.test>\r\n"
    # In the same segment: the caller has read both, or the library does.
    for read in (command + more, b""):
        with sockets() as (server, client):
            client.sendall(b"" if read else command + more)
            with pytest.raises(errors.InjectedError) as raised:
                starttls.accept(protocol, server, command=read, policy=policy)
            assert raised.value.outcome.role == "server" and not raised.value.temporary
            assert client.recv(100) == b""
    # In the next one.
    with sockets() as (server, client):
        client.sendall(more)
        with pytest.raises(errors.InjectedError):
            starttls.accept(protocol, server, command=command, policy=policy)
        assert client.recv(100) == b""
        # It was shut down: a careless server does not go on.
        assert server.recv(100) == b""
    # Behind the go-ahead.
    with sockets() as (server, client):
        wait = accepting(lambda: starttls.accept(protocol, server, command=command, policy=policy))
        assert client.recv(100).startswith(GO_AHEADS[protocol])
        client.sendall(more)
        with pytest.raises(errors.InjectedError):
            wait()
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(100) == b""


def test_another_command_may_still_be_answered(policy):
    with sockets() as (server, client):
        with pytest.raises(errors.MalformedError):
            starttls.accept("smtp", server, command=b"NOOP\r\n", policy=policy)
        server.sendall(b"250 ok\r\n")
        assert client.recv(100) == b"250 ok\r\n"


def test_a_silent_client_and_one_that_leaves(policy):
    with sockets() as (server, client):
        with pytest.raises(errors.TimedOutError, match="STARTTLS"):
            starttls.accept("smtp", server, policy=policy.derive(timeout=0.2))
        client.close()
        with pytest.raises(errors.ClosedError):
            starttls.accept("smtp", server, policy=policy)


def test_a_client_that_does_not_trust_us(policy):
    with pytest.raises(errors.HandshakeError) as raised:
        handshake(policy, ssl.create_default_context())
    assert raised.value.word == "handshake" and raised.value.outcome.tls is None


@pytest.mark.parametrize("protocol", REFUSALS)
def test_refuse(protocol, policy):
    for how in ({"policy": policy}, {}, {"policy": "may"}):
        with sockets() as (server, client):
            client.sendall(COMMANDS[protocol])
            assert starttls.refuse(protocol, server, **how) is None
            assert client.recv(100).startswith(REFUSALS[protocol])
            # It goes on in clear.
            client.sendall(b"QUIT\r\n")
            assert server.recv(100) == b"QUIT\r\n"
    with sockets() as (server, client):
        with pytest.raises(errors.InjectedError):
            starttls.refuse(protocol, server, command=COMMANDS[protocol] + b"QUIT\r\n")


def test_tls_from_the_first_byte(policy, certs):
    with sockets() as (server, client):
        tls = trusting(certs / "ca.crt").wrap_socket(client, server_hostname=NAME, do_handshake_on_connect=False)
        shaking = accepting(tls.do_handshake)
        hello = server.recv(5)
        with starttls.accept("imaps", server, command=hello, policy=policy) as session:
            shaking()
            assert session.outcome.tls.alpn is None and session.outcome.transcript == ()
            session.sendall(b"* OK hello\r\n")
            assert tls.recv(100) == b"* OK hello\r\n"
        with tls, pytest.raises(ValueError, match="first byte"):
            starttls.refuse("imaps", server)


# --- what is invalid


def test_levels_and_settings_of_servers(certs):
    pem = certs / "good.pem"
    with sockets() as (server, client):
        for bad in (
            "encrypt",
            starttls.Policy("encrypt"),
            starttls.Policy("verify", server_cert=pem),
            starttls.Policy("fingerprint", server_cert=pem),
            *[starttls.Policy(level, server_cert=pem) for level in ("none", "may", "opportunistic", "strict")],
        ):
            with pytest.raises(errors.InvalidError):
                starttls.accept("smtp", server, command=b"STARTTLS\r\n", policy=bad)
        with pytest.raises(TypeError):
            starttls.accept("smtp", server, command=b"STARTTLS\r\n")
        with pytest.raises(errors.InvalidError):
            starttls.accept("nonsense", server, policy=starttls.Policy("encrypt", server_cert=pem))
        # It is as it was.
        client.sendall(b"x")
        assert server.recv(1) == b"x"
    for level in ("may", "verify"):
        with pytest.raises(errors.InvalidError):
            starttls.Policy(level, server_cert=pem).ready()
    with pytest.raises(errors.InvalidError, match="holds none"):
        empty = certs / "empty"
        empty.mkdir()
        starttls.Policy("encrypt", server_cert=empty).ready()
    for bad in (pem.with_name("none.pem"), (pem, pem.with_name("none.key")), [pem, pem.with_name("none.pem")]):
        with pytest.raises(errors.InvalidError, match="cannot be read"):
            starttls.Policy("encrypt", server_cert=bad)
    for bad in (7, (pem,), (pem, b"PEM"), (pem, pem, pem), object()):
        with pytest.raises((TypeError, ValueError)):
            starttls.Policy("encrypt", server_cert=bad)
    for bad in (b"nonsense", (pem.read_bytes(), b""), certs / "ca.crt"):
        with pytest.raises(errors.InvalidError):
            starttls.Policy("encrypt", server_cert=bad).ready()


def test_repr_shows_no_key(certs):
    pem = certs / "good.pem"
    shown = repr(starttls.Policy("encrypt", server_cert=[pem.read_bytes(), pem], ask_client_cert=True))
    assert f"server_cert=[<PEM>, '{pem}'], ask_client_cert=True" in shown and "PRIVATE" not in shown


# --- processes


FORKS = """
import os, socket, sys, starttls
certs = sys.argv[1]
policy = starttls.Policy("encrypt", server_cert=certs + "/good.pem", timeout=10)
policy.ready()
listener = socket.create_server(("127.0.0.1", 0))
children = []
for _ in range(2):
    child = os.fork()
    if not child:
        sock, _ = listener.accept()
        lines = sock.makefile("rb", 0)
        sock.sendall(b"220 hello\\r\\n")
        lines.readline()
        sock.sendall(b"250-hello\\r\\n250 STARTTLS\\r\\n")
        with starttls.accept("smtp", sock, command=lines.readline(), policy=policy) as session:
            session.sendall(b"%d" % session.outcome.tls.resumed)
            session.recv(1)
        os._exit(0)
    children.append(child)
client = starttls.Policy("strict", ca_file=certs + "/ca.crt", address="127.0.0.1")
for resumed in (False, True):
    with starttls.connect("smtp", "mail.example.test", listener.getsockname()[1], policy=client) as session:
        assert session.recv(1) == b"%d" % resumed, "the server says otherwise"
        assert session.outcome.tls.resumed == resumed
for child in children:
    assert os.waitpid(child, 0)[1] == 0
"""


def test_a_session_is_resumed_by_another_child(certs):
    subprocess.run([sys.executable, "-X", "dev", "-c", FORKS, certs], check=True, timeout=60)


# --- the standard library's clients against a server like those of mail programs


class Mail:
    """A server of lines with the upgrade command of its protocol."""

    def __init__(self, protocol, greeting, upgrade, answers, policy):
        self.protocol, self.greeting, self.upgrade, self.answers = protocol, greeting, upgrade, answers
        self.policy = policy
        self.outcomes = []

    def __call__(self, sock):
        sock.sendall(self.greeting)
        while (said := line(sock)) and self.upgrade not in said.upper():
            self.answer(sock, said)
        with starttls.accept(self.protocol, sock, command=said, policy=self.policy) as session:
            self.outcomes.append(session.outcome)
            while self.answer(session, line(session)) not in (b"QUIT", b"LOGOUT"):
                pass

    def answer(self, sock, said):
        words = said.upper().split()
        word = next(word for word in words if word in self.answers)
        sock.sendall(self.answers[word].replace(b"%t", said.split()[0]))
        return word


def test_smtplib(peer, policy, certs):
    ehlo = b"250-hello\r\n250 STARTTLS\r\n"
    mail = Mail(
        "smtp", b"220 hello\r\n", b"STARTTLS", {b"EHLO": ehlo, b"NOOP": b"250 ok\r\n", b"QUIT": b"221\r\n"}, policy
    )
    with smtplib.SMTP("localhost", peer(mail).port, timeout=10) as client:
        assert client.starttls(context=trusting(certs / "ca.crt"))[0] == 220
        assert client.noop()[0] == 250
        assert isinstance(client.sock, ssl.SSLSocket)
    assert mail.outcomes[0].sni == "localhost"


def test_imaplib(peer, policy, certs):
    answers = {
        b"CAPABILITY": b"* CAPABILITY IMAP4rev1 STARTTLS\r\n%t OK done\r\n",
        b"NOOP": b"%t OK noop\r\n",
        b"LOGOUT": b"* BYE bye\r\n%t OK done\r\n",
    }
    mail = Mail("imap", b"* OK hello\r\n", b"STARTTLS", answers, policy)
    with imaplib.IMAP4("localhost", peer(mail).port, timeout=10) as client:
        assert client.starttls(trusting(certs / "ca.crt"))[0] == "OK"
        assert client.noop() == ("OK", [b"noop"])


def test_poplib(peer, policy, certs):
    answers = {b"CAPA": b"+OK\r\nSTLS\r\n.\r\n", b"NOOP": b"+OK noop\r\n", b"QUIT": b"+OK\r\n"}
    mail = Mail("pop3", b"+OK hello\r\n", b"STLS", answers, policy)
    client = poplib.POP3("localhost", peer(mail).port, timeout=10)
    assert client.stls(trusting(certs / "ca.crt")).startswith(b"+OK")
    assert client.noop() == b"+OK noop"
    client.quit()


def test_our_own_client(peer, policy, strict):
    ehlo = b"250-hello\r\n250 STARTTLS\r\n"
    mail = Mail(
        "smtp", b"220 hello\r\n", b"STARTTLS", {b"EHLO": ehlo, b"NOOP": b"250 ok\r\n", b"QUIT": b"221\r\n"}, policy
    )
    one = peer(mail)
    with starttls.stdlib.SMTP(NAME, one.port, policy=strict, timeout=10) as client:
        assert client.noop()[0] == 250
        assert client.outcome.identity.proven_by == "pkix"
