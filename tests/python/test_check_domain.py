"""`starttls check DOMAIN`: the table of verdicts, advice, what is asked in clear, and real domains."""

import json
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import starttls
from peers import line, play
from starttls import cli
from starttls._clear import in_clear
from starttls._domain_check import check_domain
from starttls._printable import printable
from tables import rows

# --- in clear -------------------------------------------------------------------------------------


def ask(peer, script, until_closed=True):
    heard: list[bytes] = []

    def serve(sock: socket.socket) -> None:
        heard.extend(play(sock, script))
        if until_closed:
            while data := sock.recv(100):
                heard.append(data)

    return in_clear("localhost", peer(serve).port, ["127.0.0.1"], 5), heard


HELLO = b"220 mx.a.test\r\n"
EHLO = b"250-mx.a.test\r\n250-SIZE 10\r\n250-AUTH PLAIN LOGIN\r\n250-AUTH=LOGIN X\r\n250 STARTTLS\r\n"


def test_in_clear(peer):
    found, heard = ask(peer, [HELLO, None, EHLO, None, b"250 ok\r\n", None, b"250 ok\r\n", None, b"221 bye\r\n"])
    assert found == {
        "keywords": ["SIZE 10", "AUTH PLAIN LOGIN", "AUTH=LOGIN X", "STARTTLS"],
        "auth": ["LOGIN", "PLAIN", "X"],
        "mail": "accepted",
        "reply": "250 ok",
        "error": None,
    }
    # Nobody is named, nothing is sent.
    assert heard == [b"EHLO [127.0.0.1]\r\n", b"MAIL FROM:<>\r\n", b"RSET\r\n", b"QUIT\r\n"]


@pytest.mark.parametrize(
    ("script", "mail", "error"),
    [
        (
            [HELLO, None, b"250 x\r\n", None, b"530 Must issue STARTTLS first\r\n", None, b"221 x\r\n"],
            "wants-tls",
            None,
        ),
        ([HELLO, None, b"250 x\r\n", None, b"451 later\r\n", None, b"221 x\r\n"], "refused", None),
        ([b"554 go away\r\n"], None, "the greeting was: 554 go away"),
        ([HELLO, None, b"502 what\r\n"], None, "the answer to EHLO was: 502 what"),
        ([b"SSH-2.0-x\r\n"], None, "no reply of SMTP: SSH-2.0-x"),
        ([b"220 \x1b[31m\xff\r\n", None, b"250 x\r\n250 y\r\n"], None, "speaks before it is asked"),
        ([b"9\x1b[2J\xff\r\n"], None, r"no reply of SMTP: 9\x1b[2J\xff"),
        ([b"220-x\r\n" * 20000], None, "says more than 65536 bytes"),
        ([], None, "closed the connection"),
    ],
)
def test_in_clear_with_servers_that_are_otherwise(peer, script, mail, error):
    found, _ = ask(peer, script, until_closed=mail is not None)
    assert found["mail"] == mail
    assert error is None if found["error"] is None else error in found["error"], found


def test_in_clear_ends_in_time():
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = in_clear("localhost", server.getsockname()[1], ["127.0.0.1"], 0.3)
    assert "time" in found["error"].lower()
    assert in_clear("localhost", 1, ["127.0.0.1"], 5)["error"]


def test_printable_is_the_core_s():
    assert printable(b"250 OK") == "250 OK"
    assert printable("Grüße".encode()) == "Grüße"
    assert printable(b"a\x1b[31mb\0\xff") == r"a\x1b[31mb\x00\xff"
    assert printable("\u202ex".encode()) == r"\xe2\x80\xaex"
    assert printable("a\u2028b\u200b".encode()) == r"a\xe2\x80\xa8b\xe2\x80\x8b"
    assert len(printable(b"a" * 600)) == 513


# --- the command, with a resolver of this file's ----------------------------------------------------


