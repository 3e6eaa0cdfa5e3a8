#!/usr/bin/env python3
"""Are the servers what their names say? OpenSSL's own client and the standard library's are the judges.

tests/servers/run.py -- python3 tests/servers/check.py
"""

import imaplib
import json
import os
import poplib
import smtplib
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from functools import partial
from pathlib import Path

FOUND = json.loads(Path(os.environ["STARTTLS_SERVERS"]).read_text())
CERTS = FOUND["certs_dir"]
ALICE = FOUND["users"][0]["name"], FOUND["users"][0]["password"]
# Nobody sends him anything here: what lies in his mailbox is certain while others are at work.
BOB = FOUND["users"][1]["name"], FOUND["users"][1]["password"]

# what the name of a port ends in -> what OpenSSL's verifier says to mail.example.test
ERRORS = {
    "selfsigned": 18,
    "expired": 10,
    "notyet": 9,
    "wrongname": 62,
    "unknownca": 20,
    "nochain": 20,
}


def client(name: str, port: int, *more: str) -> tuple[int, str]:
    """OpenSSL's client with every check on: its exit status and what it wrote."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", FOUND["ca_file"]]
    command += ["-verify_return_error", "-verify_hostname", "mail.example.test", "-servername", "mail.example.test"]
    protocol = name.partition("-")[0]
    if not protocol.endswith("s"):
        command += ["-starttls", {"submission": "smtp"}.get(protocol, protocol)]
    done = subprocess.run(command + list(more), input="", capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout + done.stderr


def s_client(name: str, port: int) -> None:
    variant = name.partition("-")[2]
    if variant == "notls":
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


SESSIONS: list[tuple[str, str, Callable[[int], None]]] = [
    ("dovecot", "imap", imap),
    ("dovecot", "imap", imap_wrong_password),
    ("dovecot", "imap", imap_in_clear),
    ("dovecot", "imap-notls", imap_without_tls),
    ("dovecot", "pop3", pop3),
    ("dovecot", "pop3-notls", pop3_without_tls),
    ("dovecot", "lmtp", lmtp),
    ("dovecot", "submission", submission),
    ("dovecot", "submissions", submissions),
    ("postfix", "smtp", smtp),
    ("postfix", "smtp-clientcert", smtp_client_certificate),
    ("postfix", "smtp-notls", smtp_without_tls),
    ("postfix", "submission", submission),
    ("postfix", "submission", submission_without_login),
    ("postfix", "smtps", submissions),
]


def main() -> int:
    cases: list[tuple[str, Callable[[], None]]] = []
    for server, ports in FOUND["servers"].items():
        for name, port in ports.items():
            cases.append((f"s_client {server} {name}", partial(s_client, name, port)))
    both = len(FOUND["servers"]) == 2
    for server, name, play in SESSIONS:
        port = FOUND["servers"].get(server, {}).get(name)
        # Mail goes round through both of them: Postfix takes logins and delivers by Dovecot.
        if port and (both or play not in (smtp, submission, submissions)):
            cases.append((f"{play.__name__} {server} {name}", partial(play, port)))

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
