"""The list of targets that `starttls scan` reads: one a line, never as a whole in memory."""

import codecs
import hashlib
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import BinaryIO

__all__ = ["Entry", "Listing", "entries", "listing"]

# No target is longer; what a line has beyond it is skipped.
_LONGEST = 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """A line that is neither empty nor a comment."""

    number: int
    """Which entry it is, from 1."""
    line: int
    """Which line of the file, from 1."""
    text: bytes


@dataclass(frozen=True, slots=True)
class Listing:
    """What tells one list from another."""

    size: int
    sha256: str
    entries: int


def entries(name: str) -> Iterator[Entry]:
    """Those of a file; `-` is standard input."""
    with nullcontext(sys.stdin.buffer) if name == "-" else open(name, "rb") as file:
        number = 0
        for line, text in enumerate(_lines(file), 1):
            # Some editors begin a file in UTF-8 with a mark that nobody sees.
            text = (text.removeprefix(codecs.BOM_UTF8) if line == 1 else text).strip()
            if text and not text.startswith(b"#"):
                number += 1
                yield Entry(number, line, text)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while text := file.readline(_LONGEST + 1):
        yield text
        while not text.endswith(b"\n") and (text := file.readline(_LONGEST)):
            pass


def listing(name: str) -> Listing:
    """Reads the file once."""
    digest = hashlib.sha256()
    size = 0
    with open(name, "rb") as file:
        while block := file.read(1 << 16):
            digest.update(block)
            size += len(block)
    return Listing(size, digest.hexdigest(), sum(1 for _ in entries(name)))
