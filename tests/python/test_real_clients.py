"""Real clients upgrade to TLS with servers built on `starttls.accept` (`daemon.py`): they verify, use the session,
and refuse a server with another certificate."""

import contextlib
import ftplib
import imaplib
import io
import os
import poplib
import shutil
import smtplib
import ssl
import subprocess
from dataclasses import dataclass, field
from typing import Any

import pytest
import starttls
from daemon import IMPLICIT, Daemon
from plays import PLAYS
from real import HOST, IN_BAND, WORDS
from starttls import _core

# Clients that the tests' setup installs; without them CI does not pass.
NEEDED = {"openssl", "gnutls-cli", "curl", "swaks", "ldapsearch", "psql", "mariadb"}


@dataclass
class Use:
    """A client and what it does. Its arguments know {port}, {ca}, {name}."""

    word: str
    program: str
    arguments: str
    says: bytes = b""
    """To its standard input."""
    prints: bytes = b""
    heard: bytes = b""
    """What the server was told inside TLS."""
    environment: dict[str, str] = field(default_factory=dict)
    checks_names: bool = True

    def __str__(self) -> str:
        return f"{self.program}-{self.word}"


def s_client() -> list[Use]:
    uses = []
    for word in [*IN_BAND, *IMPLICIT]:
        row = IMPLICIT.get(word, word)
        play = PLAYS[row]
        # What it calls them.
        name = {"submission": "smtp"}.get(row, row)
        if name == "http" and word in IN_BAND:
            continue
        # -quiet: what is typed is sent as it is, and it goes on until the server closes.
        arguments = "s_client -quiet -connect 127.0.0.1:{port} -servername {name} -CAfile {ca}"
        arguments += " -verify_return_error -verify_hostname {name}"
        if word in IN_BAND:
            arguments += f" -starttls {name}" + (" -xmpphost {name}" if "xmpp" in name else "")
        uses.append(Use(word, "openssl", arguments, play.more + play.bye, play.answer, play.more.strip()))
    return uses


def gnutls_cli() -> list[Use]:
    # Its XMPP is not XMPP: it sends no stream header.
    words = "smtp lmtp imap pop3 sieve nntp ftp ldap postgres".split()
    arguments = "--x509cafile={ca} --verify-hostname={name} --sni-hostname={name} --port={port} --starttls-proto="
    uses = []
    for word in words:
        play = PLAYS[word]
        # It ends with its input, without waiting for an answer.
        uses.append(Use(word, "gnutls-cli", f"{arguments}{word} 127.0.0.1", play.more + play.bye, b"", b"marker"))
    return uses


MAIL = b"From: a@example.test\r\nTo: b@example.test\r\nSubject: marker\r\n\r\nhello\r\n"
# Not its ldap: curl 7.88 goes on in clear behind the go-ahead, with OpenLDAP's server just as with this one.
CURL = "--silent --show-error --max-time 20 --ssl-reqd --cacert {ca} --resolve {name}:{port}:127.0.0.1 "
LDAP = "-x -ZZ -o ldif-wrap=no -H ldap://127.0.0.1:{port} -b dc=example,dc=test -s base"
LDAP_SAYS = {"LDAPTLS_CACERT": "{ca}", "LDAPTLS_REQCERT": "demand"}
PSQL = "host=localhost port={port} user=me dbname=me sslmode=verify-full sslrootcert={ca} gssencmode=disable"
# It checks the chain alone.
SWAKS = "--server localhost --port {port} --tls-verify --tls-ca-path {ca} --to b@example.test --from a@example.test"
SWAKS += " --helo me.example.test --body marker"
UPLOAD = "--upload-file - --mail-from a@example.test --mail-rcpt b@example.test"

