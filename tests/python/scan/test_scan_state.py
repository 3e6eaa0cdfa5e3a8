"""What a scan has done is known after any end, `kill -9` among them."""

import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
from scans import start, targets, write
from starttls._scan_list import Listing
from starttls._scan_state import BadState, State

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
