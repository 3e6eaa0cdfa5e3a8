"""Scans as the tests start them: in a process of their own, over lists that they write."""

import os
import subprocess
import sys
from pathlib import Path

KEYS = ["target", "met", "level", "error", "message", "temporary", "outcome", "line"]


def environment(**changes):
    kept = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "TERM")}
    return {**kept, "TERM": "xterm", **changes}


def start(*arguments: object, **options) -> subprocess.Popen:
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment(), **options}
    return subprocess.Popen([sys.executable, "-m", "starttls", "scan", *map(str, arguments)], **options)


def targets(n: int, port: int) -> list[str]:
    """All different, each in a network of its own as far as there are any."""
    return [f"smtp://127.{1 + i // 60000}.{i % 250}.{1 + i // 250 % 250}:{port}" for i in range(n)]


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{text}\n" for text in lines))
    return path
