"""`starttls scan`: lists, results, the summary; what is left of it after kill -9; memory, networks, terminals."""

import fcntl
import json
import os
import pty
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import pytest
from peers import echo, line, play, smtp
from starttls import cli
from starttls._progress import Progress
from starttls._scan_crew import Crew, network
from starttls._scan_list import Listing, entries, listing
from starttls._scan_state import BadState, State
from starttls._scan_svg import svg
from starttls._summary import Summary

KEYS = ["target", "met", "level", "error", "message", "temporary", "outcome", "line"]


def environment(**changes):
    kept = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "TERM")}
    return {**kept, "TERM": "xterm", **changes}


def start(*arguments: object, **options) -> subprocess.Popen:
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment(), **options}
    return subprocess.Popen([sys.executable, "-m", "starttls", "scan", *map(str, arguments)], **options)


@pytest.fixture
def run(capsys):
    """Runs it in this process: its exit code, and what it printed."""

    def run(*arguments):
        try:
            status = cli.main(["scan", *map(str, arguments)])
        except SystemExit as e:
            status = e.code
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def nobody():
    """A port at which nobody listens, at any address of loopback."""
    with socket.socket() as sock:
        sock.bind(("", 0))
        yield sock.getsockname()[1]


def targets(n: int, port: int) -> list[str]:
    """All different, each in a network of its own as far as there are any."""
    return [f"smtp://127.{1 + i // 60000}.{i % 250}.{1 + i // 250 % 250}:{port}" for i in range(n)]


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{text}\n" for text in lines))
    return path


# --- lists and results -------------------------------------------------------------------------------


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


# --- the state ---------------------------------------------------------------------------------------

LIST = Listing(size=10, sha256="ab", entries=100)


def told(path, of=LIST, level="may"):
    heard = []
    with State(str(path), of, level, heard.append) as state:
        return heard, state


def test_state_remembers(tmp_path):
    path = tmp_path / "state"
    with State(str(path), LIST, "may", lambda words: pytest.fail("nothing yet")) as state:
        for number in (2, 3, 7, 1):
            assert number not in state
            state.add(number, ["met", f"version:{number}"])
        assert state.low == 3
    heard, state = told(path)
    assert sorted(heard) == [["met", f"version:{n}"] for n in (1, 2, 3, 7)]
    assert [n for n in range(1, 9) if n in state] == [1, 2, 3, 7]


