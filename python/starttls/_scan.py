"""`starttls scan`: a list of targets, many at once, each result written when it is there, and a summary."""

import argparse
import os
import resource
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from starttls import errors
from starttls._check import result
from starttls._command import MET, NOT_MET, TEMPORARY, as_json, policy_of, usage
from starttls._core import Policy
from starttls._printable import printable
from starttls._progress import Progress
from starttls._scan_crew import Crew, Job
from starttls._scan_list import Entry, Listing, entries, listing
from starttls._scan_state import BadState, State
from starttls._scan_svg import write_svg
from starttls._scan_target import attempt
from starttls._show import Screen
from starttls._summary import Summary, words_of
from starttls._targets import BadTarget, Target
from starttls.outcome import Outcome

__all__ = ["scan"]

INTERRUPTED = 130
# How far an entry may be ahead of the first that is not done: what State has in memory.
_WINDOW = 1 << 16
# What is under way after Ctrl-C has that long to end: it is not done again then.
_GRACE = 1.0


def scan(arguments: argparse.Namespace) -> int:
    """Runs it; its exit status."""
    if arguments.resume is not None and arguments.file == "-":
        return usage("--resume needs a FILE: of standard input nobody knows whether it is the same list")
    if (same := _same_file(arguments)) is not None:
        return usage(f"{same}: the list, --resume and --svg must be different files")
    if arguments.svg is not None and not os.access(os.path.dirname(arguments.svg) or ".", os.W_OK):
        return usage(f"--svg {arguments.svg}: no file can be written there")
    if not _may_open(arguments.jobs):
        return usage(f"--jobs {arguments.jobs} needs more open files than `ulimit -n` allows")
    try:
        policy = policy_of(arguments, arguments.level)
        policy.ready()
    except errors.Error as e:
        return usage(e.message)
    summary = Summary(policy.level)
    with ExitStack() as stack:
        try:
            known = _read_before(arguments)
            state = None
            if arguments.resume is not None:
                if known is None:
                    return usage(f"--resume needs a file: {arguments.file} is none")
                state = stack.enter_context(State(arguments.resume, known, policy.level, summary.add))
        except (BadState, OSError) as e:
            return usage(str(e))
        progress = Progress(sys.stderr, known.entries if known else None, summary.done)
        run = _Run(policy, summary, state, progress, arguments.json)
        interrupted, is_over = run.go(arguments.file, Crew(arguments.jobs, arguments.per_network))
        with run.lock:
            progress.clear()
            if arguments.json:
                _tell({"summary": summary.as_dict(interrupted)})
            else:
                run.screen.say()
                if interrupted:
                    run.screen.say("stopped before the end; so far:", "yellow")
                run.screen.say(summary.text())
            if arguments.svg is not None:
                write_svg(arguments.svg, summary, interrupted)
            if not is_over:
                # Threads are still in the core, and the interpreter must not end below them. All is written.
                stack.close()
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(INTERRUPTED)
    if interrupted:
        return INTERRUPTED
    if not summary.failed and not summary["bad-line"]:
        return MET
    return TEMPORARY if summary.failed == summary["temporary"] and not summary["bad-line"] else NOT_MET


def _same_file(arguments: argparse.Namespace) -> str | None:
    """A file that is named twice, and would be overwritten."""
    named = [n for n in (arguments.file, arguments.resume, arguments.svg) if n is not None and n != "-"]
    for i, one in enumerate(named):
        for other in named[i + 1 :]:
            if os.path.realpath(one) == os.path.realpath(other):
                return str(one)
    return None


def _read_before(arguments: argparse.Namespace) -> Listing | None:
    """What can be known of the list before it is read; None where that is nothing or nobody needs it."""
    if arguments.file == "-":
        return None
    if not os.path.isfile(arguments.file):
        # A pipe can be opened once only.
        os.stat(arguments.file)
        return None
    with open(arguments.file, "rb"):
        pass
    return listing(arguments.file) if arguments.resume is not None or sys.stderr.isatty() else None


def _tell(told: dict[str, Any]) -> None:
    """One line, in one piece even where Python does not buffer: who is killed leaves no half of it."""
    sys.stdout.write(as_json(told) + "\n")
    sys.stdout.flush()


