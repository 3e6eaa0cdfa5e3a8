#!/usr/bin/env python3
"""Are the servers what their names say? OpenSSL's own client and the standard library's are the judges.

tests/servers/run.py -- python3 tests/servers/check.py
"""

import base64
import ftplib
import imaplib
import io
import json
import os
import poplib
import shutil
import smtplib
import socket
import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from functools import partial
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).parent))

import check_domains  # noqa: E402

FOUND = json.loads(Path(os.environ["STARTTLS_SERVERS"]).read_text())
CERTS = FOUND["certs_dir"]
ALICE = FOUND["users"][0]["name"], FOUND["users"][0]["password"]
# Nobody sends him anything here: what lies in his mailbox is certain while others are at work.
BOB = FOUND["users"][1]["name"], FOUND["users"][1]["password"]

NAME = "mail.example.test"

# what the name of a port ends in -> what OpenSSL's verifier says to mail.example.test
ERRORS = {
    "self-signed": 18,
    "expired": 10,
    "notyet": 9,
    "wrong-name": 62,
    "unknownca": 20,
    "nochain": 20,
}


# Names of protocols with a hyphen, and those with TLS at once.
COMPOSED = "xmpp-server", "xmpps-server"
IMPLICIT = "imaps pop3s smtps submissions nntps xmpps xmpps-server ircs ftps ldaps https".split()
# What s_client calls them.
STARTTLS = {"submission": "smtp"}


def parts(name: str) -> tuple[str, str]:
    """The protocol of a port and what is special about it."""
    for protocol in COMPOSED:
        if name.startswith(protocol):
            return protocol, name[len(protocol) + 1 :]
    protocol, _, variant = name.partition("-")
    return protocol, variant


def client(name: str, port: int, *more: str, host: str = NAME, ca_file: str = FOUND["ca_file"]) -> tuple[int, str]:
    """OpenSSL's client with every check on: its exit status and what it wrote."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", ca_file]
    command += ["-verify_return_error", "-verify_hostname", host, "-servername", host]
    protocol, _ = parts(name)
    if protocol not in IMPLICIT:
        command += ["-starttls", STARTTLS.get(protocol, protocol)]
    if protocol.startswith("xmpp"):
        command += ["-xmpphost", NAME]
    done = subprocess.run(command + list(more), input="", capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout + done.stderr


def s_client(name: str, port: int) -> None:
    protocol, variant = parts(name)
    if protocol == "http":
        return http_upgrade(name, port)
    if variant == "no-tls":
        status, text = client(name, port)
        assert status != 0 and "BEGIN CERTIFICATE" not in text, text
    elif variant == "clientcert":
        status, text = client(name, port, "-cert", f"{CERTS}/client.crt", "-key", f"{CERTS}/client.key")
        assert status == 0 and "Verification: OK" in text, text
        assert "Acceptable client certificate CA names" in text, text
    elif variant == "tls10":
        status, text = client(name, port, "-tls1", "-cipher", "ALL:@SECLEVEL=0")
        assert status == 0 and "Verification: OK" in text and "TLSv1" in text, text
        status, text = client(name, port)
        assert status != 0, text
    elif variant in ERRORS:
        status, text = client(name, port)
        assert status != 0 and f"verify error:num={ERRORS[variant]}:" in text, text
    else:
        # A certificate with a CN alone passes here: OpenSSL falls back to it unless told not to.
        status, text = client(name, port)
        assert status == 0 and "Verification: OK" in text and "Verified peername" in text, text
    if protocol in ("postgres", "mysql") and not variant:
        # They have one certificate: it is another name and another CA that it does not fit.
        status, text = client(name, port, host="other.example.test")
        assert status != 0 and "verify error:num=62:" in text, text
        status, text = client(name, port, ca_file=f"{CERTS}/other-ca.crt")
        assert status != 0 and "verify error:num=20:" in text, text


def http_upgrade(name: str, port: int) -> None:
    """RFC 2817, which OpenSSL's client does not know."""
    request = b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.sendall(request + b"Upgrade: TLS/1.2\r\nConnection: Upgrade\r\n\r\n")
        answer = b""
        # One byte at a time: what comes after it belongs to TLS.
        while not answer.endswith(b"\r\n\r\n"):
            answer += sock.recv(1)
        assert answer.startswith(b"HTTP/1.1 101 "), answer
        try:
            session = context().wrap_socket(sock, server_hostname=NAME)
        except ssl.SSLCertVerificationError as error:
            assert error.verify_code == ERRORS[parts(name)[1]], error
            return
        with session:
            assert not parts(name)[1], f"{name}: the certificate was taken"
            # The answer to the request that asked for TLS, which it goes on with.
            assert session.recv(15) == b"HTTP/1.1 200 OK"


