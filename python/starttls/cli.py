"""The command `starttls`: check servers, see a demonstration, list the protocols.

Exit status: 0 all met, 1 some not met, 2 usage, 3 only temporary failures.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from os import devnull
from typing import TYPE_CHECKING

from starttls import _core, errors
from starttls._command import LEVELS, MET, NOT_MET, add_policy_options, count, seconds, usage
from starttls._show import Screen
from starttls._targets import target

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

__all__ = ["main"]


class _Parser(argparse.ArgumentParser):
    """One whose help and usage do not get lost without a word where they cannot be written."""

    def _print_message(self, message: str, file: "SupportsWrite[str] | None" = None) -> None:
        if message:
            (file or sys.stderr).write(message)


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    top = _Parser(
        prog="starttls",
        description="STARTTLS for mail software: see what a server offers and what can be proven about it.",
        epilog="Exit status: 0 all met, 1 some not met, 2 usage, 3 only temporary failures.",
    )
    top.add_argument("--version", action="version", version=f"starttls {_core.version}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    _add_check(commands)
    _add_scan(commands)
    _add_forget(commands)
    demo = commands.add_parser("demo", help="see what it is for, with servers of its own on loopback")
    demo.set_defaults(run=_demo)

    protocols = commands.add_parser("protocols", help="list the protocols, their words and ports")
    protocols.add_argument("--json", action="store_true", help="one object a line")
    protocols.set_defaults(run=_protocols)
    return top


def _add_check(commands: "argparse._SubParsersAction[_Parser]") -> None:
    check = commands.add_parser(
        "check",
        help="connect, upgrade, and say what was obtained",
        description="""
Connects, plays the dialog, runs every check, and says whether the level is met. Of a domain it shows what it
publishes (MX, TLSA, MTA-STS, TLSRPT), asks each of its mail hosts, also in clear (no recipient is named, no mail is
sent), and says which protection a sender gets today, what someone on the path could do about it, and what its owner
should mend. The level is met where mail would go: by the first host that meets it.""",
        epilog="""
TARGET: a domain, or smtp://host[:port], imaps://host … any word that `starttls protocols` lists. Exit status: 0 all
met, 1 some not met, 2 usage, 3 only temporary failures. --json has of a domain also: survey (what it publishes), hosts
(each one's result), verdict (level, host, says, attack, advice).""",
    )
    check.add_argument("--level", choices=LEVELS, help="what must hold (default: strict)")
    check.add_argument("--name", metavar="HOST", help="the name to check; TARGET is then only where to dial")
    check.add_argument("--timeout", metavar="S", type=seconds, default=30.0, help="seconds a connection (default: 30)")
    check.add_argument(
        "--fingerprint",
        metavar="HEX",
        action="append",
        default=[],
        help="SHA-256 of the certificate or its key; may be given again; implies level fingerprint",
    )
    check.add_argument("--json", action="store_true", help="one object a line")
    add_policy_options(check)
    check.add_argument("targets", metavar="TARGET", nargs="+", type=target)
    check.set_defaults(run=_check)


def _add_scan(commands: "argparse._SubParsersAction[_Parser]") -> None:
    scan = commands.add_parser(
        "scan",
        help="check a list of domains, many at once",
        description="""
Connects to every target of a list, as a sender would, and counts: who does TLS, with whom it is proven, by which
versions, and what failed. The list may be of any length: neither it nor the results are kept in memory.""",
        epilog="""
FILE: one target a line, as for `starttls check`; empty lines and those that begin with # are skipped. A line that is
no target is a result with the error "invalid". What stands there twice is done twice (sort -u FILE). With --json one
object a line as of `starttls check`, with the line of the file as "line", and at last {"summary": …}. With --resume
what is done is kept in STATE, and the same call goes on after an end of any kind, even kill -9: no target is lost,
those that were under way are done again, and the summary counts each once. Ctrl-C ends it with the summary so far.
Exit status as `check`; 130 after Ctrl-C.""",
    )
    scan.add_argument(
        "--level", choices=LEVELS, default="opportunistic", help="what must hold (default: opportunistic)"
    )
    scan.add_argument("--jobs", metavar="N", type=count, default=16, help="targets at once (default: 16)")
    scan.add_argument(
        "--per-network", metavar="M", type=count, default=2, help="connections at once into one /24 or /48 (default: 2)"
    )
    scan.add_argument("--timeout", metavar="S", type=seconds, default=30.0, help="seconds a connection (default: 30)")
    scan.add_argument("--resume", metavar="STATE", help="keep what is done in this file, and go on from it")
    scan.add_argument("--svg", metavar="FILE", help="write the summary as a picture")
    scan.add_argument("--json", action="store_true", help="one object a line")
    add_policy_options(scan)
    scan.add_argument("file", metavar="FILE", help="the list; - is standard input")
    scan.set_defaults(run=_scan)


def _add_forget(commands: "argparse._SubParsersAction[_Parser]") -> None:
    forget = commands.add_parser(
        "forget",
        help="forget that a host did TLS before",
        description="""
With a cache, a host that proved its name over TLS and then does not offer TLS is `stripped`: nobody goes on in clear.
Where that was meant, this forgets what the cache knows of the host, or of a domain's hosts.""",
    )
    forget.add_argument(
        "--cache", metavar="SPEC", required=True, help="a directory, 'directory' (its usual place), redis://…"
    )
    forget.add_argument("host", metavar="HOST")
    forget.set_defaults(run=_forget)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    # Closed by whoever started this: nobody wants to see anything.
    sys.stdout = sys.stdout or open(devnull, "w")
    sys.stderr = sys.stderr or open(devnull, "w")
    # Peers' text and ours go to terminals and files of any encoding.
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        try:
            arguments = parser().parse_args(argv)
            status: int = arguments.run(arguments)
        finally:
            # Also after --help: what cannot be written must be known while we can still say so.
            sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        _give_up_output()
        return 141
    except OSError as e:
        _give_up_output()
        return usage(str(e))


def _give_up_output() -> None:
    """So that the interpreter does not complain at its end of what could not be written."""
    with suppress(OSError):
        sys.stdout.close()


def _check(arguments: argparse.Namespace) -> int:
    from starttls._check import check

    return check(arguments)


def _scan(arguments: argparse.Namespace) -> int:
    from starttls._scan import scan

    return scan(arguments)


def _forget(arguments: argparse.Namespace) -> int:
    try:
        _core.Policy("opportunistic", cache=arguments.cache).forget(arguments.host)
    except errors.Error as e:
        return usage(e.message)
    print(f"{arguments.host}: forgotten")
    return MET


def _demo(_arguments: argparse.Namespace) -> int:
    from starttls.demo import run

    return MET if run(Screen(sys.stdout)) else NOT_MET


def _protocols(arguments: argparse.Namespace) -> int:
    names = ("protocol", "port", "implicit", "implicit_port", "alpn", "spec", "afterwards")
    rows = _core.protocols()
    if arguments.json:
        for row in rows:
            print(json.dumps(dict(zip(names, row, strict=True))))
        return MET
    heading = ("PROTOCOL", "PORT", "TLS AT ONCE", "PORT", "ALPN", "SPECIFICATION")
    table = [heading] + [tuple("-" if cell is None else str(cell) for cell in row[:6]) for row in rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(heading))]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    return MET
