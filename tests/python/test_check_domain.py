"""`starttls check DOMAIN`: the table of verdicts, advice, what is asked in clear, and real domains."""

import itertools
import json
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
import starttls
from peers import line, play
from starttls import _verdict, cli
from starttls._advice import advise
from starttls._clear import in_clear
from starttls._domain_check import Host, check_domain
from starttls._printable import printable
from starttls._show_domain import DomainScreen
from starttls.outcome import Outcome

DATA = Path(__file__).parents[1]
MX = ("secure", "insecure")
TLSA = ("match", "mismatch", "unusable", "none", "failed", "untested")
STS = ("enforce", "unnamed", "testing", "none")
TLS = ("pkix", "tls", "no", "unknown")


def rows(name: str) -> list[list[str]]:
    return [text.split("\t") for text in (DATA / name).read_text().splitlines() if text and not text.startswith("#")]


def fits(pattern: str, fact: str) -> bool:
    return pattern == "*" or fact in pattern.split("|")


def test_every_verdict():
    table = rows("verdicts.tsv")
    used = set()
    for facts in itertools.product(MX, TLSA, STS, TLS):
        found = [n for n, row in enumerate(table) if all(map(fits, row, facts))]
        assert len(found) == 1, f"{facts}: {len(found)} rows"
        used.update(found)
        mx, tlsa, sts, tls = facts
        verdict = _verdict.decide(
            mx, tlsa, sts, {"pkix": "yes", "tls": "yes"}.get(tls, tls), "yes" if tls == "pkix" else "no"
        )
        assert [verdict.level, verdict.attack] == table[found[0]][4:6], facts
        assert verdict.says and verdict.could
    assert len(used) == len(table)


def test_nothing_in_the_table_is_idle():
    used = set()
    for mx, tlsa, sts, tls, pkix in itertools.product(MX, TLSA, STS, ("yes", "no", "unknown"), ("yes", "no")):
        facts = (mx, tlsa, sts, tls, pkix)
        used.add(next(n for n, row in enumerate(_verdict.TABLE) if all(map(fits, row, facts))))
    assert len(used) == len(_verdict.TABLE)
    assert {row[5] for row in _verdict.TABLE} == set(_verdict.SAYS) == set(_verdict.LEVELS)
    assert {row[6] for row in _verdict.TABLE} == set(_verdict.ATTACKS)


def facts(name: str, **changed: str) -> _verdict.HostFacts:
    usual = {"mx": "secure", "tlsa": "match", "sts": "none", "tls": "yes", "pkix": "yes"}
    return _verdict.HostFacts(name=name, **{**usual, **changed})


def test_a_domain_is_as_good_as_its_weakest_host():
    good, plain, weak = facts("a"), facts("b", tlsa="none", tls="no"), facts("c", tlsa="none")
    assert _verdict.of_domain([good, weak])[0].level == "verify"
    verdict, host = _verdict.of_domain([good, weak, plain])
    assert verdict.level == "plain" and host is plain
    # Where no mail goes none is betrayed.
    refused, gone = facts("d", tlsa="mismatch"), facts("e", tls="unknown")
    assert _verdict.of_domain([refused, good, gone])[0].level == "dane"
    # The one that was not reached might take it.
    assert _verdict.of_domain([refused, gone])[0].level == "unknown"
    assert _verdict.of_domain([]) == (_verdict.Verdict("unknown", "not-known"), None)


@pytest.mark.parametrize(
    ("gone", "level", "attack"),
    [
        ({"tlsa": "none"}, "may", "strip"),
        ({"tlsa": "none", "sts": "testing"}, "may", "strip-reported"),
        ({"tlsa": "unusable"}, "encrypt", "impersonate"),
        ({"tlsa": "none", "sts": "enforce"}, "sts", "hide-policy"),
        ({"tlsa": "untested"}, "dane", "dnssec"),
        ({"tlsa": "match"}, "dane", "dnssec"),
        ({"tlsa": "failed"}, "dane", "dnssec"),
    ],
)
def test_a_host_that_was_not_reached_counts(gone, level, attack):
    """Who blocks the others can play it."""
    lost = facts("b", tls="unknown", pkix="no", **gone)
    verdict, host = _verdict.of_domain([facts("a"), lost])
    assert (verdict.level, verdict.attack) == (level, attack)
    assert (host is lost) == (level != "dane")
    # Alone it is not known, but what can be done about it is.
    alone = _verdict.of_domain([lost])[0]
    assert alone.level == ("held" if gone["tlsa"] == "failed" else "unknown")


# --- advice ---------------------------------------------------------------------------------------

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TLSA_RECORD = {"failure": None, "string": ["3 1 1 ab"], "why": None}


def survey(**changed):
    usual = {
        "domain": "a.test",
        "trusted_resolver": True,
        "mx": {"proof": "secure", "implicit": False, "error": None},
        "hosts": [],
        "sts": {
            "records": [],
            "id": "1",
            "mode": "enforce",
            "max_age": 604800,
            "mx": [],
            "failure": None,
            "why": None,
        },
        "tlsrpt": {"record": "v=TLSRPTv1; rua=mailto:a@a.test", "rua": ["mailto:a@a.test"], "error": None},
        "notes": [],
        "lookups": 1,
    }
    return {**usual, **changed}


