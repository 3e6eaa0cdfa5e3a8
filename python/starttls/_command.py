"""What the commands share: exit codes, levels, the options that make a policy."""

import argparse
import json
import sys
from contextlib import suppress
from typing import Any

from starttls._core import Policy

__all__ = [
    "LEVELS",
    "MET",
    "NOT_MET",
    "TEMPORARY",
    "USAGE",
    "add_policy_options",
    "as_json",
    "count",
    "policy_of",
    "seconds",
    "usage",
]

LEVELS = ("none", "may", "encrypt", "fingerprint", "verify", "dane", "dane-only", "opportunistic", "strict")
MET, NOT_MET, USAGE, TEMPORARY = 0, 1, 2, 3


def usage(message: str) -> int:
    """Says what is wrong with the call; the exit status."""
    with suppress(OSError):
        print(f"starttls: {message}", file=sys.stderr)
    return USAGE


def as_json(told: dict[str, Any]) -> str:
    """For standard output, in what it can encode: JSON has escapes of its own."""
    return json.dumps(told, ensure_ascii=(sys.stdout.encoding or "").lower().replace("-", "") != "utf8")


def seconds(text: str) -> float:
    """For argparse."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError("not a number of seconds") from None


def count(text: str) -> int:
    """For argparse: how many."""
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= 1000):
        raise argparse.ArgumentTypeError("a number from 1 to 1000")
    return int(text)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535):
        raise argparse.ArgumentTypeError("a port is a number from 1 to 65535")
    return int(text)


def add_policy_options(parser: argparse.ArgumentParser) -> None:
    """Options of `check` and `scan` alike."""
    trust = parser.add_argument_group("what is trusted and what is known")
    trust.add_argument("--ca-file", metavar="F", help="trust these certificates (PEM) and no others")
    trust.add_argument(
        "--resolver",
        metavar="SPEC",
        help="whom to ask: ADDR[:PORT], several with commas, 'ADDR trust-ad', or 'unbound' (default: the system's)",
    )
    trust.add_argument(
        "--trust-dns",
        action="store_true",
        help="trust the --resolver, and the way to it, to have validated DNSSEC; one on this machine is trusted anyway",
    )
    trust.add_argument(
        "--cache", metavar="SPEC", help="keep what was learnt: a directory, 'directory' (its usual place), redis://…"
    )
    trust.add_argument("--destinations", metavar="FILE", help="table of destinations, or a STARTTLS Everywhere list")
    ports = parser.add_argument_group("ports of domains, where they are not the usual ones")
    ports.add_argument("--port", metavar="N", type=_port, help="of mail hosts (default: 25)")
    ports.add_argument("--tlsa-port", metavar="N", type=_port, help="in the names of TLSA records (default: --port)")
    ports.add_argument("--sts-port", metavar="N", type=_port, help="of MTA-STS policy hosts (default: 443)")


def policy_of(arguments: argparse.Namespace, level: str, **settings: Any) -> Policy:
    """The policy that the options make. Raises `starttls.Error`."""
    from starttls import errors

    resolver = arguments.resolver
    if arguments.trust_dns:
        if resolver is None:
            raise errors.InvalidError("invalid", "--trust-dns says that a --resolver is to be trusted: name it")
        if not resolver.split()[-1:] == ["trust-ad"] and not resolver.startswith("unbound"):
            resolver += " trust-ad"
    return Policy(
        level,
        ca_file=arguments.ca_file,
        timeout=arguments.timeout,
        resolver=resolver,
        cache=arguments.cache,
        destinations=arguments.destinations,
        port=arguments.port,
        tlsa_port=arguments.tlsa_port,
        sts_port=arguments.sts_port,
        **settings,
    )
