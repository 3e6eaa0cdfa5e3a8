"""The command: exit codes, JSON, what people see."""

import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
import starttls
from peers import NAME, SMTP, echo, play, smtp
from starttls import _core, cli

KEYS = ["target", "met", "level", "error", "message", "temporary", "outcome"]


@pytest.fixture
def good(peer, server_context):
    return peer(smtp(server_context, echo)).port


@pytest.fixture
def run(certs, capsys):
    """Runs `starttls check` with our CA; its exit code and what it printed."""

    def run(*arguments):
        try:
            status = cli.main(["check", "--ca-file", str(certs / "ca.crt"), *arguments])
        except SystemExit as e:
            status = e.code
        out, err = capsys.readouterr()
        return status, out, err

    return run


def test_met(run, good):
    status, out, _ = run(f"smtp://localhost:{good}")
    assert status == 0
    for text in (
        "S: 220 mail.example.test ESMTP",
        "C: STARTTLS",
        "TLSv1.3",
        "chain        ok",
        f"names {NAME}, localhost",
        "identity     localhost, by pkix",
        "=> level strict is met: TLS, the peer is proven by pkix",
    ):
        assert text in out
    assert "\x1b" not in out


def test_json(run, good):
    status, out, _ = run("--json", "--level", "verify", f"smtp://127.0.0.1:{good}", f"smtp://localhost:{good}")
    first, second = map(json.loads, out.splitlines())
    assert status == 0 and list(first) == KEYS == list(second)
    assert first["target"] == f"smtp://127.0.0.1:{good}" and first["met"] is True and first["level"] == "verify"
    assert first["error"] is None and first["temporary"] is False and first["message"]
    assert first["outcome"]["identity"]["name"] == "127.0.0.1"


def test_not_met(run, peer, good):
    refusing = peer(lambda sock: play(sock, [b"220 hello\r\n", None, b"250 x\r\n", None, b"502 \x1b[31m no\r\n"])).port
    status, out, _ = run("--json", f"smtp://localhost:{refusing}", f"smtp://localhost:{good}")
    first, second = map(json.loads, out.splitlines())
    assert status == 1 and (first["met"], second["met"]) == (False, True)
    assert first["error"] == "not-offered" and first["temporary"] is False
    assert first["outcome"]["transcript"][-1] == {"from": "S", "text": r"502 \x1b[31m no"}
    status, out, _ = run(f"smtp://localhost:{refusing}")
    assert status == 1 and "=> not met: not-offered: " in out and "\x1b" not in out


def test_may_in_clear_is_met_and_says_because(run, peer):
    port = peer(lambda sock: play(sock, [b"220 hello\r\n", None, b"250 x\r\n"])).port
    status, out, _ = run("--level", "may", f"smtp://localhost:{port}")
    assert status == 0 and "in clear, because: not-offered" in out


def test_only_temporary_failures(run, peer, good):
    busy = peer(lambda sock: sock.sendall(b"421 busy\r\n")).port
    assert run("--json", f"smtp://localhost:{busy}", f"smtp://localhost:{good}")[0] == 3
    assert run(f"smtp://localhost:{busy}", "smtp://no-such-host.invalid")[0] == 1
    silent = peer(lambda sock: sock.recv(1)).port
    before = time.monotonic()
    status, out, _ = run("--json", "--timeout", "0.2", f"smtp://localhost:{silent}")
    assert status == 3 and json.loads(out)["error"] == "timeout" and time.monotonic() - before < 5


def test_name_and_fingerprint(run, good):
    status, out, _ = run("--json", "--name", NAME, f"smtp://127.0.0.2:{good}")
    # Nobody listens at 127.0.0.2.
    assert status == 3 and json.loads(out)["error"] == "io"
    status, out, _ = run("--json", "--name", NAME, f"smtp://localhost:{good}")
    outcome = json.loads(out)["outcome"]
    assert status == 0 and outcome["peer"]["name"] == outcome["sni"] == NAME
    assert run("--name", "other.test", f"smtp://localhost:{good}")[0] == 1
    pin = outcome["certificate"]["spki_sha256"]
    status, out, _ = run("--json", "--fingerprint", "ab" * 32, "--fingerprint", pin, f"smtp://localhost:{good}")
    assert status == 0 and json.loads(out)["level"] == "fingerprint"
    assert run("--fingerprint", "ab" * 32, f"smtp://localhost:{good}")[0] == 1


