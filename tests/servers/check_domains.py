"""Are the zones, the policy hosts, Redis and the collector what the tests take them for? A part of check.py.

drill, curl and posttls-finger are the judges. The last one's verdict is compared with the expected one for each
cell of tests/tlsa/matrix.tsv, and for each line of tests/tlsa/domains.tsv on which it can have an opinion.
"""

import json
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import finger
import live
from zones import CERTIFICATES, MAIL_HOST, ORIGIN, Domain, Row, ascii_name, domains, matrix, policy_hosts

Cases = list[tuple[str, Callable[[], None]]]

# name, type -> what the validating resolver says, and what the other one says; "secure" is the AD flag.
# PORT in a name is the MX hosts' port.
ANSWERS = [
    (". SOA", "secure", "insecure"),
    ("test. SOA", "secure", "insecure"),
    ("dane.example.test MX", "secure", "insecure"),
    ("any.wild.example.test MX", "secure", "insecure"),
    ("cname.example.test MX", "secure", "insecure"),
    ("nothing.example.test MX", "secure NXDOMAIN", "insecure NXDOMAIN"),
    ("_PORT._tcp.311.good-mx.example.test TLSA", "secure", "insecure"),
    ("_PORT._tcp.none.good-mx.example.test TLSA", "secure NXDOMAIN", "insecure NXDOMAIN"),
    ("_PORT._tcp.many.good-mx.example.test TLSA", "secure", "insecure"),
    ("tlsa-bogus-mx.example.test A", "secure", "insecure"),
    ("_PORT._tcp.tlsa-bogus-mx.example.test TLSA", "SERVFAIL", "insecure"),
    ("tlsa-lame-mx.example.test A", "secure", "insecure"),
    ("_PORT._tcp.tlsa-lame-mx.example.test TLSA", "SERVFAIL", "SERVFAIL"),
    ("lame.example.test MX", "SERVFAIL", "SERVFAIL"),
    ("plain.insecure.test MX", "insecure", "insecure"),
    ("cname.insecure.test MX", "insecure", "insecure"),
    ("mx.attacker.test A", "secure", "insecure"),
    ("mail.bogus.test MX", "SERVFAIL", "insecure"),
    ("host.bogus.test A", "SERVFAIL", "insecure"),
    ("_mta-sts.sts.example.test TXT", "secure", "insecure"),
    ("_smtp._tls.rpt.example.test TXT", "secure", "insecure"),
]

# What is wrong with a policy host -> what curl says: its exit status, and the status and type of the answer.
FETCHES = {
    "": (0, "200 text/plain"),
    "missing": (0, "404"),
    "redirect": (0, "302"),
    "html": (0, "200 text/html"),
    "error": (0, "500"),
    "huge": (0, "200 text/plain"),
    "slow": (28, "200 text/plain"),
    "silent": (28, "000"),
    "expired": (60, "000"),
    "wrong-name": (60, "000"),
    "unknown-ca": (60, "000"),
    "self-signed": (60, "000"),
}

# At its first host it stops, and says so; the next one is for a mail server to try.
STOPS = {"first-busy.example.test": "refused", "first-mismatch.example.test": "dane-mismatch"}
# Where more than one thing is wrong, everybody names another one first.
FAILED = {"dane-mismatch", "expired", "name-mismatch", "untrusted"}
# posttls-finger does not tell them apart.
UNKNOWN = {"lookup-failed", "dns-bogus"}


def drill(server: str, question: str, port: int) -> str:
    address, _, resolver = server.rpartition(":")
    name, kind = question.replace("PORT", str(port)).split()
    done = subprocess.run(
        ["drill", "-D", "-p", resolver, f"@{address}", name, kind], capture_output=True, text=True, timeout=30
    )
    text = done.stdout
    code = re.search(r"rcode: (\w+)", text)
    assert code, text + done.stderr
    if code[1] == "SERVFAIL":
        return "SERVFAIL"
    found = "secure" if re.search(r"flags:.* ad\b.*;", text) else "insecure"
    return found if code[1] == "NOERROR" and not re.search("ANSWER: 0", text) else f"{found} {code[1]}"


def answer(found: dict[str, Any], question: str, validated: str, plain: str) -> None:
    # Without a Postfix the port has no meaning, but it is in the names all the same.
    port = found["dns"]["tlsa_port"]
    for server, expected in (("resolver", validated), ("plain_resolver", plain)):
        said = drill(found["dns"][server], question, port)
        assert said == expected, f"{server}: {said}, not {expected}"


def service(found: dict[str, Any], port: int) -> None:
    assert drill(found["dns"]["resolver"], f"_PORT._tcp.{MAIL_HOST} TLSA", port) == "secure"


def same(said: str, expected: str) -> bool:
    return any(said == word or {said, word} <= FAILED or {said, word} <= UNKNOWN for word in expected.split("|"))


def judge(found: dict[str, Any], domain: str, expected: str) -> None:
    text = finger.posttls_finger(found, domain, "dane")
    said = finger.verdict(text)
    assert same(said, expected), f"posttls-finger says {said}, not {expected}:\n{text}"