def _may_open(jobs: int) -> bool:
    """Whether so many jobs may have their sockets and files open: else a limit of ours would be a target's failure."""
    # A job dials two addresses at once, asks DNS, and reads a certificate or the cache.
    needed = 6 * jobs + 32
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return True
    if hard != resource.RLIM_INFINITY and hard < needed:
        return False
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    return True


class _Run:
    """One run over the list."""

    def __init__(
        self, policy: Policy, summary: Summary, state: State | None, progress: Progress, as_json: bool
    ) -> None:
        # One result after the other.
        self.lock = threading.Lock()
        self.screen = Screen(sys.stdout)
        self._policy = policy
        self._summary = summary
        self._state = state
        self._progress = progress
        self._as_json = as_json
        self._closed = False

    def go(self, file: str, crew: Crew) -> tuple[bool, bool]:
        """Whether it was interrupted, and whether all that was begun has ended."""
        try:
            for entry in entries(file):
                if self._state is None or self._may_begin(entry, crew):
                    self._put(self._job(entry), crew)
            while not crew.rest(0.2):
                self._draw()
        except KeyboardInterrupt:
            try:
                is_over = crew.stop(_GRACE)
            except KeyboardInterrupt:
                is_over = False
            self.lock.acquire()
            self._closed = True
            self.lock.release()
            return True, is_over
        except BaseException:
            # Nobody reads the output any more, or the disk is full.
            if not crew.stop(_GRACE):
                self._leave_at_once()
            raise
        return False, True

    def _leave_at_once(self) -> None:
        """Threads are still in the core, so the interpreter cannot end in order."""
        e = sys.exc_info()[1]
        if not isinstance(e, BrokenPipeError):
            usage(str(e))
        os._exit(141 if isinstance(e, BrokenPipeError) else 2)

    def _may_begin(self, entry: Entry, crew: Crew) -> bool:
        assert self._state is not None
        with self.lock:
            if entry.number in self._state:
                return False
        while entry.number > self._state.low + _WINDOW:
            crew.wait(0.2)
            self._draw()
        return True

    def _put(self, job: Job, crew: Crew) -> None:
        while not crew.put(job, 0.2):
            self._draw()

    def _draw(self) -> None:
        with self.lock:
            self._progress.draw(at_once=True)

    def _job(self, entry: Entry) -> Job:
        text = printable(entry.text)
        try:
            try:
                target = Target(entry.text.decode())
            except UnicodeDecodeError:
                raise BadTarget(f"{text}: a target is text in UTF-8") from None
        except BadTarget as e:
            bad = errors.InvalidError("invalid", f"line {entry.line}: {e}")
            self._done(entry, text, None, bad, bad_line=True)
            return
        outcome, error = yield from attempt(target, self._policy)
        bad_line = error is not None and error.word == "invalid" and outcome is None
        if error is not None and bad_line:
            error = errors.InvalidError("invalid", f"line {entry.line}: {error.message}")
        self._done(entry, text, outcome, error, bad_line)

    def _done(
        self, entry: Entry, text: str, outcome: Outcome | None, error: errors.Error | None, bad_line: bool
    ) -> None:
        words = words_of(outcome, error, bad_line)
        told: dict[str, Any] = {}
        if self._as_json:
            told = {**result(text, self._policy.level, outcome, error), "line": entry.line}
        with self.lock:
            if self._closed:
                return
            self._progress.clear()
            if self._as_json:
                _tell(told)
            else:
                self._say(text, outcome, error, words)
            # After the output, so that nobody takes for done what was not told.
            if self._state:
                self._state.add(entry.number, words)
            self._summary.add(words)
            self._progress.tick()

    def _say(self, text: str, outcome: Outcome | None, error: errors.Error | None, words: Sequence[str]) -> None:
        if error:
            again = " (temporary)" if error.temporary else ""
            self.screen.say(f"{text:<32} {error.word}{again}: {error.message}", "red")
        elif outcome and outcome.tls:
            by = outcome.identity.proven_by
            who = f"proven by {by}" if by else "with anyone" + (", the certificate is good" if "pkix" in words else "")
            at = f" {outcome.peer.name}" if outcome.peer.name != text else ""
            self.screen.say(f"{text:<32} {outcome.tls.version}, {who}{at}", "green" if by else "yellow")
        else:
            because = outcome.because if outcome else None
            self.screen.say(f"{text:<32} in clear, because: {because}", "yellow")