def outcome(**changed) -> Outcome:
    certificate = {"subject": "", "issuer": "", "names": [], "sha256": "", "spki_sha256": ""}
    usual = {
        "protocol": "smtp",
        "role": "client",
        "level": "strict",
        "effective": "dane",
        "peer": {"name": "mx.a.test", "name_from": "dnssec", "address": "127.0.0.1", "port": 25},
        "sni": None,
        "offered": True,
        "channel": "tls",
        "because": None,
        "tls": {
            "version": "TLSv1.3",
            "cipher": "x",
            "group": None,
            "forward_secrecy": True,
            "resumed": False,
            "alpn": None,
        },
        "identity": {"proven_by": "dane", "name": "mx.a.test", "evidence": "x"},
        "checks": [{"check": kind, "ok": True, "why": None} for kind in ("chain", "name", "time", "dane")],
        "certificate": {**certificate, "not_after": "2026-12-31T00:00:00Z"},
        "suspicions": [],
        "notes": [],
        "transcript": [],
        "attempts": [],
        "round_trips": 1,
        "milliseconds": {"connect": 1, "negotiate": 1, "handshake": 1},
        "domain": None,
    }
    if "not_after" in changed:
        usual["certificate"] = {**certificate, "not_after": changed.pop("not_after")}
    return Outcome.from_json(json.dumps({**usual, **changed}))


def host(name="mx.a.test", seen=None, **published):
    usual = {
        "name": name,
        "preference": 10,
        "addresses": ["127.0.0.1"],
        "tlsa": TLSA_RECORD,
        "tlsa_usable": True,
        "named_by_sts": True,
        "error": None,
    }
    return Host(name, {**usual, **published}, outcome=outcome() if seen is None else seen)


def checks(**failed: str):
    kinds = ("chain", "name", "time", "dane")
    return [{"check": kind, "ok": kind not in failed, "why": failed.get(kind)} for kind in kinds]


STS_BAD = {**survey()["sts"], "mode": None, "failure": "sts-webpki-invalid", "why": "the certificate has expired"}
UNUSABLE = {"tlsa": {"failure": "tlsa-invalid", "string": ["1 1 1 ab"], "why": "x"}, "tlsa_usable": False}
NO_TLSA = {"tlsa": None, "tlsa_usable": False}


@pytest.mark.parametrize(
    ("found", "hosts", "wanted"),
    [
        (survey(), [host()], None),
        (survey(), [host(seen=outcome(checks=checks(dane="no match")))], "the TLSA records of mx.a.test do not match"),
        (survey(), [host(**UNUSABLE)], "none of the TLSA records of mx.a.test can be used for SMTP (1 1 1 ab)"),
        (survey(), [host(named_by_sts=False)], "the MTA-STS policy does not name the MX host mx.a.test"),
        (survey(), [host(seen=outcome(not_after="2026-01-06T12:00:00Z"))], "mx.a.test expires in 5 days"),
        (survey(), [host(seen=outcome(not_after="2025-12-31T00:00:00Z"))], "mx.a.test expired a day ago"),
        (survey(), [host(), host("mx2.a.test", **NO_TLSA)], "mx2.a.test: no TLSA records, so whoever blocks"),
        (survey(), [host(**NO_TLSA)], "no host has TLSA records"),
        (survey(), [host(seen=outcome(checks=checks(chain="self-signed")), **NO_TLSA)], "to most senders: self-signed"),
        (survey(sts=STS_BAD), [host()], "of no use (sts-webpki-invalid): the certificate has expired"),
        (survey(sts={**survey()["sts"], "mode": "testing"}), [host()], "in mode testing"),
        (survey(sts={**survey()["sts"], "mode": None}), [host()], "no MTA-STS policy"),
        (survey(sts={**survey()["sts"], "max_age": 60}), [host()], "is kept for 60 s only"),
        (survey(tlsrpt={"record": None, "rua": [], "error": None}), [host()], "no TLSRPT record"),
        (
            survey(mx={"proof": "insecure", "implicit": False, "error": None}),
            [host(**NO_TLSA)],
            "the MX records are not signed",
        ),
        (
            survey(),
            [
                host(
                    seen=outcome(
                        offered=False, channel="plain", because="not-offered", tls=None, certificate=None, checks=[]
                    )
                )
            ],
            "mx.a.test has TLSA records and does not do TLS",
        ),
    ],
)
def test_advice(found, hosts, wanted):
    advice = advise(found, hosts, NOW)
    if wanted is None:
        assert advice == []
    else:
        assert any(wanted in text for text in advice), advice


def test_advice_about_passwords():
    one = host()
    one.clear = {"keywords": [], "auth": ["PLAIN"], "mail": "accepted", "reply": "250", "error": None}
    assert advise(survey(), [one], NOW) == ["mx.a.test offers AUTH before TLS (PLAIN): passwords may go in clear"]


def test_a_resolver_that_is_not_trusted_is_told_of_once(capsys):
    import sys

    screen = DomainScreen(sys.stdout)
    for _ in range(2):
        screen.published(
            survey(trusted_resolver=False, mx={"proof": "indeterminate", "implicit": False, "error": None})
        )
    assert capsys.readouterr().out.count("not trusted to validate DNSSEC") == 1


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