USES = [
    *s_client(),
    *gnutls_cli(),
    Use("smtp", "curl", f"{CURL} smtp://{{name}}:{{port}}/me {UPLOAD}", MAIL, b"", b"Subject: marker"),
    Use("smtps", "curl", f"{CURL} smtps://{{name}}:{{port}}/me {UPLOAD}", MAIL, b"", b"Subject: marker"),
    Use("imap", "curl", CURL + "imap://{name}:{port}/ --user me:secret", b"", b"INBOX", b"secret"),
    Use("imaps", "curl", CURL + "imaps://{name}:{port}/ --user me:secret", b"", b"INBOX", b"secret"),
    Use("pop3", "curl", CURL + "pop3://{name}:{port}/ --user me:secret", b"", b"", b"PASS secret"),
    Use("pop3s", "curl", CURL + "pop3s://{name}:{port}/ --user me:secret", b"", b"", b"PASS secret"),
    Use("ftp", "curl", CURL + "ftp://{name}:{port}/hello.txt", b"", b"hello from the daemon", b"RETR hello.txt"),
    Use("ftps", "curl", CURL + "ftps://{name}:{port}/hello.txt", b"", b"hello from the daemon", b"RETR hello.txt"),
    Use("https", "curl", CURL + "https://{name}:{port}/marker", b"", b"/marker", b"GET /marker"),
    *(
        Use(word, "swaks", f"{SWAKS} {how}", b"", b"250 2.0.0 taken", b"marker", checks_names=False)
        for word, how in (("smtp", "--tls"), ("lmtp", "--tls --protocol LMTP"), ("smtps", "--tls-on-connect"))
    ),
    Use("ldap", "ldapsearch", LDAP, b"", b"result: 0 Success", b"dc=example,dc=test", LDAP_SAYS),
    Use("postgres", "psql", "-XAtc|select 'marker'|" + PSQL, b"", b"select 'marker'\n", b"select 'marker'"),
    Use(
        "mysql",
        "mariadb",
        "--no-defaults -h localhost --protocol=TCP -P {port} -u me --ssl-ca={ca} --ssl-verify-server-cert -e marker",
        b"",
        b"inside\n",
        b"marker",
    ),
]


@pytest.fixture(scope="module")
def policies(certs):
    return {
        name: starttls.Policy("encrypt", server_cert=certs / f"{name}.pem", timeout=20) for name in ("good", "wrong")
    }


@pytest.fixture(scope="module")
def other_ca(tmp_path_factory):
    directory = tmp_path_factory.mktemp("other")
    _core.make_certificates(directory, [])
    return directory / "ca.crt"


def run(use: Use, daemon: Daemon, ca: Any) -> subprocess.CompletedProcess[bytes]:
    if not shutil.which(use.program):
        if os.environ.get("CI") == "true" and use.program in NEEDED:
            pytest.fail(f"{use.program} is not installed")
        pytest.skip(f"{use.program} is not installed")
    values = {"port": daemon.port, "ca": ca, "name": HOST}
    # Where an argument has spaces they are separated by bars.
    words = use.arguments.split("|" if "|" in use.arguments else None)
    command = [use.program, *(word.format(**values) for word in words)]
    environment = {name: value.format(**values) for name, value in use.environment.items()}
    return subprocess.run(
        command, input=use.says, capture_output=True, timeout=60, env={**os.environ, "LC_ALL": "C", **environment}
    )


@pytest.mark.parametrize("use", USES, ids=str)
def test_a_client(use, policies, certs):
    daemon = Daemon(use.word, policies["good"])
    done = run(use, daemon, certs / "ca.crt")
    daemon.end()
    assert done.returncode == 0, done
    assert use.prints in done.stdout and use.heard in daemon.inside(), (done, daemon.heard)
    outcome = daemon.sessions[0]
    assert outcome.role == "server" and outcome.encrypted and outcome.tls.version == "TLSv1.3"
    assert outcome.protocol == use.word
    # Some break off at their own end, without close_notify or before they have read all.
    assert set(daemon.errors) <= {"closed", "io"}


@pytest.mark.parametrize("use", USES, ids=str)
def test_a_client_refuses_another_certificate(use, policies, certs, other_ca):
    refused = [(policies["good"], other_ca)]
    if use.checks_names:
        refused.append((policies["wrong"], certs / "ca.crt"))
    for policy, ca in refused:
        daemon = Daemon(use.word, policy)
        done = run(use, daemon, ca)
        daemon.end()
        assert done.returncode != 0, done
        assert use.heard not in daemon.inside(), daemon.heard


