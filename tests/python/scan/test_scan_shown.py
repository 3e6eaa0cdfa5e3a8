"""What a scan shows: progress on a terminal, the picture."""

import os
import pty
import re
import threading
import time
import xml.etree.ElementTree as ElementTree

from scans import environment, start, targets, write
from starttls._progress import Progress
from starttls._scan_svg import svg
from starttls._summary import Summary


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
