"""What did happen on one connection: frozen, comparable, and as JSON with stable keys.

Nothing here decides anything. A check that was not run is absent and never reads as passed.
Everything is None where it is not known or was not tried.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

__all__ = [
    "Certificate",
    "Check",
    "Domain",
    "DomainPolicy",
    "Identity",
    "Line",
    "Milliseconds",
    "Outcome",
    "Peer",
    "Tls",
]


@dataclass(frozen=True, slots=True)
class Peer:
    """Who was asked for, and where it was found."""

    name: str | None
    """The name that was checked, in A-labels, or an IP address; None as server."""
    name_from: str | None
    """Where that name comes from: ``caller``, ``dnssec``, ``mta-sts``, ``insecure-dns``."""
    address: str | None
    """The address that was reached."""
    port: int | None
    """The port that was reached."""


@dataclass(frozen=True, slots=True)
class Tls:
    """What the handshake gave."""

    version: str
    """For example ``TLSv1.3``."""
    cipher: str
    """OpenSSL's name of the cipher."""
    group: str | None
    """The key-exchange group, for example ``X25519``."""
    forward_secrecy: bool
    """Whether a later theft of the server's key leaves this session closed."""
    resumed: bool
    """Whether an earlier session was resumed: its chain's verdict was carried over."""
    alpn: str | None
    """The application protocol agreed on (RFC 7301)."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the peer is, with the evidence; all None where nothing was proven."""

    proven_by: str | None
    """``pkix``, ``dane`` or ``fingerprint``."""
    name: str | None
    """The name proven."""
    evidence: str | None
    """For people: the certificate's name that matched and the root, or the pin."""


@dataclass(frozen=True, slots=True)
class Check:
    """A check that was run, with its result."""

    check: str
    """``chain``, ``name``, ``time``, ``dane``, ``fingerprint``, or ``sts``: the MTA-STS policy names this host."""
    ok: bool
    """Whether it passed."""
    why: str | None
    """Why not."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """The peer's own certificate."""

    subject: str
    """As ``CN=…, O=…``."""
    issuer: str
    """Likewise."""
    names: tuple[str, ...]
    """The DNS names and IP addresses of its subjectAltName."""
    not_after: str | None
    """The end of its validity, UTC, as ``2026-12-31T00:00:00Z``."""
    sha256: str
    """Of the certificate (DER), in hex."""
    spki_sha256: str
    """Of its public key (SubjectPublicKeyInfo, DER), in hex."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the dialog in clear; control and non-UTF-8 bytes are escaped."""

    from_: str
    """``S`` or ``C``. The key in JSON is ``from``."""
    text: str
    """Without its line end, at most 512 bytes."""


@dataclass(frozen=True, slots=True)
class Milliseconds:
    """How long each part took."""

    connect: int | None
    """Resolving and dialling; None where the caller brought the connection."""
    negotiate: int | None
    """The dialog in clear."""
    handshake: int | None
    """The TLS handshake."""


@dataclass(frozen=True, slots=True)
class DomainPolicy:
    """One policy of a domain, as it was found."""

    type: str
    """``tlsa`` (DANE) or ``sts`` (MTA-STS)."""
    domain: str
    """Where it stands: the MX host for TLSA records, the mail domain for MTA-STS."""
    mode: str | None
    """What an MTA-STS policy wants: ``enforce``, ``testing``, ``none``."""
    string: tuple[str, ...]
    """Its text: TLSA records as ``3 1 1 hex``, the lines of an MTA-STS policy."""
    mx_host: tuple[str, ...]
    """The patterns of an MTA-STS policy."""
    failure: str | None
    """Why it could not be used: a result type of RFC 8460 §4.3."""
    why: str | None
    """The same for people."""