def context() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=FOUND["ca_file"])


def message(subject: str) -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "bob@example.test", "alice@example.test", subject
    mail.set_content("hello")
    return mail


def imap_login(port: int) -> imaplib.IMAP4:
    session = imaplib.IMAP4("localhost", port, timeout=20)
    session.starttls(context())
    session.login(*ALICE)
    return session


def wait_for(subject: str) -> None:
    """The message comes to alice by way of LMTP."""
    session = imap_login(FOUND["servers"]["dovecot"]["imap"])
    for _ in range(200):
        session.select("INBOX")
        if session.search(None, "SUBJECT", f'"{subject}"')[1] != [b""]:
            session.logout()
            return
        time.sleep(0.05)
    raise AssertionError(f"{subject} has not come")


def imap(port: int) -> None:
    session = imap_login(port)
    assert session.append("INBOX", None, None, b"Subject: appended\r\n\r\nbody\r\n")[0] == "OK"
    session.select("INBOX")
    [found] = session.search(None, "SUBJECT", "appended")[1]
    # Flags that another session changed may come in between.
    parts = session.fetch(found.split()[0].decode(), "(BODY[])")[1]
    assert any(isinstance(part, tuple) and b"Subject: appended" in part[1] for part in parts), parts
    session.logout()


def imap_wrong_password(port: int) -> None:
    session = imaplib.IMAP4("localhost", port, timeout=20)
    session.starttls(context())
    try:
        session.login(ALICE[0], "wrong")
    except imaplib.IMAP4.error:
        session.logout()
        return
    raise AssertionError("a wrong password was taken")


def imap_in_clear(port: int) -> None:
    """A client from another address may not log in before TLS."""
    with socket.create_connection(("127.0.0.1", port), timeout=20, source_address=("127.0.0.2", 0)) as sock:
        assert b"LOGINDISABLED" in sock.recv(4096)


def imap_without_tls(port: int) -> None:
    session = imaplib.IMAP4("localhost", port, timeout=20)
    assert "STARTTLS" not in session.capabilities
    session.login(*ALICE)
    session.logout()


def pop3(port: int) -> None:
    session = poplib.POP3("localhost", port, timeout=20)
    session.stls(context())
    session.user(BOB[0])
    session.pass_(BOB[1])
    assert session.stat()[0] == 1
    assert b"Subject: a first message" in session.retr(1)[1]
    session.quit()


def pop3_without_tls(port: int) -> None:
    session = poplib.POP3("localhost", port, timeout=20)
    assert "STLS" not in session.capa()
    session.quit()


def smtp(port: int) -> None:
    with smtplib.SMTP("localhost", port, timeout=20) as session:
        session.starttls(context=context())
        session.send_message(message(f"by smtp {port}"))
    wait_for(f"by smtp {port}")


def smtp_client_certificate(port: int) -> None:
    with smtplib.SMTP("localhost", port, timeout=20) as session:
        session.starttls(context=context())
        assert session.ehlo()[0] == 421, "no client certificate was asked"
    mine = context()
    mine.load_cert_chain(f"{CERTS}/client.crt", f"{CERTS}/client.key")
    with smtplib.SMTP("localhost", port, timeout=20) as session:
        session.starttls(context=mine)
        session.send_message(message(f"by certificate {port}"))


def smtp_without_tls(port: int) -> None:
    with smtplib.SMTP("localhost", port, timeout=20) as session:
        session.ehlo()
        assert not session.has_extn("starttls")


def submission(port: int) -> None:
    # For Dovecot a client with its own address is secure without TLS.
    with smtplib.SMTP("127.0.0.1", port, timeout=20, source_address=("127.0.0.2", 0)) as session:
        session.ehlo()
        assert not session.esmtp_features.get("auth", "").strip(), "a login is offered in clear"
        session.starttls(context=context())
        session.ehlo()
        try:
            session.login(ALICE[0], "wrong")
            raise AssertionError("a wrong password was taken")
        except smtplib.SMTPAuthenticationError:
            pass
        session.login(*ALICE)
        session.send_message(message(f"by submission {port}"))
        elsewhere = message("elsewhere")
        elsewhere.replace_header("To", "someone@example.org")
        session.send_message(elsewhere)
    wait_for(f"by submission {port}")