def test_forget(tmp_path, capsys):
    assert cli.main(["forget", "mx.example.test", "--cache", str(tmp_path)]) == 0
    assert "forgotten" in capsys.readouterr().out
    assert cli.main(["forget", "a..b", "--cache", str(tmp_path)]) == 2
    with pytest.raises(SystemExit):
        cli.main(["forget", "mx.example.test"])


def test_a_host_that_stops_doing_tls_is_stripped_until_it_is_forgotten(run, peer, server_context, tmp_path, capsys):
    does_tls = True

    def serve(sock):
        if does_tls:
            smtp(server_context, echo)(sock)
        else:
            play(sock, [b"220 hello\r\n", None, b"250 x\r\n", None, b"502 no\r\n"])

    target = f"smtp://localhost:{peer(serve).port}"
    options = ["--json", "--cache", str(tmp_path), "--level", "may", target]
    assert run(*options)[0] == 0
    does_tls = False
    status, out, _ = run(*options)
    assert status == 3 and json.loads(out)["error"] == "stripped"
    assert cli.main(["forget", "localhost", "--cache", str(tmp_path)]) == 0
    capsys.readouterr()
    assert run(*options)[0] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["gopher://localhost"],
        ["smtp://"],
        ["smtp://localhost:0"],
        ["smtp://localhost:70000"],
        ["smtp://localhost:x"],
        ["smtp://localhost:"],
        ["smtp://user@localhost"],
        ["smtp://localhost/path"],
        ["smtp://localhost?"],
        ["smtp://localhost#"],
        ["smtp://a..b"],
        ["smtp://localhost", "smtp://a..b"],
        ["--name", "", "smtp://localhost"],
        ["--level", "none", "smtps://localhost"],
        ["smtp://[::1"],
        ["smtp://a\nb"],
        ["smtp://a b"],
        ["", "smtp://localhost"],
        ["--name", "mx.example.test", "example.test"],
        ["a..b"],
        ["--level", "dane-only", "a..b"],
        ["--level", "dane", "--fingerprint", "ab" * 32, "smtp://localhost"],
        ["--port", "0", "example.test"],
        ["--port", "smtp", "example.test"],
        ["--trust-dns", "example.test"],
        ["--cache", "nosuch://x", "example.test"],
        ["--destinations", "/nonexistent", "example.test"],
        ["--level", "strict", "--fingerprint", "ab" * 32, "smtp://localhost"],
        ["--fingerprint", "xyz", "smtp://localhost"],
        ["--timeout", "0", "smtp://localhost"],
        ["--timeout", "soon", "smtp://localhost"],
        ["--timeout", "1e308", "smtp://localhost"],
        ["--timeout", "nan", "smtp://localhost"],
        ["--timeout", "x" * 5000, "smtp://localhost"],
        ["--resolver", "localhost", "smtp://localhost"],
        ["--resolver", "127.0.0.1 x", "smtp://localhost"],
        ["--ca-file", "/nonexistent", "smtp://localhost"],
        ["--ca-file", "/dev/null", "smtp://localhost"],
    ],
)
def test_usage(arguments, run):
    status, out, err = run(*arguments)
    assert status == 2 and out == "" and err and len(err) < 1000


def test_protocols(capsys):
    assert cli.main(["protocols"]) == 0
    table = capsys.readouterr().out
    assert cli.main(["protocols", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["protocol"] for row in rows] == [row[0] for row in _core.protocols()]
    assert rows[0] == {
        "protocol": "smtp",
        "port": 25,
        "implicit": "smtps",
        "implicit_port": 465,
        "alpn": None,
        "spec": "RFC 3207",
        "afterwards": "the client says EHLO again",
    }
    for row in rows:
        assert row["protocol"] in table and str(row["port"]) in table


def test_every_protocol_word_is_a_target(run):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    words = [word for row in _core.protocols() for word in (row[0], row[2]) if word]
    status, out, _ = run("--json", *(f"{word}://127.0.0.1:{port}" for word in words))
    assert status == 3 and [json.loads(line)["outcome"]["protocol"] for line in out.splitlines()] == words


def environment(**changes):
    kept = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "TERM", "STARTTLS_C_EXAMPLE")}
    return {**kept, "TERM": "xterm", **changes}


