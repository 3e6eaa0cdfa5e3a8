"""What a resolver of the caller's answers."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Answer"]


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a DNS question, for ``Policy(resolver=…)``: a callable ``(name, type, timeout)`` returns it.

    The name is in A-labels without its last dot, the type a word as in zone files (``A AAAA MX TLSA TXT SRV``), the
    time-out in seconds. A look-up that fails raises; its text goes into the message of ``lookup-failed``. What does
    not validate is no failure but an answer with the proof ``bogus``.
    """

    records: Sequence[bytes] = ()
    """The data of each record as on the wire, names in it uncompressed; empty where there are none of this type."""
    proof: str = "indeterminate"
    """What DNSSEC says of the whole answer, the CNAMEs on the way and a denial included: ``secure`` (signed and
    validated by someone whom you trust), ``insecure`` (proven to be unsigned), ``bogus``, ``indeterminate``."""
    ttl: float = 0
    """Seconds that it may be kept: the least TTL of all on the way."""
    name: str | None = None
    """The name at which the records are; None: the one that was asked for, which is no CNAME then."""
    no_such_name: bool = False
    """No such name at all (NXDOMAIN)."""
