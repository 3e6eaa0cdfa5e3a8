"""What a type checker says of scripts that use the package as its documentation shows."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import ftplib, imaplib, poplib, smtplib, socket, ssl
import asyncio, pathlib, shelve
import starttls
from starttls import Context, Policy, Session, stdlib, upgrade

def look_up(name: str, rrtype: str, timeout: float) -> starttls.Answer:
    return starttls.Answer([b""], "secure", ttl=3)

def use(sock: socket.socket) -> None:
    context = Context(Policy("strict", ca_file="/ca"))
    smtplib.SMTP("h").starttls(context=context)
    smtplib.SMTP_SSL("h", context=context)
    imaplib.IMAP4("h").starttls(context)
    imaplib.IMAP4_SSL("h", ssl_context=context)
    poplib.POP3("h").stls(context)
    session: Session = context.wrap_socket(sock, server_hostname="h")
    upgrade("imap", sock, "h", "ready", memoryview(b""))
    upgrade("imap", sock, "h", pending=bytearray())
    session.setblocking(0)
    session.recv_into(bytearray(1), None)
    der: bytes | None = session.getpeercert(True)
    kind: socket.SocketKind = session.type
    ftp: ftplib.FTP = stdlib.FTP("h", user="u", passwd="p", policy=Policy("encrypt", server_cert=[b"", ("c", "k")]))
    with starttls.accept("smtp", sock, command=b"STARTTLS", policy=Policy("encrypt", server_cert="d")) as s:
        s.protect(sock).close()
    starttls.refuse("imap", sock, command=memoryview(b""))
    with starttls.connect_domain("d", "dane-only", protocol="submission", timeout=3.0) as s:
        print([event.success for event in starttls.tlsrpt.events(s)], s.outcome.domain and s.outcome.domain.policies)
    kept: dict[str, bytes] = {}
    domains = Policy("opportunistic", cache=kept, resolver=look_up, tlsrpt=True, destinations="f", port=25)
    for cache in (kept, "memory", pathlib.Path("c"), shelve.open("f")):
        domains = domains.derive(cache=cache, tlsa=["3 1 1 ab", (3, 1, 1, b"")], tlsa_proof="secure")
    hosts = starttls.routes("d", domains)
    for route in hosts:
        starttls.connect("smtp", route.host, route.port, policy=route.policy.derive(timeout=1))
    why: list[starttls.Error] = hosts.skipped
    with stdlib.SMTP.to_domain("d", domains, timeout=3) as to:
        to.noop()
    reports = starttls.tlsrpt.Reports("o", "a@b", day=0.0)
    names: list[str] = [report.file_name for report in reports.reports()]
    print(starttls.survey("d")["mx"], why, names)
    client: smtplib.SMTP = stdlib.SMTP("h", policy="strict", source_address=("127.0.0.1", 0))

async def streams() -> None:
    reader, writer = await starttls.open_connection("imap", "h", 143, policy="strict", timeout=3)
    reader, writer = await starttls.start(reader, writer, "imap", "h", stage="ready")
    reader, writer = await starttls.aio.accept_streams(reader, writer, "imap", policy=Policy("encrypt"))
    reader, writer = await starttls.aio.connect_domain("d", "strict", timeout=3)
    print(starttls.tlsrpt.events(writer))
    kept: asyncio.StreamWriter = writer
    print(starttls.outcome_of(kept).tls, await reader.readline())
"""


README = Path(__file__).parents[2] / "python" / "README.md"


@pytest.mark.parametrize("source", ["script", "readme"])
def test_scripts_are_well_typed(source, tmp_path):
    pytest.importorskip("mypy")
    first = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.M | re.S)[0]
    script = tmp_path / "script.py"
    script.write_text(SCRIPT if source == "script" else first)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(script)]
    package = Path(__file__).parents[2] / "python"
    done = subprocess.run(command, env={"MYPYPATH": str(package)}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
