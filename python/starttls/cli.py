"""The command `starttls`: check servers, see a demonstration, list the protocols.

Exit status: 0 all met, 1 some not met, 2 usage, 3 only temporary failures.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from os import devnull
from typing import Any
from urllib.parse import SplitResult, urlsplit

from starttls import _core, errors
from starttls._core import Policy
from starttls._show import Screen

__all__ = ["main"]

LEVELS = ("none", "may", "encrypt", "fingerprint", "verify", "opportunistic", "strict")
MET, NOT_MET, USAGE, TEMPORARY = 0, 1, 2, 3


class Target:
    """What to check: `smtp://host[:port]`, any protocol word, or a bare domain."""

    def __init__(self, text: str) -> None:
        if not text or not text.isprintable() or " " in text:
            raise argparse.ArgumentTypeError(f"{text!r}: a target is not empty and has no spaces or control characters")
        self.text = text
        self.protocol: str | None = None
        self.host = text
        self.port = 0
        if "://" not in text:
            return
        if "?" in text or "#" in text:
            raise argparse.ArgumentTypeError(f"{text!r}: a target is protocol://host[:port] and no more")
        try:
            url = urlsplit(text)
        except ValueError as e:
            raise argparse.ArgumentTypeError(f"{text!r}: {e}") from None
        known = _words()
        if url.scheme not in known:
            raise argparse.ArgumentTypeError(
                f"{text!r}: no protocol is called {url.scheme!r}; it is one of: {' '.join(known)}"
            )
        self.protocol = url.scheme
        self.host, self.port = _host_and_port(text, url)


def _words() -> list[str]:
    rows = _core.protocols()
    return [row[0] for row in rows] + [row[2] for row in rows if row[2]]


def _host_and_port(text: str, url: SplitResult) -> tuple[str, int]:
    try:
        port = url.port
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: the port is a number from 1 to 65535") from None
    if port == 0 or url.netloc.endswith(":"):
        raise argparse.ArgumentTypeError(f"{text!r}: the port is a number from 1 to 65535")
    if url.username is not None or url.path not in ("", "/"):
        raise argparse.ArgumentTypeError(f"{text!r}: a target is protocol://host[:port] and no more")
    if not url.hostname:
        raise argparse.ArgumentTypeError(f"{text!r}: there is no host")
    return url.hostname, port or 0


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError("not a number of seconds") from None


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    top = argparse.ArgumentParser(
        prog="starttls",
        description="STARTTLS for mail software: see what a server offers and what can be proven about it.",
        epilog="Exit status: 0 all met, 1 some not met, 2 usage, 3 only temporary failures.",
    )
    top.add_argument("--version", action="version", version=f"starttls {_core.version}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    check = commands.add_parser(
        "check",
        help="connect, upgrade, and say what was obtained",
        description="Connects, plays the dialog, runs every check, and says whether the level is met.",
        epilog="TARGET: smtp://host[:port], imaps://host … any word that `starttls protocols` lists.",
    )
    check.add_argument("--level", choices=LEVELS, help="what must hold (default: strict)")
    check.add_argument("--ca-file", metavar="F", help="trust these certificates (PEM) and no others")
    check.add_argument("--name", metavar="HOST", help="the name to check; TARGET is then only where to dial")
    check.add_argument("--timeout", metavar="S", type=_seconds, default=30.0, help="seconds a target (default: 30)")
    check.add_argument(
        "--fingerprint",
        metavar="HEX",
        action="append",
        default=[],
        help="SHA-256 of the certificate or its key; may be given again; implies level fingerprint",
    )
    check.add_argument("--resolver", metavar="ADDR[:PORT]", help="not in this version")
    check.add_argument("--json", action="store_true", help="one object a line")
    check.add_argument("targets", metavar="TARGET", nargs="+", type=Target)
    check.set_defaults(run=_check)

    demo = commands.add_parser("demo", help="see what it is for, with servers of its own on loopback")
    demo.set_defaults(run=_demo)

    protocols = commands.add_parser("protocols", help="list the protocols, their words and ports")
    protocols.add_argument("--json", action="store_true", help="one object a line")
    protocols.set_defaults(run=_protocols)
    return top


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
        return _usage(str(e))


def _give_up_output() -> None:
    """So that the interpreter does not complain at its end of what could not be written."""
    with suppress(OSError):
        sys.stdout.close()


def _check(arguments: argparse.Namespace) -> int:
    if arguments.resolver is not None:
        return _usage("--resolver is unsupported: this version makes no DNS look-ups of its own")
    level = arguments.level or ("fingerprint" if arguments.fingerprint else "strict")
    try:
        policy = Policy(level, ca_file=arguments.ca_file, fingerprints=arguments.fingerprint, timeout=arguments.timeout)
        policy.ready()
        for target in arguments.targets:
            if target.protocol is not None:
                host = target.host if arguments.name is None else arguments.name
                # For the rules of its arguments alone.
                _core.Negotiation(target.protocol, host, "greeting", policy)
    except errors.Error as e:
        return _usage(e.message)

    screen = None if arguments.json else Screen(sys.stdout)
    failures = []
    for target in arguments.targets:
        result, error = _check_one(target, arguments.name, policy, screen)
        if error is not None:
            failures.append(error)
        if screen is None:
            print(json.dumps(result, ensure_ascii=False), flush=True)
    if not failures:
        return MET
    return TEMPORARY if all(e.temporary for e in failures) else NOT_MET


def _check_one(
    target: Target, name: str | None, policy: Policy, screen: Screen | None
) -> tuple[dict[str, Any], errors.Error | None]:
    """Checks one target; without a screen nothing is printed. The result is what --json prints."""
    error: errors.Error | None = None
    outcome = None
    if screen:
        screen.heading(target.text)
    try:
        session = _connect(target, name, policy, screen)
    except errors.Error as e:
        error, outcome = e, e.outcome
    else:
        session.close()
        outcome = session.outcome
    met = error is None
    message = error.message if error else f"level {policy.level} is met"
    if screen:
        if outcome:
            screen.findings(outcome)
        screen.verdict(policy.level, error, outcome)
    result = {
        "target": target.text,
        "met": met,
        "level": policy.level,
        "error": error.word if error else None,
        "message": message,
        "temporary": error.temporary if error else False,
        "outcome": outcome.as_dict() if outcome else None,
    }
    return result, error


def _connect(target: Target, name: str | None, policy: Policy, screen: Screen | None) -> _core.Session:
    see = screen.line if screen else None
    if target.protocol is None:
        raise errors.UnsupportedError(
            "unsupported",
            f"this version does not look up a domain's mail servers; name one: smtp://{target.host}",
        )
    if name is None:
        return _core.connect(target.protocol, target.host, target.port, policy=policy, _see=see)
    # TARGET is only where to dial. An address is told to the policy; a name is looked up here.
    *others, last = _addresses(target.host)
    for address in others:
        try:
            return _core.connect(target.protocol, name, target.port, policy=policy.derive(address=address), _see=see)
        except errors.ConnectionNotMadeError:
            # Nobody there: the next one.
            pass
    return _core.connect(target.protocol, name, target.port, policy=policy.derive(address=last), _see=see)


def _addresses(host: str) -> list[str]:
    import socket

    try:
        return [str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    except socket.gaierror as e:
        permanent = e.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
        raise errors.make("lookup-failed", f"look up {host}: {e.strerror}", not permanent, None, None) from None
    except UnicodeError:
        raise errors.InvalidError("invalid", f"{host!r} is no host name") from None


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


def _usage(message: str) -> int:
    with suppress(OSError):
        print(f"starttls: {message}", file=sys.stderr)
    return USAGE
