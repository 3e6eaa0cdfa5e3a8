"""A real Postfix and a real Dovecot, as `tests/servers/run.py` starts them."""

import imaplib
import poplib
import smtplib
import ssl
import time
import uuid

import pytest
import starttls
from starttls import errors, stdlib

HOST = "mail.example.test"


def wait_for(servers, subject):
    """The message arrives in the mailbox of the user; its text."""
    port = servers.port("dovecot", "imap")
    client = stdlib.IMAP4("localhost", port, policy=servers.policy(), timeout=20)
    client.login(servers.user, servers.password)
    for _ in range(400):
        client.select("INBOX")
        numbers = client.search(None, "SUBJECT", f'"{subject}"')[1][0].split()
        if numbers:
            text = client.fetch(numbers[0].decode(), "(BODY[])")[1][0][1]
            client.logout()
            return text
        time.sleep(0.05)
    raise AssertionError(f"{subject} has not come")


def message(subject):
    return f"From: bob@example.test\r\nTo: alice@example.test\r\nSubject: {subject}\r\n\r\nhello\r\n"


def send(servers, client, subject, login=True):
    if login:
        client.login(servers.user, servers.password)
    client.sendmail("bob@example.test", ["alice@example.test"], message(subject))
    assert b"hello" in wait_for(servers, subject)


@pytest.fixture
def subject():
    return uuid.uuid4().hex


def test_smtplib_with_a_context(servers, subject):
    with smtplib.SMTP("localhost", servers.port("postfix", "submission"), timeout=20) as client:
        client.starttls(context=starttls.Context(servers.policy()))
        assert client.sock.outcome.identity.proven_by == "pkix"
        send(servers, client, subject)


def test_smtplib_with_tls_at_once(servers, subject):
    context = starttls.Context(servers.policy())
    with smtplib.SMTP_SSL("localhost", servers.port("postfix", "smtps"), context=context, timeout=20) as client:
        send(servers, client, subject)


@pytest.mark.parametrize(("server", "name", "login"), [("postfix", "submission", True), ("postfix", "smtp", False)])
def test_stdlib_smtp(server, name, login, servers, subject):
    port = servers.port(server, name)
    with stdlib.SMTP("localhost", port, policy=servers.policy(), timeout=20) as client:
        assert client.outcome.tls.version == "TLSv1.3"
        send(servers, client, subject, login)


def test_stdlib_lmtp(servers, subject):
    with stdlib.LMTP("localhost", servers.port("dovecot", "lmtp"), policy=servers.policy(), timeout=20) as client:
        send(servers, client, subject, login=False)


@pytest.mark.parametrize("how", ["context", "ssl", "stdlib"])
def test_imap(how, servers, subject):
    port = servers.port("dovecot", "imaps" if how == "ssl" else "imap")
    context = starttls.Context(servers.policy())
    if how == "context":
        client = imaplib.IMAP4("localhost", port, timeout=20)
        client.starttls(context)
    elif how == "ssl":
        client = imaplib.IMAP4_SSL("localhost", port, ssl_context=context, timeout=20)
    else:
        client = stdlib.IMAP4("localhost", port, policy=servers.policy(), timeout=20)
        assert client.outcome.tls.alpn in (None, "imap")
    with client:
        assert client.login(servers.user, servers.password)[0] == "OK"
        body = message(subject).encode() + b"x" * 100_000
        assert client.append("INBOX", None, None, body)[0] == "OK"
        client.select("INBOX")
        [numbers] = client.search(None, "SUBJECT", subject)[1]
        fetched = client.fetch(numbers.decode(), "(BODY[])")[1][0][1]
        assert fetched.count(b"x" * 100_000) == 1
        client.store(numbers.decode(), "+FLAGS", "\\Deleted")
        client.expunge()


@pytest.mark.parametrize("how", ["context", "ssl", "stdlib"])
def test_pop3(how, servers):
    port = servers.port("dovecot", "pop3s" if how == "ssl" else "pop3")
    context = starttls.Context(servers.policy())
    if how == "context":
        client = poplib.POP3("localhost", port, timeout=20)
        client.stls(context)
    elif how == "ssl":
        client = poplib.POP3_SSL("localhost", port, context=context, timeout=20)
    else:
        client = stdlib.POP3("localhost", port, policy=servers.policy(), timeout=20)
    client.user(servers.user)
    client.pass_(servers.password)
    assert client.stat()[0] >= 1
    assert any(line.startswith(b"Subject: ") for line in client.retr(1)[1])
    client.quit()


GOOD = [
    ("postfix", "smtp", "smtp"),
    ("postfix", "submission", "submission"),
    ("postfix", "smtps", "smtps"),
    ("postfix", "smtp-chain", "smtp"),
    ("dovecot", "imap", "imap"),
    ("dovecot", "imaps", "imaps"),
    ("dovecot", "pop3", "pop3"),
    ("dovecot", "pop3s", "pop3s"),
    ("dovecot", "sieve", "sieve"),
    ("dovecot", "lmtp", "lmtp"),
    ("dovecot", "submission", "submission"),
    ("dovecot", "submissions", "submissions"),
]