# What none of them upgrades, and why.
NOBODY = {"http": "the clients that know RFC 2817 are CUPS' own, and they take any certificate the first time"}


def test_every_protocol_has_a_real_client_or_a_reason():
    used = {use.word for use in USES}
    assert used | set(NOBODY) == set(WORDS) and not used & set(NOBODY)


def test_no_name_that_openssl_knows_is_left_out():
    done = subprocess.run(["openssl", "s_client", "-starttls", "?"], capture_output=True, text=True)
    _, _, names = (done.stdout + done.stderr).partition("one of:\n")
    names = {line.strip() for line in names.splitlines() if line.startswith("\t")}
    tested = {word for word in IN_BAND if any(f"-starttls {word}" in use.arguments for use in USES)}
    assert names and names == tested


# --- the standard library's clients --------------------------------------------------------------


def by_smtplib(port, context):
    with smtplib.SMTP("localhost", port, timeout=20) as client:
        client.starttls(context=context)
        client.sendmail("a@example.test", ["b@example.test"], MAIL)


def by_smtplib_at_once(port, context):
    with smtplib.SMTP_SSL("localhost", port, timeout=20, context=context) as client:
        client.sendmail("a@example.test", ["b@example.test"], MAIL)


def by_lmtp(port, context):
    with smtplib.LMTP("localhost", port, timeout=20) as client:
        client.starttls(context=context)
        client.sendmail("a@example.test", ["b@example.test"], MAIL)


def by_imaplib(port, context):
    client = imaplib.IMAP4("localhost", port, timeout=20)
    try:
        client.starttls(context)
        assert client.login("marker", "secret")[0] == "OK"
        client.logout()
    finally:
        # It does not hold out that the handshake has closed its socket.
        with contextlib.suppress(OSError):
            client.shutdown()


def by_imaplib_at_once(port, context):
    with imaplib.IMAP4_SSL("localhost", port, ssl_context=context, timeout=20) as client:
        assert client.login("marker", "secret")[0] == "OK"


def by_poplib(port, context):
    client = poplib.POP3("localhost", port, timeout=20)
    try:
        client.stls(context)
        client.user("marker")
        client.quit()
    finally:
        with contextlib.suppress(OSError):
            client.close()


def by_poplib_at_once(port, context):
    client = poplib.POP3_SSL("localhost", port, context=context, timeout=20)
    client.user("marker")
    client.quit()


def by_ftplib(port, context):
    with ftplib.FTP_TLS(context=context, timeout=20) as client:
        client.connect("localhost", port)
        client.login()
        client.prot_p()
        text: list[bytes] = []
        client.retrbinary("RETR hello.txt", text.append)
        assert b"".join(text) == b"hello from the daemon\r\n"
        client.storbinary("STOR hello.txt", io.BytesIO(b"marker"))


OURS = [
    ("smtp", by_smtplib),
    ("submission", by_smtplib),
    ("smtps", by_smtplib_at_once),
    ("lmtp", by_lmtp),
    ("imap", by_imaplib),
    ("imaps", by_imaplib_at_once),
    ("pop3", by_poplib),
    ("pop3s", by_poplib_at_once),
    ("ftp", by_ftplib),
]


@pytest.mark.parametrize(("word", "use"), OURS)
def test_the_standard_library(word, use, policies, certs):
    context = ssl.create_default_context(cafile=certs / "ca.crt")
    daemon = Daemon(word, policies["good"])
    use(daemon.port, context)
    daemon.end()
    assert b"marker" in daemon.inside() and not daemon.errors


@pytest.mark.parametrize(("word", "use"), OURS)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_standard_library_refuses_another_certificate(word, use, policies, certs, other_ca):
    for name, ca in (("wrong", certs / "ca.crt"), ("good", other_ca)):
        daemon = Daemon(word, policies[name])
        with pytest.raises(ssl.SSLCertVerificationError):
            use(daemon.port, ssl.create_default_context(cafile=ca))
        daemon.end()
        assert b"marker" not in daemon.inside()
