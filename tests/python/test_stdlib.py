"""The standard library's clients over our dialog, against servers that wish them ill."""

import imaplib
import os
import poplib
import smtplib
import socket

import pytest
import starttls
from peers import IMAP, NAME, SMTP, imap_until_starttls, line, play
from starttls import errors
from starttls.stdlib import IMAP4, LMTP, POP3
from starttls.stdlib import SMTP as Smtp


def commands(sock, answers):
    """Answers lines by their first word until the client ends; everything that was said."""
    said = []
    while True:
        try:
            said.append(line(sock))
        except ConnectionError:
            return said
        words = said[-1].split()
        for word in words[:2]:
            if word.upper() in answers:
                tag = words[0]
                sock.sendall(answers[word.upper()].replace(b"%s", tag))
                break
        else:
            sock.sendall(b"500 what\r\n")


def test_smtp(peer, server_context, strict):
    said = []

    def serve(sock):
        said.extend(play(sock, SMTP))
        with server_context.wrap_socket(sock, server_side=True) as tls:
            answers = {b"EHLO": b"250-me\r\n250 AUTH PLAIN\r\n", b"AUTH": b"235 ok\r\n", b"QUIT": b"221 bye\r\n"}
            said.extend(commands(tls, answers))

    one = peer(serve)
    with Smtp(NAME, one.port, policy=strict, local_hostname="client.test", timeout=10) as client:
        assert client.outcome.encrypted
        assert client.starttls() == (220, b"TLS is on already")
        assert client.starttls(context=object())[0] == 220
        assert client.login("user", "secret")[0] == 235
        assert client.sock.gettimeout() == 10
    assert client.outcome.identity.proven_by == "pkix"
    one.end()
    assert said[:2] == [b"EHLO client.test\r\n", b"STARTTLS\r\n"]
    assert said[2] == b"ehlo client.test\r\n"


def test_nothing_heard_in_clear_survives_in_smtp(peer, server_context, strict):
    def serve(sock):
        play(sock, [SMTP[0], None, b"250-evil\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n", None, b"220 go\r\n"])
        with server_context.wrap_socket(sock, server_side=True) as tls:
            commands(tls, {b"EHLO": b"250 good\r\n", b"QUIT": b"221 bye\r\n"})

    with Smtp(NAME, peer(serve).port, policy=strict) as client:
        assert not client.esmtp_features and client.ehlo_resp is None
        with pytest.raises(smtplib.SMTPNotSupportedError):
            client.login("user", "secret")
        assert client.ehlo_resp == b"good"


def test_nothing_heard_in_clear_survives_in_imap(peer, server_context, strict):
    """Untagged data said before TLS and looked for afterwards (the NO STARTTLS findings of 2021)."""
    before = (
        b'* LIST () "/" evil\r\n* STATUS evil (MESSAGES 666)\r\n* CAPABILITY IMAP4rev1 EVIL\r\n'
        b"* 666 EXISTS\r\n* OK [ALERT] evil\r\n"
    )

    def serve(sock):
        tag = imap_until_starttls(sock, before)
        sock.sendall(tag + b" OK go\r\n")
        with server_context.wrap_socket(sock, server_side=True) as tls:
            commands(
                tls,
                {
                    b"CAPABILITY": b"* CAPABILITY IMAP4rev1 GOOD\r\n%s OK done\r\n",
                    b"LOGIN": b"%s OK done\r\n",
                    b"LIST": b"%s OK done\r\n",
                    b"STATUS": b"%s OK done\r\n",
                    b"LOGOUT": b"* BYE\r\n%s OK done\r\n",
                },
            )

    client = IMAP4(NAME, peer(serve).port, policy=strict, timeout=10)
    assert client.outcome.encrypted and client.welcome == b"* OK ready"
    assert "EVIL" not in client.capabilities and "GOOD" in client.capabilities
    client.login("user", "secret")
    assert "evil" not in str(client.untagged_responses)
    assert client.list() == ("OK", [None])
    assert client.response("STATUS") == ("STATUS", [None])
    assert client.response("EXISTS") == ("EXISTS", [None])
    assert any("evil" in said.text for said in client.outcome.transcript)
    assert client.starttls() == ("OK", [b"TLS is on already"])
    client.logout()


