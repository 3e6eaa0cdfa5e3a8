"""What `starttls scan --resume STATE` remembers: one line for each target that is done, written when it is.

    {"starttls-scan": 1, "size": 31337, "sha256": "…", "level": "opportunistic"}
    1 8f3a1c02 met tls version:TLSv1.3
    3 …

A line is the entry's number in the list, a CRC-32 of all else in it, and what the summary counts. The result goes to
the output first and here second: who is killed in between does that target again, and counts it once. A last line that
was cut short is taken away; anything else that is wrong is an error, never a guess.
"""

import fcntl
import json
import os
import time
import zlib
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from starttls._scan_list import Listing

__all__ = ["BadState", "State"]

_KEY = "starttls-scan"


class BadState(Exception):
    """A state that is not this scan's; the message says what to do."""


class State:
    """The file, open and locked, and which entries are done: a number below which all are, and those above it."""

    def __init__(self, name: str, of: Listing, level: str, count: Callable[[Sequence[str]], None]) -> None:
        """count is told of each entry that was done before."""
        self._name = name
        self.low = 0
        self._above: set[int] = set()
        self._synced = time.monotonic()
        header = {_KEY: 1, "size": of.size, "sha256": of.sha256, "level": level}
        self._descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            self._lock()
            self._load(header, count, of.entries)
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        os.fsync(self._descriptor)
        os.close(self._descriptor)

    def __contains__(self, number: int) -> bool:
        return number <= self.low or number in self._above

    def add(self, number: int, words: Sequence[str]) -> None:
        """This one is done."""
        self._write(_line(number, words))
        self._mark(number)
        # A killed process loses nothing. A machine that loses its power costs what a second gave.
        if time.monotonic() - self._synced > 1:
            os.fsync(self._descriptor)
            self._synced = time.monotonic()

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._descriptor, data) :]

    def _mark(self, number: int) -> None:
        self._above.add(number)
        while self.low + 1 in self._above:
            self.low += 1
            self._above.remove(self.low)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadState(f"{self._name}: another scan goes on with it") from None

    def _load(self, header: dict[str, object], count: Callable[[Sequence[str]], None], of_entries: int) -> None:
        first = json.dumps(header).encode() + b"\n"
        with open(self._descriptor, "rb", closefd=False) as file:
            found = file.readline(4096)
            if not found.endswith(b"\n"):
                if not first.startswith(found):
                    raise BadState(f"{self._name} is not a state of a scan: name another file")
                # Empty, or cut short in the first line.
                os.ftruncate(self._descriptor, 0)
                self._write(first)
                return
            self._compare(found, header)
            good = len(found)
            for number, line in enumerate(file, 2):
                read = _read(line)
                if read is None:
                    if line.endswith(b"\n") or file.read(1):
                        raise BadState(f"{self._name}, line {number}: damaged; without this file the scan begins anew")
                    os.ftruncate(self._descriptor, good)
                    return
                good += len(line)
                entry, words = read
                if not 1 <= entry <= of_entries:
                    raise BadState(f"{self._name}, line {number}: the list has no entry {entry}: name another file")
                if entry not in self:
                    self._mark(entry)
                    count(words)

    def _compare(self, found: bytes, header: dict[str, object]) -> None:
        try:
            other = json.loads(found)
        except ValueError:
            other = None
        if not isinstance(other, dict) or _KEY not in other:
            raise BadState(f"{self._name} is not a state of a scan: name another file")
        if other == header:
            return
        if other[_KEY] != header[_KEY]:
            raise BadState(f"{self._name} is of another version of this program: name another file")
        if other.get("level") != header["level"]:
            raise BadState(
                f"{self._name} is of a scan at level {other.get('level')!s:.20}: say so, or name another file"
            )
        raise BadState(
            f"{self._name} belongs to another list, or this one was changed since: name another file, or remove it to "
            "begin anew"
        )


def _line(number: int, words: Sequence[str]) -> bytes:
    text = " ".join(words)
    return f"{number} {zlib.crc32(f'{number} {text}'.encode()):08x} {text}\n".encode()


def _read(line: bytes) -> tuple[int, list[str]] | None:
    """None for what `_line` does not write."""
    try:
        number, _, *words = line.decode("ascii").split()
        return (int(number), words) if _line(int(number), words) == line else None
    except ValueError:
        return None