@pytest.mark.parametrize(("server", "name", "protocol"), GOOD)
def test_good_servers(server, name, protocol, servers):
    policy = servers.policy(address="127.0.0.1")
    with starttls.connect(protocol, HOST, servers.port(server, name), policy=policy) as session:
        outcome = session.outcome
        assert outcome.identity.proven_by == "pkix" and outcome.identity.name == HOST
        assert all(check.ok for check in outcome.checks) and len(outcome.checks) == 3
        assert outcome.protocol == protocol and not outcome.suspicions


BAD = [
    ("self-signed", errors.UntrustedError, "chain"),
    ("expired", errors.ExpiredError, "time"),
    ("wrong-name", errors.NameMismatchError, "name"),
]


@pytest.mark.parametrize(("variant", "error", "check"), BAD)
@pytest.mark.parametrize(
    ("server", "protocol"),
    [("postfix", "smtp"), ("dovecot", "imap"), ("dovecot", "pop3"), ("dovecot", "sieve"), ("dovecot", "imaps")],
)
def test_bad_certificates(server, protocol, variant, error, check, servers):
    port = servers.port(server, f"{protocol}-{variant}")
    for level in ("verify", "strict"):
        with pytest.raises(error) as raised:
            starttls.connect(protocol, HOST, port, policy=servers.policy(level, address="127.0.0.1"))
        assert isinstance(raised.value, ssl.SSLCertVerificationError) and not raised.value.temporary
        assert not raised.value.outcome.check(check).ok
    for level in ("may", "opportunistic", "encrypt"):
        policy = servers.policy(level, address="127.0.0.1")
        with starttls.connect(protocol, HOST, port, policy=policy) as session:
            assert session.outcome.encrypted and session.outcome.identity.proven_by is None
            assert [c.check for c in session.outcome.checks if not c.ok] == [check]
    # Any certificate may be pinned.
    pin = session.outcome.certificate.spki_sha256
    policy = servers.policy("fingerprint", fingerprints=[pin], address="127.0.0.1")
    with starttls.connect(protocol, HOST, port, policy=policy) as session:
        assert session.outcome.identity.proven_by == "fingerprint"


@pytest.mark.parametrize(("variant", "error", "_check"), BAD)
def test_the_standard_librarys_clients_refuse_bad_certificates(variant, error, _check, servers):
    context = starttls.Context(servers.policy())
    with smtplib.SMTP("localhost", servers.port("postfix", f"smtp-{variant}"), timeout=20) as client:
        with pytest.raises(error):
            client.starttls(context=context)
        client.close()
    with pytest.raises(error):
        imaplib.IMAP4("localhost", servers.port("dovecot", f"imap-{variant}"), timeout=20).starttls(context)
    with pytest.raises(error):
        stdlib.POP3("localhost", servers.port("dovecot", f"pop3-{variant}"), policy=servers.policy())


NO_TLS = [
    ("postfix", "smtp", stdlib.SMTP),
    ("dovecot", "imap", stdlib.IMAP4),
    ("dovecot", "pop3", stdlib.POP3),
    ("dovecot", "lmtp", stdlib.LMTP),
]


@pytest.mark.parametrize(("server", "protocol", "client"), NO_TLS)
def test_servers_without_tls(server, protocol, client, servers):
    port = servers.port(server, f"{protocol}-no-tls")
    for level in ("encrypt", "strict"):
        with pytest.raises(errors.NotOfferedError):
            starttls.connect(protocol, "localhost", port, policy=servers.policy(level))
        with pytest.raises(errors.NotOfferedError):
            client("localhost", port, policy=servers.policy(level))
    with starttls.connect(protocol, "localhost", port, policy=servers.policy("may")) as session:
        assert session.outcome.because == "not-offered"
    opened = client("localhost", port, policy=servers.policy("may"), timeout=20)
    assert opened.outcome.because == "not-offered"
    opened.capa() if protocol == "pop3" else opened.noop()
    opened.close() if protocol != "imap" else opened.logout()


def test_other_certificates(servers):
    def word(variant, level="strict", **settings):
        policy = servers.policy(level, address="127.0.0.1", **settings)
        try:
            with starttls.connect("smtp", HOST, servers.port("postfix", f"smtp-{variant}"), policy=policy) as session:
                return session.outcome.tls.version
        except starttls.Error as e:
            return e.word

    assert word("notyet") == "expired"
    assert word("unknownca") == "untrusted"
    assert word("nochain") == "untrusted"
    assert word("cnonly") == "name-mismatch"
    assert word("wildcard") == "TLSv1.3"
    assert word("rsa") == "TLSv1.3"
    assert word("tls10") == "handshake"
    assert word("tls10", "may") == "TLSv1"


def test_a_client_certificate(servers):
    port = servers.port("postfix", "smtp-clientcert")
    pair = (servers.certs / "client.crt", servers.certs / "client.key")
    for certificate, expected in ((pair, 250), (None, 421)):
        policy = servers.policy(client_cert=certificate)
        client = stdlib.SMTP("localhost", port, policy=policy, timeout=20)
        assert client.ehlo()[0] == expected
        client.close()
