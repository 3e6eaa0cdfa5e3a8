"""TLSRPT with the real collector: what it counts, and what its reports and ours say of the same events."""

import gzip
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
ORGANIZATION, CONTACT = "Sender Inc.", "tls@sender.example"
RESULTS = {
    "starttls-not-supported": 201,
    "certificate-host-mismatch": 202,
    "certificate-not-trusted": 203,
    "certificate-expired": 204,
    "validation-failure": 205,
    "sts-policy-fetch-error": 301,
    "sts-policy-invalid": 302,
    "sts-webpki-invalid": 303,
    "tlsa-invalid": 304,
    "dnssec-invalid": 305,
    "dane-required": 306,
}


@pytest.fixture(scope="module")
def program() -> Path:
    """As `cargo test` leaves it; built if it is not there."""
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    program = target / "debug" / "tlsrpt"
    if not program.exists():
        command = ["cargo", "build", "--quiet", "-p", "conformance", "--bin", "tlsrpt"]
        subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "CARGO_TARGET_DIR": str(target)})
    return program


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory whose name is short enough for a socket."""
    directory = Path(tempfile.mkdtemp(prefix="tlsrpt-"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def daemon() -> Iterator[Callable[..., "subprocess.Popen[bytes]"]]:
    started: list[subprocess.Popen[bytes]] = []

    def start(*command: object) -> "subprocess.Popen[bytes]":
        started.append(subprocess.Popen([str(word) for word in command]))
        return started[-1]

    yield start
    for process in started:
        process.terminate()
        assert process.wait(10) == 0


def events() -> list[dict[str, Any]]:
    """Every result type under every policy, successes, several policies and several failures at once."""
    policies = [
        {"policy-type": "tlsa", "policy-string": ["3 1 1 00ff", "3 1 1 aa00"], "policy-domain": "mx.a.test"},
        {
            "policy-type": "sts",
            "policy-string": ["version: STSv1", "mode: testing", "mx: *.a.test", "max_age: 86400"],
            "policy-domain": "a.test",
            "mx-host": ["*.a.test"],
        },
        {"policy-type": "no-policy-found", "policy-domain": "a.test"},
    ]
    where = {
        "sending-mta-ip": "192.0.2.1",
        "receiving-mx-hostname": "mx.a.test",
        "receiving-mx-helo": "mail.a.test",
        "receiving-ip": "2001:db8::25",
    }
    failures = [
        {"result-type": result, **where, "failure-reason-code": f'why "{result}" \\ Grüße'} for result in RESULTS
    ]
    failures.append({"result-type": "validation-failure", "additional-information": "https://sender.example/x"})
    all_events = []
    for domain in ("a.test", "b.test", "xn--bcher-kva.test"):
        record = f"v=TLSRPTv1; rua=mailto:tls@{domain}"
        for n, failure in enumerate(failures):
            for policy in policies:
                result = {"policy": policy, "failures": [failure]}
                all_events += [{"domain": domain, "record": record, "policies": [result]}] * (n % 3 + 1)
        both = [
            {"policy": policies[0], "failures": []},
            {"policy": policies[1], "failures": [failures[1], failures[3]]},
        ]
        all_events += [{"domain": domain, "record": record, "policies": both}] * 7
        good = [{"policy": policies[2], "failures": []}]
        all_events += [{"domain": domain, "record": record, "policies": good}] * 50
    return all_events


def until(what: Callable[[], Any], seconds: float = 30) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if result := what():
            return result
        time.sleep(0.1)
    raise AssertionError("it did not come about")


def ask(database: Path, question: str) -> list[Any]:
    try:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
            return connection.execute(question).fetchall()
    except sqlite3.OperationalError:
        return []  # not made yet, or just being written


def sorted_report(report: dict[str, Any]) -> dict[str, Any]:
    """Lists without an order of their own, ordered; without the id, which is each reporter's own."""
    policies = [
        {**p, "failure-details": sorted(p["failure-details"], key=lambda d: json.dumps(d, sort_keys=True))}
        for p in report["policies"]
    ]
    policies.sort(key=lambda p: json.dumps(p, sort_keys=True))
    return {key: value for key, value in report.items() if key != "report-id"} | {"policies": policies}