def test_nothing_heard_in_clear_survives_in_pop3(peer, server_context, strict):
    def serve(sock):
        play(sock, [b"+OK <666@evil>\r\n", None, b"+OK go\r\n"])
        with server_context.wrap_socket(sock, server_side=True) as tls:
            commands(tls, {b"USER": b"+OK\r\n", b"PASS": b"+OK\r\n", b"QUIT": b"+OK\r\n"})

    client = POP3(NAME, peer(serve).port, policy=strict, timeout=10)
    assert client.welcome == b"+OK ready"
    assert client.stls() == b"+OK TLS is on already"
    with pytest.raises(poplib.error_proto):
        client.apop("user", "secret")
    client.user("user")
    client.pass_("secret")
    client.quit()


STRIPPED = {
    "smtp": (Smtp, [b"220 hello\r\n", None, b"250 nothing\r\n", None, b"502 what\r\n"]),
    "lmtp": (LMTP, [b"220 hello\r\n", None, b"250 nothing\r\n", None, b"502 what\r\n"]),
    "pop3": (POP3, [b"+OK hello\r\n", None, b"-ERR what\r\n"]),
}


@pytest.mark.parametrize("level", ["encrypt", "verify", "strict"])
@pytest.mark.parametrize("protocol", [*STRIPPED, "imap"])
def test_a_login_never_leaves_in_clear(protocol, level, peer, strict):
    said = []

    def serve(sock):
        if protocol == "imap":
            sock.sendall(IMAP[0])
            said.append(line(sock))
            sock.sendall(said[0].split()[0] + b" BAD what\r\n")
        else:
            said.extend(play(sock, STRIPPED[protocol][1]))
        # Whatever else it says.
        said.extend(commands(sock, {}))

    client = IMAP4 if protocol == "imap" else STRIPPED[protocol][0]
    with pytest.raises(errors.NotOfferedError):
        client(NAME, peer(serve).port, policy=strict.derive(level=level), timeout=5).login("user", "secret")
    assert not any(b"secret" in each or b"AUTH" in each.upper() for each in said)


def test_in_clear_where_the_policy_lets_it(peer, strict):
    may = strict.derive(level="may")

    def smtp(sock):
        play(sock, [b"220-several\r\n220 lines\r\n", None, b"250 nothing\r\n"])
        commands(sock, {b"EHLO": b"250 me\r\n", b"NOOP": b"250 ok\r\n", b"QUIT": b"221 bye\r\n"})

    with Smtp(NAME, peer(smtp).port, policy=may) as client:
        assert client.outcome.because == "not-offered"
        assert client.noop()[0] == 250
        with pytest.raises(errors.NotOfferedError, match="does not advertise"):
            client.starttls()

    def imap(sock):
        answers = {b"CAPABILITY": b"* CAPABILITY IMAP4rev1\r\n%s OK done\r\n", b"LOGOUT": b"* BYE\r\n%s OK\r\n"}
        sock.sendall(b"* OK the server's own\r\n")
        commands(sock, answers)

    client = IMAP4(NAME, peer(imap).port, policy=may)
    assert client.welcome == b"* OK the server's own" and client.outcome.because == "not-offered"
    with pytest.raises(errors.NotOfferedError):
        client.starttls()
    client.logout()

    def pop3(sock):
        sock.sendall(b"+OK the server's own <1.2@x>\r\n")
        commands(sock, {b"CAPA": b"-ERR\r\n", b"STLS": b"-ERR\r\n", b"APOP": b"+OK\r\n", b"QUIT": b"+OK\r\n"})

    client = POP3(NAME, peer(pop3).port, policy=may)
    assert client.welcome == b"+OK the server's own <1.2@x>"
    assert client.apop("user", "secret") == b"+OK"
    with pytest.raises(starttls.Error):
        client.stls()
    client.quit()


def test_level_none_is_the_standard_librarys_own(peer):
    def serve(sock):
        sock.sendall(b"220 hello\r\n")
        commands(sock, {b"NOOP": b"250 ok\r\n", b"QUIT": b"221 bye\r\n"})

    with Smtp("127.0.0.1", peer(serve).port, policy="none") as client:
        assert client.outcome.because == "not-asked" and client.noop()[0] == 250
        with pytest.raises(errors.InvalidError):
            client.starttls()