def row(found: dict[str, Any], row: Row) -> None:
    for certificate in CERTIFICATES:
        judge(found, f"{row.records}.{certificate}.{ORIGIN}", row.verdicts[certificate])


def domain(found: dict[str, Any], domain: Domain) -> None:
    judge(found, ascii_name(domain.name), STOPS.get(domain.name, domain.expected["dane"]))


def fetch(found: dict[str, Any], host: str, wrong: str, policy: str) -> None:
    port = found["sts"]["port"]
    command = ["curl", "-sS", "--max-time", "2", "--noproxy", "*", "--cacert", found["ca_file"]]
    command += ["--resolve", f"{host}:{port}:127.0.0.1", "--write-out", "\n%{http_code} %{content_type}"]
    done = subprocess.run([*command, f"https://{host}:{port}/.well-known/mta-sts.txt"], capture_output=True, timeout=30)
    body, _, status = done.stdout.decode().rpartition("\n")
    assert done.returncode == FETCHES[wrong][0] and status.startswith(FETCHES[wrong][1]), (done, FETCHES[wrong])
    if wrong in ("", "html"):
        assert body == policy, body
    elif wrong == "huge":
        assert body.startswith(policy) and len(body) > 65536, len(body)


def redis(found: dict[str, Any]) -> None:
    host, _, port = found["redis"]["address"].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        sock.sendall(b"SET starttls-check yes PX 10000\r\nGET starttls-check\r\n")
        answer = b""
        while b"yes" not in answer:
            data = sock.recv(100)
            assert data, answer
            answer += data
        assert answer.startswith(b"+OK\r\n$3\r\nyes"), answer


def collector(found: dict[str, Any]) -> None:
    """A success and a failure of one domain, as Postfix tells them."""
    name = f"check-{time.time_ns()}.example.test"
    policy = {"policy-type": "no-policy-found", "t": 0, "f": 0}
    failed = {**policy, "t": 1, "f": 1, "failure-details": [{"c": 201}]}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        for one in (policy, failed):
            event = {"dpv": "1", "d": name, "pr": "v=TLSRPTv1; rua=mailto:tls@example.test", "policies": [one]}
            sock.sendto(json.dumps(event).encode(), found["tlsrpt"]["socket"])
    counts = None
    for _ in range(200):
        with sqlite3.connect(f"file:{found['tlsrpt']['db']}?mode=ro", uri=True) as database:
            query = "SELECT cntrtotal, cntrfailure FROM finalresults WHERE domain = ?"
            counts = database.execute(query, (name,)).fetchone()
        if counts == (2, 1):
            return
        time.sleep(0.05)
    raise AssertionError(f"{counts}: {Path(found['tlsrpt']['log']).read_text()}")


def changed(found: dict[str, Any]) -> None:
    """Records of a test's own come at once, and go."""
    server, port = found["dns"]["resolver"], found["dns"]["tlsa_port"]
    for number in range(3):
        live.publish(found, "check", ["@ MX 10 311.good-mx.example.test.", f'_mta-sts TXT "v=STSv1; id={number};"'])
        assert drill(server, "check.live.test MX", port) == "secure"
        address, _, resolver = server.rpartition(":")
        command = ["drill", "-p", resolver, f"@{address}", "_mta-sts.check.live.test", "TXT"]
        said = subprocess.run(command, capture_output=True, text=True, timeout=30).stdout
        assert f"id={number};" in said, said
    live.publish(found, "check", [])
    assert drill(server, "check.live.test MX", port) == "secure NXDOMAIN"


def left_out(what: str, why: str) -> None:
    print(f"left out: {what}: {why}", file=sys.stderr)


def cases(found: dict[str, Any]) -> Cases:
    listed: Cases = []
    if "dns" in found and shutil.which("drill"):
        listed += [(f"drill {one[0]}", partial(answer, found, *one)) for one in ANSWERS]
        listed.append(("records that change", partial(changed, found)))
        ports = {server: next(iter(ports.values())) for server, ports in found["servers"].items()}
        listed += [(f"drill {server}", partial(service, found, port)) for server, port in ports.items()]
    elif "dns" in found:
        left_out("zones", "drill is not installed")
    if "dns" in found and (why := finger.missing(found)):
        left_out("DANE as posttls-finger sees it", why)
    elif "dns" in found:
        listed += [(f"posttls-finger {one.records}", partial(row, found, one)) for one in matrix()]
        listed += [(f"posttls-finger {one.name}", partial(domain, found, one)) for one in domains() if one.expected]
    if "sts" in found and shutil.which("curl"):
        hosts = [host for host in policy_hosts() if host.wrong in FETCHES]
        listed += [(f"curl {host.name}", partial(fetch, found, host.name, host.wrong, host.policy)) for host in hosts]
    elif "sts" in found:
        left_out("policy hosts", "curl is not installed")
    if "redis" in found:
        listed.append(("redis", partial(redis, found)))
    if "tlsrpt" in found:
        listed.append(("tlsrpt-collectd", partial(collector, found)))
    return listed
