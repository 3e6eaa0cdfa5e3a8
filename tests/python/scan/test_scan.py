"""`starttls scan`: lists, results, ends of all kinds, the real domains."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import pytest
from peers import echo, play, smtp
from scans import KEYS, environment, start, targets, write
from starttls._scan_list import entries, listing
from tables import rows

# --- lists and results --------------------------------------------------------------------------


def test_a_list(run, peer, certs, server_context, nobody, tmp_path):
    good = f"smtp://localhost:{peer(smtp(server_context, echo)).port}"
    script = [b"220 hello\r\n", None, b"250 x\r\n"]
    plain = f"smtp://localhost:{peer(lambda sock: play(sock, script)).port}"
    lines = ["# a comment", "", good, f"  {plain}  ", "not a target", "smtp://a..b", f"smtp://127.0.0.1:{nobody}", good]
    file = write(tmp_path / "list", lines)
    picture = tmp_path / "summary.svg"
    options = ["--ca-file", certs / "ca.crt", "--level", "may", "--svg", picture]
    status, out, err = run("--json", *options, file)
    *results, last = map(json.loads, out.splitlines())
    assert status == 1 and err == ""
    assert all(list(one) == KEYS for one in results)
    by_line = {one["line"]: one for one in results}
    assert sorted(by_line) == [3, 4, 5, 6, 7, 8]
    assert by_line[3]["target"] == good and by_line[3]["outcome"]["tls"]["version"] == "TLSv1.3"
    assert by_line[4]["outcome"]["because"] == "not-offered" and by_line[4]["met"] is True
    assert by_line[5]["error"] == "invalid" and "line 5: 'not a target'" in by_line[5]["message"]
    assert by_line[6]["error"] == "invalid" and "empty label" in by_line[6]["message"]
    assert by_line[7]["error"] == "io" and by_line[7]["temporary"] is True
    summary = last["summary"]
    assert summary == {
        "level": "may",
        "interrupted": False,
        "targets": 4,
        "bad_lines": 2,
        "met": 3,
        "tls": 2,
        "no_tls": 1,
        "pkix": 2,
        "dane": 0,
        "tlsa": 0,
        "mx_signed": 0,
        "dnssec_unknown": 0,
        "sts": {"enforce": 0, "testing": 0, "none": 0, "unusable": 0},
        "forward_secrecy": 2,
        "suspicious": 0,
        "versions": {"TLSv1.3": 2},
        "proven_by": {"pkix": 2},
        "plain_because": {"not-offered": 1},
        "errors": {"io": 1},
        "temporary": 1,
    }
    root = ElementTree.parse(picture).getroot()
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "STARTTLS with 4 targets" in texts and "75.0 %" in texts

    status, out, _ = run(*options, file)
    assert status == 1 and "\x1b" not in out
    for text in (
        "TLSv1.3, proven by pkix",
        "in clear, because: not-offered",
        "invalid: line 5: ",
        "io (temporary): ",
        "of 4 targets",
        "lines of the list that are no target: 2",
    ):
        assert text in out
    assert re.search(r"do TLS +2 +50.0 %", out)


def test_exit_codes(run, peer, certs, server_context, nobody, tmp_path):
    good = f"smtp://localhost:{peer(smtp(server_context, echo)).port}"
    gone = f"smtp://127.0.0.1:{nobody}"
    options = ["--ca-file", certs / "ca.crt", "--level", "verify"]
    assert run(*options, write(tmp_path / "a", [good, good]))[0] == 0
    assert run(*options, write(tmp_path / "b", [good, gone]))[0] == 3
    assert run(*options, write(tmp_path / "c", [good, gone, "smtp://127.0.0.1:x"]))[0] == 1
    assert run(*options, write(tmp_path / "d", []))[0] == 0
    assert run(*options, tmp_path / "nothing")[0] == 2


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--jobs", "0", "{file}"],
        ["--jobs", "x", "{file}"],
        ["--jobs", "10000", "{file}"],
        ["--per-network", "0", "{file}"],
        ["--level", "fingerprint", "--level", "nonsense", "{file}"],
        ["--resume", "state", "-"],
        ["--resume", "state", "/dev/null"],
        ["--svg", "/nonexistent/x.svg", "{file}"],
        ["--svg", "{file}", "{file}"],
        ["--resume", "{file}", "{file}"],
        ["--ca-file", "/nonexistent", "{file}"],
        ["--timeout", "0", "{file}"],
        ["{file}", "{file}"],
    ],
)
def test_usage(arguments, run, nobody, tmp_path):
    file = write(tmp_path / "list", targets(1, nobody))
    status, out, err = run(*(text.format(file=file) for text in arguments))
    assert status == 2 and out == "" and err


def test_standard_input(nobody):
    text = "\n".join(targets(5, nobody)).encode()
    done = subprocess.run(
        [sys.executable, "-m", "starttls", "scan", "--json", "--level", "may", "-"],
        input=text,
        capture_output=True,
        timeout=30,
    )
    assert done.returncode == 3 and done.stdout.count(b"\n") == 6 and done.stderr == b""


def test_a_limit_of_open_files_is_no_result(tmp_path, nobody):
    """What we cannot open would look as if nobody listened there."""
    file = write(tmp_path / "list", targets(300, nobody))
    command = f"{sys.executable} -m starttls scan --json --level may --jobs 100 {file}"
    done = subprocess.run(["sh", "-c", f"ulimit -Sn 40; {command}"], capture_output=True, timeout=30)
    # The soft limit is ours to raise.
    assert done.returncode == 3 and json.loads(done.stdout.splitlines()[-1])["summary"]["errors"] == {"io": 300}
    assert b"oo many open files" not in done.stdout
    done = subprocess.run(["sh", "-c", f"ulimit -n 40; {command}"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2 and done.stdout == "" and "--jobs 100" in done.stderr and "ulimit -n" in done.stderr


def test_lines_of_any_kind(tmp_path):
    file = tmp_path / "list"
    file.write_bytes(b"\xef\xbb\xbfa.test\r\n\n#c\n" + b"x" * 5000 + b"\n\xff\xfe\n b.test \nlast.test")
    found = list(entries(str(file)))
    assert [one.number for one in found] == [1, 2, 3, 4, 5]
    assert [one.line for one in found] == [1, 4, 5, 6, 7]
    assert [one.text for one in found] == [b"a.test", b"x" * 1025, b"\xff\xfe", b"b.test", b"last.test"]
    assert listing(str(file)).entries == 5


def test_lines_that_are_hostile(run, tmp_path):
    file = tmp_path / "list"
    file.write_bytes(b"\xff\x1b[31m\n" + b"\x1b]0;x\x07.test\n" + b"a" * 5000 + b"\nsmtp://[::1\n")
    for options in ([], ["--json"]):
        status, out, err = run(*options, file)
        assert status == 1 and "\x1b" not in out and err == ""
    assert json.loads(out.splitlines()[-1])["summary"]["bad_lines"] == 4


# --- Ctrl-C and output that ends ----------------------------------------------------------------


def test_ctrl_c(tmp_path, peer, nobody):
    """It ends at once, though a server is silent, says what there is, and can be gone on with."""
    silent = f"smtp://127.0.0.1:{peer(lambda sock: sock.recv(1)).port}"
    file, state = write(tmp_path / "list", [*targets(20, nobody), silent]), tmp_path / "state"
    options = ["--json", "--level", "may", "--resume", state, file]
    child = start(*options)
    lines = [child.stdout.readline() for _ in range(20)]
    before = time.monotonic()
    child.send_signal(signal.SIGINT)
    rest, err = child.communicate(timeout=20)
    assert child.returncode == 130 and err == b"" and time.monotonic() - before < 5
    assert len(lines) == 20
    summary = json.loads(rest)["summary"]
    assert summary["interrupted"] is True and summary["targets"] == 20
    done = subprocess.run(
        [sys.executable, "-m", "starttls", "scan", "--timeout", "0.3", *map(str, options)],
        capture_output=True,
        timeout=30,
    )
    result, last = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 3 and result["target"] == silent and last["summary"]["targets"] == 21


def test_output_that_ends(tmp_path, nobody):
    file = write(tmp_path / "list", targets(3000, nobody))
    command = f"{sys.executable} -m starttls scan --json --level may {file}"
    done = subprocess.run(["sh", "-c", f"{command} | head -n 1"], capture_output=True, text=True, timeout=30)
    assert done.stderr == "" and json.loads(done.stdout)
    done = subprocess.run(["sh", "-c", f"exec {command} >/dev/full"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2 and "No space left" in done.stderr and "Traceback" not in done.stderr


# --- memory -------------------------------------------------------------------------------------


def test_memory_does_not_grow_with_the_list(tmp_path, nobody):
    def most(n: int) -> int:
        child = start(
            "--json",
            "--level",
            "may",
            "--resume",
            tmp_path / f"state-{n}",
            write(tmp_path / f"{n}", targets(n, nobody)),
        )
        threading.Thread(target=child.stderr.read, daemon=True).start()
        most, last = 0, b""
        for text in child.stdout:
            last = text
            if b'"line": ' in text and (n < 2000 or text[-5:-2].endswith(b"00")):
                status = Path(f"/proc/{child.pid}/status").read_text()
                most = max(most, int(re.search(r"VmHWM:\s+(\d+)", status)[1]))
        assert child.wait(60) == 3 and json.loads(last)["summary"]["targets"] == n
        return most

    few, many = most(300), most(6000)
    # What a list of that length needs at least beside: 5,700 results of a KiB. Kept as objects it would be 30 MiB.
    assert many - few < 5 * 1024, (few, many)


# --- the real ones ------------------------------------------------------------------------------


def test_real_domains(servers, tmp_path):
    """What a scan obtains of every domain of tests/tlsa/domains.tsv is what the table says, and it counts right."""
    listed = json.loads(Path(os.environ["STARTTLS_SERVERS"]).read_text())
    if "smtp_port" not in listed.get("dns", {}) or not listed.get("sts", {}).get("port"):
        pytest.skip("name servers, Postfix or the policy host were left out")
    table = {row[0]: row[4].split("|") for row in rows("tlsa/domains.tsv") if row[4] != "-"}
    assert len(table) > 50
    port = listed["dns"]["smtp_port"]
    options = ["--resolver", listed["dns"]["resolver"], "--ca-file", servers.ca_file, "--port", port]
    options += ["--sts-port", listed["sts"]["port"], "--per-network", 8, "--timeout", 20, "--json"]
    # The policy host is proven by the system's trust store, whatever the policy's CA is.
    trust = environment(SSL_CERT_FILE=servers.ca_file, SSL_CERT_DIR="/nonexistent")
    child = start(*options, write(tmp_path / "list", list(table)), env=trust)
    out, err = child.communicate(timeout=300)
    assert child.returncode == 1 and err == b""
    *results, last = map(json.loads, out.splitlines())
    wrong, obtained = [], Counter()
    for one in results:
        came = one["error"] or ("plain" if one["outcome"]["channel"] == "plain" else one["outcome"]["effective"])
        obtained[came] += 1
        if came not in table.pop(one["target"]):
            wrong.append(f"{one['target']}: {came}: {one['message']}")
    assert not wrong and not table
    summary = last["summary"]
    assert summary["errors"]["null-mx"] == 1 and summary["plain_because"] == {"not-offered": obtained["plain"]}
    assert summary["proven_by"]["dane"] == obtained["dane"] > 20
    assert summary["met"] + sum(summary["errors"].values()) == summary["targets"] == len(results)