def test_connecting_again_plays_the_dialog_again(peer, server_context, strict):
    def serve(sock):
        play(sock, SMTP)
        with server_context.wrap_socket(sock, server_side=True) as tls:
            commands(tls, {b"EHLO": b"250-me\r\n250 SIZE\r\n", b"QUIT": b"221 bye\r\n"})

    port = peer(serve).port
    client = Smtp(policy=strict)
    with pytest.raises(smtplib.SMTPServerDisconnected):
        client.starttls()
    for _ in range(2):
        assert client.connect(NAME, port) == (220, b"ready")
        assert client.outcome.encrypted and not client.has_extn("size")
        client.ehlo()
        assert client.has_extn("size")
        client.quit()

    stripping = peer(lambda sock: play(sock, [*STRIPPED["smtp"][1], None]))
    assert client.outcome is not None
    with pytest.raises(errors.NotOfferedError):
        client.connect(NAME, stripping.port)
    # Not that of the connection before.
    assert client.outcome is None


def test_from_an_address_of_ones_own(peer, server_context, strict):
    seen = []

    def serve(sock):
        seen.append(sock.getpeername()[0])
        play(sock, SMTP)
        with server_context.wrap_socket(sock, server_side=True) as tls:
            commands(tls, {b"QUIT": b"221 bye\r\n"})

    with Smtp("localhost", peer(serve).port, policy=strict, source_address=("127.0.0.2", 0), timeout=5) as client:
        assert client.outcome.encrypted
    assert seen == ["127.0.0.2"]
    # One path with or without it: the policy's address is dialled, and errors are ours.
    for source in (("", 0), ("localhost", 0), ("127.0.0.2", 0)):
        with Smtp(NAME, peer(serve).port, policy=strict, source_address=source, timeout=5) as client:
            assert client.outcome.peer.name == NAME
    anywhere = strict.derive(address=None)
    with pytest.raises(errors.LookupFailedError):
        Smtp("no-such-host.invalid", 1, policy=anywhere, source_address=("127.0.0.2", 0), timeout=20)
    with pytest.raises(errors.LookupFailedError):
        Smtp("127.0.0.1", 1, policy=anywhere, source_address=("no-such-host.invalid", 0), timeout=20)
    with pytest.raises(ConnectionRefusedError) as raised:
        Smtp("127.0.0.1", 1, policy=anywhere, source_address=("127.0.0.2", 0), timeout=5)
    assert raised.value.word == "io"
    with pytest.raises(starttls.Error):
        # TEST-NET is nobody's here.
        Smtp("127.0.0.1", 1, policy=anywhere, source_address=("192.0.2.1", 0), timeout=5)


def test_their_arguments(peer, strict):
    with pytest.raises(errors.UnsupportedError, match="Unix"):
        LMTP("/run/lmtp", policy=strict)
    for client in (Smtp, IMAP4, POP3):
        with pytest.raises(ValueError):
            client("127.0.0.1", 1, timeout=0)
        with pytest.raises(errors.InvalidError):
            client("127.0.0.1", 1, policy="nonsense")
    silent = peer(lambda sock: sock.recv(1))
    for client in (Smtp, IMAP4, POP3):
        with pytest.raises(TimeoutError):
            client("127.0.0.1", silent.port, timeout=0.1)
    socket.setdefaulttimeout(0.1)
    try:
        for client in (Smtp, IMAP4, POP3):
            with pytest.raises(TimeoutError):
                client("127.0.0.1", silent.port)
    finally:
        socket.setdefaulttimeout(None)


def test_an_end_without_close_notify_is_an_end_to_them(peer, server_context, strict):
    def serve(sock):
        play(sock, SMTP)
        os.close(server_context.wrap_socket(sock, server_side=True).detach())

    client = Smtp(NAME, peer(serve).port, policy=strict, timeout=5)
    with pytest.raises(smtplib.SMTPServerDisconnected):
        client.ehlo()

    def imap(sock):
        tag = imap_until_starttls(sock)
        sock.sendall(tag + b" OK go\r\n")
        tls = server_context.wrap_socket(sock, server_side=True)
        line(tls)
        os.close(tls.detach())

    with pytest.raises(imaplib.IMAP4.abort):
        IMAP4(NAME, peer(imap).port, policy=strict, timeout=5)
