"""A bar for a long scan, on a terminal only."""

import os
import shutil
import time
from typing import TextIO

__all__ = ["Progress"]


class Progress:
    """Draws on a stream if that is a terminal; else does nothing."""

    def __init__(self, stream: TextIO, total: int | None, before: int) -> None:
        """total: None if nobody knows. before: how many were done in an earlier run."""
        self._stream = stream
        self._shown = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._total = total
        self._before = before
        self._done = before
        self._began = time.monotonic()
        self._drawn = 0.0
        self._there = False

    @property
    def is_shown(self) -> bool:
        """Whether there is a terminal."""
        return self._shown

    def tick(self) -> None:
        """One more is done."""
        self._done += 1
        self.draw()

    def draw(self, at_once: bool = False) -> None:
        """Shows how far it is, ten times a second at most."""
        now = time.monotonic()
        if not self._shown or (not at_once and now - self._drawn < 0.1):
            return
        self._drawn = now
        width = shutil.get_terminal_size().columns
        self._stream.write(f"\r{self._text(now - self._began, width)[: width - 1]}\x1b[K")
        self._stream.flush()
        self._there = True

    def clear(self) -> None:
        """Makes room for a line of something else."""
        if self._there:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._there = False

    def _text(self, seconds: float, width: int) -> str:
        rate = (self._done - self._before) / seconds if seconds > 0.2 else 0.0
        speed = f"{rate:.1f}/s" if rate else ""
        if not self._total:
            return f"{self._done} done  {speed}"
        share = min(1.0, self._done / self._total)
        left = f"{_clock((self._total - self._done) / rate)} left" if rate else ""
        tail = f" {self._done}/{self._total} {100 * share:3.0f} %  {speed}  {left}"
        room = max(0, min(40, width - len(tail) - 4))
        full = int(room * share)
        return f"[{'#' * full}{'.' * (room - full)}]{tail}" if room > 4 else tail.lstrip()


def _clock(seconds: float) -> str:
    hours, rest = divmod(int(seconds + 0.5), 3600)
    minutes, whole = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{whole:02}" if hours else f"{minutes}:{whole:02}"