def on_a_terminal(arguments, **changes):
    """What the command writes to a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "starttls", *arguments], stdout=theirs, env=environment(**changes)
    ) as child:
        os.close(theirs)
        text = b""
        try:
            while data := os.read(ours, 4096):
                text += data
        except OSError:
            pass  # That is how a terminal ends.
        os.close(ours)
        assert child.wait(20) in (0, 1)
    return text


def test_colours_only_on_a_terminal(certs, good):
    arguments = ["check", "--ca-file", str(certs / "ca.crt"), f"smtp://localhost:{good}"]
    assert b"\x1b[" in on_a_terminal(arguments)
    assert b"\x1b[" not in on_a_terminal(arguments, NO_COLOR="1")
    assert b"\x1b[" not in on_a_terminal(arguments, TERM="dumb")


def test_the_dialog_is_printed_as_it_happens(peer):
    def serve(sock):
        play(sock, SMTP[:-1])
        sock.recv(1)

    command = [sys.executable, "-m", "starttls", "check", f"smtp://127.0.0.1:{peer(serve).port}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        seen = [child.stdout.readline() for _ in range(6)]
        # The server has not answered STARTTLS, and all before is there.
        assert seen[-1] == "  C: STARTTLS\n"
        child.send_signal(signal.SIGINT)
        assert child.wait(10) == 130


def test_whoever_reads_may_stop_reading(certs, good):
    command = f"exec {sys.executable} -m starttls check smtp://127.0.0.1:{good} | true"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=20)
    assert done.stderr == ""


def test_demo():
    before = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "starttls", "demo"], capture_output=True, text=True, timeout=60, env=environment()
    )
    assert done.returncode == 0 and done.stderr == "", done.stdout + done.stderr
    assert time.monotonic() - before < 10
    for text in (
        "1. A server that does it right",
        "=> level strict is met: TLS, the peer is proven by pkix",
        "=> level opportunistic is met, but in clear, because: not-offered",
        "=> not met: not-offered: ",
        "=> not met: injected: ",
        "=> level may is met: TLS, the peer could be anyone",
        "=> not met: name-mismatch: ",
        "All of it came out as it must.",
    ):
        assert text in done.stdout


@pytest.mark.parametrize(("program", "status"), [("true", 0), ("false", 1), ("/nonexistent", 1)])
def test_demo_runs_the_c_example(program, status):
    program = shutil.which(program) or program
    done = subprocess.run(
        [sys.executable, "-m", "starttls", "demo"],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(STARTTLS_C_EXAMPLE=program),
    )
    assert done.returncode == status and "5. The same from C" in done.stdout
    assert ("NOT AS IT SHOULD BE" in done.stdout) == (status != 0)


def test_version(capsys):
    with pytest.raises(SystemExit) as raised:
        cli.main(["--version"])
    assert raised.value.code == 0 and starttls.__version__ in capsys.readouterr().out


@pytest.mark.parametrize("arguments", ["protocols", "check smtp://127.0.0.1:{good}", "--help"])
def test_output_that_cannot_be_written(arguments, good):
    command = f"exec {sys.executable} -m starttls {arguments.format(good=good)} >/dev/full"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=20)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "No space left" in done.stderr


def test_output_that_nobody_wants(certs, good):
    check = f"{sys.executable} -m starttls check --ca-file {certs / 'ca.crt'} "
    for target, status in ((f"smtp://localhost:{good}", 0), ("smtp://127.0.0.1:1", 3), ("nonsense://x", 2)):
        for closed in (">&-", ">&- 2>&-"):
            done = subprocess.run(["sh", "-c", f"exec {check}{target} {closed}"], capture_output=True, timeout=20)
            assert done.returncode == status and b"Traceback" not in done.stderr


def test_ctrl_c_while_a_failure_is_reported_is_still_ctrl_c(run, monkeypatch):
    def interrupted(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(starttls.errors, "make", interrupted)
    assert run("smtp://127.0.0.1:1")[0] == 130