class Zone:
    """A DNS server of a few records, which says that it has validated them."""

    def __init__(self, records: dict[tuple[str, int], list[bytes]]) -> None:
        self._records = records
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.spec = f"127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                question, who = self._socket.recvfrom(4096)
            except OSError:
                return
            end = question.index(b"\0", 12) + 5
            name, at = "", 12
            while size := question[at]:
                name += question[at + 1 : at + 1 + size].decode().lower() + "."
                at += 1 + size
            (kind,) = struct.unpack(">H", question[end - 4 : end - 2])
            found = self._records.get((name[:-1], kind), [])
            known = any(name[:-1] == one for one, _ in self._records)
            header = question[:2] + struct.pack(">HHHHH", 0x81A0 | (0 if known else 3), 1, len(found), 0, 0)
            answers = b"".join(b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 60, len(r)) + r for r in found)
            self._socket.sendto(header + question[12:end] + answers, who)

    def close(self) -> None:
        self._socket.close()


def wire(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


@pytest.fixture
def zone() -> Iterator[Callable[..., str]]:
    zones: list[Zone] = []

    def make(records: dict[tuple[str, int], list[bytes]]) -> str:
        zones.append(Zone(records))
        return zones[-1].spec

    yield make
    for one in zones:
        one.close()


A, MX_TYPE, TXT = 1, 15, 16


def run(capsys, *arguments: str) -> tuple[int, str]:
    try:
        status = cli.main(["check", *arguments])
    except SystemExit as e:
        status = int(str(e.code))
    return status, capsys.readouterr().out


def no_tls(sock: socket.socket) -> None:
    sock.sendall(HELLO)
    while command := line(sock):
        match command[:4].upper():
            case b"EHLO":
                sock.sendall(b"250-mx.a.test\r\n250 \x1b]0;evil\x07\r\n")
            case b"MAIL" | b"RSET":
                sock.sendall(b"250 ok\r\n")
            case b"QUIT":
                sock.sendall(b"221 bye\r\n")
                return
            case _:
                sock.sendall(b"502 no\r\n")


def test_a_domain_without_tls(capsys, peer, zone):
    spec = zone({("a.test", MX_TYPE): [b"\0\x0a" + wire("mx.a.test")], ("mx.a.test", A): [b"\x7f\0\0\x01"]})
    options = ["--resolver", spec, "--port", str(peer(no_tls).port), "--timeout", "10"]
    status, out = run(capsys, "--json", *options, "a.test")
    found = json.loads(out)
    assert status == 1 and found["error"] == "not-offered" and found["met"] is False
    assert list(found)[-3:] == ["survey", "hosts", "verdict"]
    assert found["survey"]["mx"]["proof"] == "secure"
    (one,) = found["hosts"]
    assert one["host"] == "mx.a.test" and one["verdict"] == "plain" and one["error"] == "not-offered"
    assert one["clear"]["mail"] == "accepted" and one["clear"]["keywords"] == [r"\x1b]0;evil\x07"]
    assert found["verdict"]["level"] == "plain" and found["verdict"]["attack"].startswith("read and change")
    assert "mx.a.test does not do STARTTLS" in found["verdict"]["advice"]

    status, out = run(capsys, *options, "--level", "opportunistic", "a.test")
    assert status == 0 and "\x1b" not in out
    for text in (
        "MX           signed (DNSSEC), and valid",
        "10 mx.a.test  127.0.0.1",
        "S: 220 mx.a.test",
        "MAIL FROM is accepted without TLS: 250 ok",
        "a.test: no TLS: all mail goes in clear",
        "=> level opportunistic is met, but in clear, because: not-offered",
    ):
        assert text in out, out


def test_a_domain_that_takes_no_mail(capsys, zone):
    spec = zone({("a.test", MX_TYPE): [b"\0\0\0"]})
    status, out = run(capsys, "--json", "--resolver", spec, "a.test")
    found = json.loads(out)
    assert status == 1 and found["error"] == "null-mx" and found["verdict"]["level"] == "no-mail"
    assert found["hosts"] == [] and found["verdict"]["advice"] == []
    assert "a.test: takes no mail" in run(capsys, "--resolver", spec, "a.test")[1]


def test_a_domain_of_which_nobody_answers(capsys):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        resolver = f"127.0.0.1:{silent.getsockname()[1]}"
        status, out = run(capsys, "--json", "--timeout", "0.5", "--resolver", resolver, "a.test")
    found = json.loads(out)
    assert status == 3 and found["error"] in ("timeout", "lookup-failed") and found["temporary"] is True
    assert "survey" in found and found["hosts"] == []


def says_454(sock: socket.socket) -> None:
    play(sock, [HELLO, None, EHLO, None, b"454 not now\r\n"])
    while line(sock)[:4].upper() != b"QUIT":
        sock.sendall(b"250 ok\r\n")


@pytest.mark.parametrize("level", ["strict", "may"])
def test_the_verdict_does_not_depend_on_the_level(capsys, peer, zone, level):
    spec = zone({("a.test", MX_TYPE): [b"\0\x0a" + wire("mx.a.test")], ("mx.a.test", A): [b"\x7f\0\0\x01"]})

    def serve(sock: socket.socket) -> None:
        try:
            says_454(sock)
        except ConnectionError:
            pass

    options = ["--resolver", spec, "--port", str(peer(serve).port), "--timeout", "5", "--level", level]
    found = json.loads(run(capsys, "--json", *options, "a.test")[1])
    assert found["verdict"]["level"] == "plain"


def test_two_hosts_and_one_is_weak(capsys, peer, zone):
    spec = zone(
        {
            ("a.test", MX_TYPE): [b"\0\x0a" + wire("mx.a.test"), b"\0\x14" + wire("gone.a.test")],
            ("mx.a.test", A): [b"\x7f\0\0\x01"],
            ("gone.a.test", A): [b"\x7f\0\0\x02"],
        }
    )
    options = ["--resolver", spec, "--port", str(peer(no_tls).port), "--timeout", "10", "--level", "may"]
    status, out = run(capsys, *options, "a.test")
    assert status == 0 and "unknown      gone.a.test" in out and "plain        mx.a.test" in out
    assert "gone.a.test does not answer" in out


# --- the real ones -----------------------------------------------------------------------------------

# Of what level `opportunistic` obtains, which verdicts agree with it.
AGREES = {
    "dane": ("dane", "dane-host"),
    "dane|sts": ("sts", "dane-host"),
    "sts": ("sts",),
    "may": ("may", "verify"),
    "encrypt": ("encrypt",),
    "plain": ("plain",),
    "null-mx": ("no-mail",),
    "io": ("unknown",),
    "refused": ("unknown",),
    "lookup-failed": ("unknown", "held"),
    "dns-bogus|lookup-failed": ("unknown", "held"),
    **dict.fromkeys(
        ("not-offered", "dane-mismatch", "untrusted", "expired", "name-mismatch", "sts-mismatch"), ("refused",)
    ),
}


def real_policy(level: str) -> starttls.Policy:
    listing = json.loads(Path(os.environ["STARTTLS_SERVERS"]).read_text())
    if "smtp_port" not in listing.get("dns", {}) or not listing.get("sts", {}).get("port"):
        pytest.skip("name servers, Postfix or the policy host were left out")
    port = listing["dns"]["smtp_port"]
    return starttls.Policy(
        level,
        ca_file=listing["ca_file"],
        resolver=listing["dns"]["resolver"],
        port=port,
        tlsa_port=port,
        sts_port=listing["sts"]["port"],
        timeout=20,
    )


def play_real_domains() -> list[str]:
    """What does not come out as the table of domains has it; for the process that test_real_domains starts."""
    policy = real_policy("opportunistic")
    table = [row for row in rows("tlsa/domains.tsv") if row[4] != "-"]
    assert len(table) > 50

    def one(row: list[str]) -> str | None:
        checked = check_domain(row[0], policy, None)
        verdict = checked.more["verdict"]
        if verdict["level"] in AGREES[row[4]]:
            return None
        return f"{row[0]}: {row[4]}, and the verdict is {verdict}"

    with ThreadPoolExecutor(8) as pool:
        return [wrong for wrong in pool.map(one, table) if wrong]


def test_real_domains(servers):
    """The verdict agrees with what is obtained, for every domain of tests/tlsa/domains.tsv."""
    import subprocess
    import sys

    real_policy("may")
    # The policy host is proven by the system's trust store, whatever the policy's CA is.
    environment = {**os.environ, "SSL_CERT_FILE": servers.ca_file, "SSL_CERT_DIR": "/nonexistent"}
    code = "import test_check_domain as t; print('\\n'.join(t.play_real_domains()))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        cwd=Path(__file__).parent,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "", done.stdout