def test_the_collector_counts_and_its_reports_are_ours(
    program: Path, short: Path, daemon: Callable[..., "subprocess.Popen[bytes]"]
) -> None:
    socket, database = short / "socket", short / "collectd.sqlite"
    storage = f"sqlite:///{database}"
    collectd = daemon(
        BIN / "tlsrpt-collectd",
        "--storage",
        storage,
        "--socketname",
        socket,
        "--sockettimeout",
        1,
        "--log_level",
        "info",
    )
    until(socket.exists)

    told = events()
    lines = "".join(json.dumps(event) + "\n" for event in told)
    subprocess.run([program, "send", socket], input=lines.encode(), check=True)

    # Each policy of each session is counted, and each failure.
    sessions: Counter[tuple[str, str, int]] = Counter()
    failures: Counter[tuple[str, str, int]] = Counter()
    for event in told:
        for result in event["policies"]:
            kind = result["policy"]["policy-type"]
            sessions[event["domain"], kind, int(bool(result["failures"]))] += 1
            for failure in result["failures"]:
                failures[event["domain"], kind, RESULTS[failure["result-type"]]] += 1
    kinds = {1: "tlsa", 2: "sts", 9: "no-policy-found"}

    def counted() -> bool:
        rows = ask(database, "SELECT sum(cntrtotal) FROM finalresults")
        return bool(rows) and rows[0][0] == sum(sessions.values())

    until(counted)
    seen: Counter[tuple[str, str, int]] = Counter()
    for domain, policy, total, failed in ask(
        database, "SELECT domain, policy, cntrtotal, cntrfailure FROM finalresults"
    ):
        kind = kinds[json.loads(policy)["policy-type"]]
        seen[domain, kind, 1] += failed
        seen[domain, kind, 0] += total - failed
    assert seen == sessions
    seen = Counter()
    for domain, policy, reason, count in ask(database, "SELECT domain, policy, reason, cntr FROM failures"):
        seen[domain, kinds[json.loads(policy)["policy-type"]], json.loads(reason)["c"]] += count
    assert seen == failures

    # The day ends for the collector, and its reporter makes the reports of it.
    collectd.send_signal(signal.SIGUSR2)
    yesterday = short / "collectd.sqlite.yesterday"
    until(lambda: ask(yesterday, "SELECT 1 FROM finalresults"))
    day = ask(yesterday, "SELECT day FROM finalresults")[0][0]
    mail, reported = short / "mail", short / "reportd.sqlite"
    daemon(
        BIN / "tlsrpt-reportd",
        *("--dbname", reported, "--fetchers", f"{BIN}/tlsrpt-fetcher --storage {storage}"),
        *("--organization_name", ORGANIZATION, "--contact_info", CONTACT, "--sender_address", CONTACT),
        *("--sendmail_script", f"cat >>{mail}", "--spread_out_delivery", 1, "--interval_main_loop", 1),
        *("--log_level", "info"),
    )
    until(lambda: len(ask(reported, "SELECT 1 FROM destinations WHERE status = 'sent'")) == 3)
    theirs = {domain: json.loads(text) for domain, text in ask(reported, "SELECT domain, report FROM reports")}

    # Ours of the same events.
    midnight = datetime.fromisoformat(day).replace(tzinfo=UTC)
    command = [program, "report", ORGANIZATION, CONTACT, str(int(midnight.timestamp())), short]
    subprocess.run(command, input=lines.encode(), check=True)
    names = [path.name for path in short.glob("*.json.gz")]
    last = midnight + timedelta(days=1, seconds=-1)
    for domain, report in theirs.items():
        name = f"sender.example!{domain}!{midnight.timestamp():.0f}!{last.timestamp():.0f}.json.gz"
        names.remove(name)
        ours = json.loads(gzip.decompress((short / name).read_bytes()))
        assert ours["report-id"]
        assert sorted_report(ours) == sorted_report(report)
        # The reporter reads our record as we do.
        assert f"To: tls@{domain}" in mail.read_text()
    assert not names