def test_state_that_was_cut_anywhere(tmp_path):
    """Whatever a kill leaves is the beginning of what there was: all whole lines count, and it can be gone on with."""
    path = tmp_path / "state"
    with State(str(path), LIST, "may", lambda words: None) as state:
        for number in (1, 2, 3):
            state.add(number, ["met"])
    whole = path.read_bytes()
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        with State(str(path), LIST, "may", lambda words: None) as state:
            first = state.low
            assert first == max(0, whole[:cut].count(b"\n") - 1)
            state.add(first + 1, ["met"])
        heard, state = told(path)
        assert len(heard) == state.low == first + 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda data: data.replace(b" met\n", b" mat\n", 1), "damaged"),
        (lambda data: data.replace(b"\n2 ", b"\n5 ", 1), "damaged"),
        (lambda data: b"something else\n" + data, "not a state"),
        (lambda data: b"no line end", "not a state"),
        (lambda data: b"[]\n", "not a state"),
        (lambda data: data.replace(b'"ab"', b'"cd"'), "another list"),
        (lambda data: data.replace(b'"size": 10', b'"size": 11'), "another list"),
        (lambda data: data.replace(b'"may"', b'"strict"'), "at level strict"),
        (lambda data: data.replace(b'scan": 1', b'scan": 2'), "another version"),
    ],
)
def test_state_of_something_else(tmp_path, change, why):
    path = tmp_path / "state"
    with State(str(path), LIST, "may", lambda words: None) as state:
        state.add(1, ["met"])
        state.add(2, ["met"])
    path.write_bytes(change(path.read_bytes()))
    before = path.read_bytes()
    with pytest.raises(BadState, match=why):
        told(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("number", [-1, 0, 101])
def test_state_with_an_entry_that_is_none_of_the_list(tmp_path, number):
    path = tmp_path / "state"
    with State(str(path), LIST, "may", lambda words: None) as state:
        state.add(number, ["met"])
    with pytest.raises(BadState, match=f"the list has no entry {number}:"):
        told(path)


def test_json_is_json_in_any_encoding(tmp_path):
    file = tmp_path / "list"
    file.write_text("smtp://grüße.test:x\n", encoding="utf-8")
    for encoding in ("ascii", "latin-1", "utf-8"):
        done = subprocess.run(
            [sys.executable, "-m", "starttls", "scan", "--json", str(file)],
            capture_output=True,
            timeout=30,
            env={**os.environ, "PYTHONIOENCODING": encoding},
        )
        assert json.loads(done.stdout.decode(encoding).splitlines()[0])["target"] == "smtp://grüße.test:x"


def test_state_of_a_scan_that_goes_on(run, nobody, tmp_path):
    file, state = write(tmp_path / "list", targets(1, nobody)), tmp_path / "state"
    with open(state, "wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        status, _, err = run("--resume", state, file)
    assert status == 2 and "another scan" in err


def test_a_state_belongs_to_its_list(run, nobody, tmp_path):
    file, state = write(tmp_path / "list", targets(3, nobody)), tmp_path / "state"
    assert run("--level", "may", "--resume", state, file)[0] == 3
    # Again: all is done, and the summary is the same.
    status, out, _ = run("--json", "--level", "may", "--resume", state, file)
    assert status == 3 and json.loads(out)["summary"]["targets"] == 3
    status, _, err = run("--level", "none", "--resume", state, file)
    assert status == 2 and "at level may" in err
    write(file, targets(4, nobody))
    status, _, err = run("--level", "may", "--resume", state, file)
    assert status == 2 and "another list" in err


def test_killed_at_any_instant(tmp_path, nobody):
    """kill -9 again and again: every target is told of, few twice, and the summary counts each once."""
    n, jobs = 2000, 8
    all_targets = targets(n, nobody)
    file, state, output = write(tmp_path / "list", all_targets), tmp_path / "state", tmp_path / "output"
    kills = in_the_middle = 0
    while True:
        with open(output, "ab") as out:
            child = start("--json", "--level", "may", "--jobs", jobs, "--resume", state, file, stdout=out)
            before = output.stat().st_size
            if kills < 5:
                # Not before it has begun: it would never get anywhere.
                while output.stat().st_size == before and child.poll() is None:
                    time.sleep(0.01)
                time.sleep(random.random() * 0.25)
                child.kill()
                kills += 1
            _, err = child.communicate(timeout=60)
        if child.returncode == -signal.SIGKILL:
            in_the_middle += 1
        else:
            assert child.returncode == 3 and err == b"", err
            break
    assert in_the_middle
    counted = Counter()
    *results, last = output.read_bytes().splitlines()
    for text in results:
        try:
            one = json.loads(text)
        except ValueError:
            pytest.fail(f"torn: {text[:100]!r}")
        if "summary" not in one:  # killed between its last word and its end
            counted[one["target"]] += 1
    assert set(counted) == set(all_targets)
    assert sum(counted.values()) <= n + kills * jobs
    summary = json.loads(last)["summary"]
    assert summary["targets"] == n == summary["errors"]["io"] == summary["temporary"]


# --- Ctrl-C and output that ends ----------------------------------------------------------------------


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


# --- memory ------------------------------------------------------------------------------------------


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


# --- networks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/48"),
    ],
)
def test_network(address, wanted):
    assert network(address) == wanted