def submission_without_login(port: int) -> None:
    with smtplib.SMTP("localhost", port, timeout=20) as session:
        assert session.mail("bob@example.test")[0] == 530
        session.starttls(context=context())
        try:
            session.send_message(message("nobody's"))
        except smtplib.SMTPException:
            return
    raise AssertionError("mail was taken without a login")


def submissions(port: int) -> None:
    with smtplib.SMTP_SSL("localhost", port, timeout=20, context=context()) as session:
        session.login(*ALICE)
        session.send_message(message(f"by submissions {port}"))
    wait_for(f"by submissions {port}")


def lmtp(port: int) -> None:
    with smtplib.LMTP("localhost", port, timeout=20) as session:
        session.starttls(context=context())
        session.ehlo()
        session.send_message(message(f"by lmtp {port}"))
        try:
            session.sendmail("bob@example.test", ["nobody-here@example.test"], "Subject: x\r\n\r\n")
            raise AssertionError("an unknown user was taken")
        except smtplib.SMTPRecipientsRefused:
            pass
    wait_for(f"by lmtp {port}")


class Dialog:
    """Lines over a socket, in clear or in TLS."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._read = b""

    def say(self, text: str) -> None:
        self.sock.sendall(text.encode())

    def hear(self, wanted: str) -> str:
        """All up to what is wanted."""
        while wanted.encode() not in self._read:
            data = self.sock.recv(4096)
            assert data, f"closed after {self._read!r}, without {wanted!r}"
            self._read += data
        heard, _, self._read = self._read.partition(wanted.encode())
        return heard.decode() + wanted

    def line(self) -> str:
        return self.hear("\r\n")

    def tls(self) -> None:
        assert not self._read, f"more than the answer came in clear: {self._read!r}"
        self.sock = context().wrap_socket(self.sock, server_hostname=NAME)

    def __enter__(self) -> "Dialog":
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


def nntp(port: int) -> None:
    with Dialog(port) as dialog:
        assert dialog.line().startswith("20")
        dialog.say("CAPABILITIES\r\n")
        assert "\r\nSTARTTLS\r\n" in dialog.hear("\r\n.\r\n")
        dialog.say("STARTTLS\r\n")
        assert dialog.line().startswith("382 ")
        dialog.tls()
        dialog.say("CAPABILITIES\r\n")
        assert "STARTTLS" not in dialog.hear("\r\n.\r\n")
        dialog.say("GROUP example.test\r\n")
        assert dialog.line().startswith("211 ")


def stream(dialog: Dialog, kind: str) -> str:
    dialog.say(
        f"<?xml version='1.0'?><stream:stream to='{NAME}' version='1.0' xmlns='jabber:{kind}'"
        " xmlns:stream='http://etherx.jabber.org/streams'>"
    )
    return dialog.hear("</stream:features>")


def xmpp(kind: str, port: int) -> None:
    with Dialog(port) as dialog:
        assert "<required/></starttls>" in stream(dialog, kind)
        dialog.say("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        assert dialog.hear("/>").startswith("<proceed ")
        dialog.tls()
        features = stream(dialog, kind)
        assert "starttls" not in features
        if kind == "client":
            login = base64.b64encode("\0".join(["", *ALICE]).encode()).decode()
            dialog.say(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{login}</auth>")
            assert dialog.hear("/>").startswith("<success ")


def irc(port: int) -> None:
    with Dialog(port) as dialog:
        dialog.say("CAP LS 302\r\n")
        assert " tls " in dialog.line()
        dialog.say("STARTTLS\r\n")
        assert " 670 " in dialog.line()
        dialog.tls()
        dialog.say("CAP END\r\nNICK alice\r\nUSER alice 0 * :alice\r\n")
        assert "irc.example.test" in dialog.hear(" 001 alice ")


class Resuming(ftplib.FTP_TLS):
    """The data channel resumes the session of the control channel."""

    def ntransfercmd(self, cmd: str, rest: int | str | None = None) -> tuple[socket.socket, int | None]:
        sock, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        assert isinstance(self.sock, ssl.SSLSocket)
        session = self.sock.session
        return self.context.wrap_socket(sock, server_hostname=self.host, session=session), size


def transfers(session: ftplib.FTP_TLS, port: int) -> None:
    session.connect("localhost", port)
    session.login()
    session.prot_p()
    text: list[bytes] = []
    session.retrbinary("RETR hello.txt", text.append)
    assert b"".join(text) == b"hello from vsftpd\n"
    assert {"hello.txt", "incoming"} <= set(session.nlst())
    session.storbinary(f"STOR incoming/{uuid.uuid4().hex}", io.BytesIO(b"hello\n"))


def ftp(port: int) -> None:
    with ftplib.FTP_TLS(context=context(), timeout=20) as session:
        transfers(session, port)


def ftp_reuse(port: int) -> None:
    with ftplib.FTP_TLS(context=context(), timeout=20) as session:
        try:
            transfers(session, port)
            raise AssertionError("a data channel with a session of its own was taken")
        except ftplib.error_perm as error:
            assert str(error).startswith("522 "), error
    with Resuming(context=context(), timeout=20) as session:
        transfers(session, port)


def tool(*command: str, **environment: str) -> str:
    """What a real client prints; nothing where it is not installed."""
    if not shutil.which(command[0]):
        return ""
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ldap(port: int) -> None:
    # By address: it would look up what "localhost" is called otherwise.
    login = ["-x", "-D", "cn=alice,dc=example,dc=test", "-w", ALICE[1]]
    text = tool("ldapwhoami", "-ZZ", "-H", f"ldap://127.0.0.1:{port}", *login, LDAPTLS_CACERT=FOUND["ca_file"])
    assert not text or "cn=alice" in text, text


def postgres(port: int) -> None:
    target = f"host=localhost port={port} user={ALICE[0]} dbname=postgres sslmode=verify-full"
    target += f" sslrootcert={FOUND['ca_file']}"
    text = tool("psql", target, "-Atc", "select ssl from pg_stat_ssl where pid = pg_backend_pid()", PGPASSWORD=ALICE[1])
    assert text in ("", "t\n"), text


SESSIONS: list[tuple[str, str, Callable[[int], None]]] = [
    ("dovecot", "imap", imap),
    ("dovecot", "imap", imap_wrong_password),
    ("dovecot", "imap", imap_in_clear),
    ("dovecot", "imap-no-tls", imap_without_tls),
    ("dovecot", "pop3", pop3),
    ("dovecot", "pop3-no-tls", pop3_without_tls),
    ("dovecot", "lmtp", lmtp),
    ("dovecot", "submission", submission),
    ("dovecot", "submissions", submissions),
    ("postfix", "smtp", smtp),
    ("postfix", "smtp-clientcert", smtp_client_certificate),
    ("postfix", "smtp-no-tls", smtp_without_tls),
    ("postfix", "submission", submission),
    ("postfix", "submission", submission_without_login),
    ("postfix", "smtps", submissions),
    ("inn2", "nntp", nntp),
    ("prosody", "xmpp", partial(xmpp, "client")),
    ("prosody", "xmpp-server", partial(xmpp, "server")),
    ("inspircd", "irc", irc),
    ("vsftpd", "ftp", ftp),
    ("vsftpd", "ftp-reuse", ftp_reuse),
    ("slapd", "ldap", ldap),
    ("postgresql", "postgres", postgres),
]


def main() -> int:
    cases: list[tuple[str, Callable[[], None]]] = []
    for server, ports in FOUND["servers"].items():
        for name, port in ports.items():
            cases.append((f"s_client {server} {name}", partial(s_client, name, port)))
    both = {"dovecot", "postfix"} <= set(FOUND["servers"])
    for server, name, play in SESSIONS:
        port = FOUND["servers"].get(server, {}).get(name)
        # Mail goes round through both of them: Postfix takes logins and delivers by Dovecot.
        if port and (both or play not in (smtp, submission, submissions)):
            cases.append((f"session {server} {name} {getattr(play, '__name__', '')}", partial(play, port)))

    cases += check_domains.cases(FOUND)

    failed = 0
    with ThreadPoolExecutor(4) as pool:
        for name, wait in [(name, pool.submit(case)) for name, case in cases]:
            try:
                wait.result()
            except Exception as error:
                failed += 1
                print(f"FAILED {name}: {type(error).__name__}: {error}")
    print(f"{len(cases) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