@dataclass(frozen=True, slots=True)
class Domain:
    """What a domain asks of those who send to it."""

    name: str
    """The domain that the mail is for, in A-labels; for a host that the caller named, that host."""
    mx: str | None
    """What DNSSEC says of its MX records: ``secure``, ``insecure``, ``indeterminate``."""
    policies: tuple[DomainPolicy, ...]
    """What was found."""
    tlsrpt: str | None
    """Its TLSRPT record (RFC 8460), where it was asked for."""
    lookups: int
    """DNS questions that this attempt cost."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What did happen on one connection."""

    protocol: str | None
    """The protocol word; None where the caller had the go-ahead itself and did not say."""
    role: str
    """``client`` or ``server``."""
    level: str
    """The level asked for."""
    effective: str
    """What it came to: ``none``, ``may``, ``encrypt``, ``fingerprint``, ``verify``, ``dane``, ``sts``."""
    peer: Peer
    """Who was asked for."""
    sni: str | None
    """The server name sent in the handshake, as server the client's; None for an IP address."""
    offered: bool | None
    """Whether the server advertised the upgrade."""
    channel: str | None
    """``tls`` or ``plain``; None if it failed before either."""
    because: str | None
    """Why plain: ``not-asked``, ``not-offered``, ``refused``, ``handshake-failed``."""
    tls: Tls | None
    """What the handshake gave."""
    identity: Identity
    """Who the peer is proven to be."""
    checks: tuple[Check, ...]
    """Every check that was run."""
    certificate: Certificate | None
    """The peer's certificate."""
    suspicions: tuple[str, ...]
    """Signs of an interception, for people and for logs. Nothing is decided by them."""
    notes: tuple[str, ...]
    """What else a reader should know."""
    transcript: tuple[Line, ...]
    """The dialog in clear."""
    attempts: tuple["Outcome", ...]
    """Earlier attempts of the same call."""
    round_trips: int
    """How often we spoke and waited for the answer, the handshake's flights included, TCP's not."""
    milliseconds: Milliseconds
    """How long each part took."""
    domain: Domain | None
    """What the peer's domain asks for; None where nobody looked."""

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Reads what `as_dict` gives, as JSON."""
        return cls._from(json.loads(text))

    @classmethod
    def _from(cls, data: Mapping[str, Any]) -> Self:
        values = dict(data)
        values["peer"] = Peer(**data["peer"])
        values["tls"] = data["tls"] and Tls(**data["tls"])
        values["identity"] = Identity(**data["identity"])
        values["checks"] = tuple(Check(**check) for check in data["checks"])
        if certificate := data["certificate"]:
            values["certificate"] = Certificate(**certificate | {"names": tuple(certificate["names"])})
        values["suspicions"] = tuple(data["suspicions"])
        values["notes"] = tuple(data["notes"])
        values["transcript"] = tuple(Line(line["from"], line["text"]) for line in data["transcript"])
        values["attempts"] = tuple(cls._from(attempt) for attempt in data["attempts"])
        values["milliseconds"] = Milliseconds(**data["milliseconds"])
        values["domain"] = data["domain"] and _domain(data["domain"])
        return cls(**values)

    @property
    def encrypted(self) -> bool:
        """Whether the session runs over TLS."""
        return self.channel == "tls"

    def check(self, kind: str) -> Check | None:
        """The result of one check; None if it was not run."""
        return next((check for check in self.checks if check.check == kind), None)

    def as_dict(self) -> dict[str, Any]:
        """Of dicts, lists, strings, numbers, bools and None, with the documented keys."""
        data = _plain(self)
        assert isinstance(data, dict)
        return data

    def to_json(self) -> str:
        """`as_dict` as one line of JSON."""
        return json.dumps(self.as_dict(), ensure_ascii=False, separators=(",", ":"))


def _domain(data: Mapping[str, Any]) -> Domain:
    policies = (
        DomainPolicy(**policy | {key: tuple(policy[key]) for key in ("string", "mx_host")})
        for policy in data["policies"]
    )
    return Domain(**{**data, "policies": tuple(policies)})


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        # "from" is a keyword: the attribute has an underscore more than the key.
        return {field.name.rstrip("_"): _plain(getattr(value, field.name)) for field in fields(value)}
    return value