class Busy:
    """Counts how many are in each network at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.order: list[str] = []

    def visit(self, networks: list[str], seconds: float) -> None:
        with self._lock:
            self._now.update(networks)
            for one in networks:
                self.most[one] = max(self.most[one], self._now[one])
        time.sleep(seconds)
        with self._lock:
            self._now.subtract(networks)
            self.order.append(networks[0])


def finish(crew: Crew) -> None:
    end = time.monotonic() + 30
    while not crew.rest(0.2):
        assert time.monotonic() < end, "the crew stands still"


def test_a_crew_of_many_jobs_in_many_networks():
    busy, generator = Busy(), random.Random(1)
    done = []

    def job(n):
        for _ in range(generator.randrange(1, 4)):
            addresses = [f"10.0.{generator.randrange(6)}.{n % 250}" for _ in range(generator.randrange(1, 4))]
            yield addresses
            busy.visit(sorted({network(a) for a in addresses}), generator.random() * 0.004)
        done.append(n)

    crew = Crew(12, 2)
    for n in range(400):
        while not crew.put(job(n), 0.2):
            pass
    finish(crew)
    assert sorted(done) == list(range(400))
    assert len(busy.most) == 6 and max(busy.most.values()) == 2


def test_a_full_network_does_not_stand_in_the_way():
    busy = Busy()

    def job(address, seconds):
        yield [address]
        busy.visit([network(address)], seconds)

    crew = Crew(4, 1)
    for _ in range(20):
        while not crew.put(job("10.0.0.1", 0.05), 0.2):
            pass
    for n in range(10):
        while not crew.put(job(f"10.1.{n}.1", 0), 0.2):
            pass
    finish(crew)
    assert busy.most["10.0.0.0/24"] == 1
    # One of the twenty must be running all the time, so the ten others are done long before the last of them.
    assert busy.order.index("10.1.9.0/24") < 18, busy.order


def test_more_in_one_network_than_can_be_put_aside():
    busy = Busy()

    def job():
        yield ["10.0.0.1"]
        busy.visit(["10.0.0.0/24"], 0)

    crew = Crew(4, 2)
    for _ in range(1000):
        while not crew.put(job(), 0.2):
            pass
    finish(crew)
    assert len(busy.order) == 1000 and busy.most["10.0.0.0/24"] <= 2


def test_what_a_job_raises_is_told():
    def job():
        yield ["10.0.0.1"]
        raise OSError("disk full")

    crew = Crew(2, 1)
    crew.put(job(), 1)
    with pytest.raises(OSError, match="disk full"):
        finish(crew)


def test_connections_into_one_network(tmp_path):
    """What a server sees: never more than so many at once of each /24, and the networks side by side."""
    busy = Busy()
    ended = threading.Event()

    def serve(listening: socket.socket, name: str) -> None:
        def talk(sock: socket.socket) -> None:
            with sock:
                try:
                    # One visit: from the dial to the answer, after which the client goes.
                    busy.visit([name, "all"], 0.05)
                    play(sock, [b"220 x\r\n", None, b"250 x\r\n"])
                    line(sock)
                except OSError:
                    pass

        while not ended.is_set():
            try:
                sock, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(sock,), daemon=True).start()

    first = socket.create_server(("127.0.1.1", 0))
    port = first.getsockname()[1]
    second = socket.create_server(("127.0.2.1", port))
    for listening, name in ((first, "first"), (second, "second")):
        threading.Thread(target=serve, args=(listening, name), daemon=True).start()
    lines = [f"smtp://127.0.1.1:{port}"] * 20 + [f"smtp://127.0.2.1:{port}"] * 20
    child = start("--json", "--level", "may", "--jobs", 10, "--per-network", 3, write(tmp_path / "list", lines))
    out, err = child.communicate(timeout=60)
    ended.set()
    first.close()
    second.close()
    assert child.returncode == 0 and err == b"", err
    assert json.loads(out.splitlines()[-1])["summary"]["met"] == 40
    assert busy.most["first"] == 3 and busy.most["second"] == 3 and busy.most["all"] > 3


# --- terminals and pictures ----------------------------------------------------------------------------


def on_a_terminal(*arguments: object, **changes: str) -> tuple[bytes, bytes]:
    """What it writes to a pipe, and what to the terminal that is its standard error."""
    ours, theirs = pty.openpty()
    child = start(*arguments, stderr=theirs, env=environment(**changes))
    os.close(theirs)
    text = b""
    reader = threading.Thread(target=lambda: None)
    out: list[bytes] = []
    reader = threading.Thread(target=lambda: out.append(child.stdout.read()))
    reader.start()
    try:
        while data := os.read(ours, 4096):
            text += data
    except OSError:
        pass  # That is how a terminal ends.
    os.close(ours)
    reader.join(20)
    assert child.wait(20) == 3
    return out[0], text


def test_progress_on_a_terminal_only(tmp_path, nobody):
    file = write(tmp_path / "list", targets(300, nobody))
    out, terminal = on_a_terminal("--json", "--level", "may", file)
    assert re.search(rb"\r\[#*\.*\] \d+/300 +\d+ %", terminal), terminal[-300:]
    # It is gone at the end, and nothing of it is in the output.
    assert terminal.endswith(b"\r\x1b[K") and b"\r" not in out and b"\x1b" not in out
    assert on_a_terminal("--json", "--level", "may", file, TERM="dumb")[1] == b""
    child = start("--level", "may", file)
    out, err = child.communicate(timeout=30)
    assert err == b"" and b"\x1b" not in out and b"\r" not in out


class Terminal:
    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


def test_what_progress_shows(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    terminal = Terminal()
    progress = Progress(terminal, 200, 50)
    now[0] += 10
    for _ in range(50):
        progress.tick()
    progress.draw(at_once=True)
    assert terminal.text.endswith("100/200  50 %  5.0/s  0:20 left\x1b[K")
    assert all(len(part) < 84 for part in terminal.text.split("\r"))
    unknown = Progress(terminal, None, 0)
    unknown.draw(at_once=True)
    assert terminal.text.endswith("\r0 done  \x1b[K")


def test_what_is_counted_where_nobody_knows_what_is_signed():
    summary = Summary("may")
    summary.add(["met", "tls", "dnssec-unknown"])
    assert "no DANE was seen: 1" in summary.text() and "no DANE was seen: 1" in svg(summary)
    assert summary.as_dict()["dnssec_unknown"] == 1


def test_a_picture_of_anything():
    for words in ([], [["bad-line"]], [["error:<&\"'"]], [["met", "tls", "version:TLSv1.3"]] * 1000):
        summary = Summary("may")
        for one in words:
            summary.add(one)
        root = ElementTree.fromstring(svg(summary, interrupted=True))
        names = [child.tag.partition("}")[2] for child in root]
        assert root.get("role") == "img" and names[:2] == ["title", "desc"]
        assert all(element.text for element in root.iter() if element.tag.endswith(("title", "desc")))
        width = float(root.get("width"))
        for bar in root.iter("{http://www.w3.org/2000/svg}rect"):
            assert 0 < float(bar.get("width")) <= width


# --- the real ones -----------------------------------------------------------------------------------


def test_real_domains(servers, tmp_path):
    """What a scan obtains of every domain of tests/tlsa/domains.tsv is what the table says, and it counts right."""
    listed = json.loads(Path(os.environ["STARTTLS_SERVERS"]).read_text())
    if "smtp_port" not in listed.get("dns", {}) or not listed.get("sts", {}).get("port"):
        pytest.skip("name servers, Postfix or the policy host were left out")
    table = {}
    for text in (Path(__file__).parents[1] / "tlsa" / "domains.tsv").read_text().splitlines():
        columns = text.split("\t")
        if len(columns) > 5 and not text.startswith("#") and columns[4] != "-":
            table[columns[0]] = columns[4].split("|")
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
