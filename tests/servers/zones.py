"""The zones of the domain layer's tests, as text, from tests/tlsa/matrix.tsv and tests/tlsa/domains.tsv.

Those two files say what there is and what comes of it; here is what follows from them: which address has which
certificate, what names these have, the TLSA records of the certificates of this run, and the MTA-STS policies.
"""

import hashlib
import re
import ssl
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

DATA = Path(__file__).parent.parent / "tlsa"
ORIGIN = "example.test"
# Apex -> whether it is signed.
ZONES = {"example.test": True, "attacker.test": True, "insecure.test": False, "bogus.test": True}
# Those above them.
PARENTS = ["test", ""]
LEVELS = "dane", "dane-only", "opportunistic", "strict"
TTL = 300


@dataclass(frozen=True)
class Row:
    """Some TLSA records, and what comes of them with each certificate."""

    records: str
    tlsa: list[str]
    verdicts: dict[str, str]


@dataclass(frozen=True)
class Domain:
    """What is at a name, what each level obtains there (nothing for a host), and why."""

    name: str
    # (type, text)
    records: list[tuple[str, str]]
    expected: dict[str, str]
    why: str

    def all(self, kind: str) -> list[str]:
        return [text for one, text in self.records if one == kind]


def _rows(path: Path) -> list[list[str]]:
    """The header and the rows; what has no tab is a comment."""
    return [line.removeprefix("# ").split("\t") for line in path.read_text().splitlines() if "\t" in line]


def matrix() -> list[Row]:
    header, *rows = _rows(DATA / "matrix.tsv")
    return [
        Row(records, [] if tlsa == "-" else tlsa.split("; "), dict(zip(header[2:], verdicts, strict=True)))
        for records, tlsa, *verdicts in rows
    ]


def domains() -> list[Domain]:
    found = []
    for name, records, *expected, why in _rows(DATA / "domains.tsv")[1:]:
        words = [] if records == "-" else records.split(" + ")
        split = [(kind, text) for kind, _, text in (word.partition(" ") for word in words)]
        levels = dict(zip(LEVELS, expected, strict=True))
        found.append(Domain(name, split, {} if "-" in expected else levels, why))
    return found


CERTIFICATES = list(matrix()[0].verdicts)
# What listens on the port of all MX hosts: each certificate's server has an address of its own.
ADDRESSES = {name: f"127.0.0.{number}" for number, name in enumerate([*CERTIFICATES, "sni", "busy", "down"], 11)}
# It has the good certificate only for who asks for this name.
SNI_NAME = f"sni-mx.{ORIGIN}"
POLICY_HOST = "127.0.0.1"
# The host of all other servers, and what their ports end in -> the certificate.
MAIL_HOST = f"mail.{ORIGIN}"
VARIANTS = {
    "": "good",
    "rsa": "good-rsa",
    "self-signed": "self-signed",
    "expired": "expired",
    "notyet": "not-yet-valid",
    "wrong-name": "wrong-name",
    "unknownca": "unknown-ca",
}
# RFC 6186, 6120, 2782: protocol -> the service in SRV.
SERVICES = {name: name for name in "imap imaps pop3 pop3s submission submissions sieve ldap xmpp-server".split()}
SERVICES["xmpp"] = "xmpp-client"


def ascii_name(name: str) -> str:
    """The A-labels of a name."""
    return name if name.isascii() else name.encode("idna").decode()


# --- certificates ------------------------------------------------------------------------------


def leaves() -> list[str]:
    """What tests/certs/make shall make for the MX hosts, as its second argument wants it."""
    names = {name: f"DNS:*.{name}-mx.{ORIGIN}" for name in CERTIFICATES if name != "no-tls"}
    names["nexthop"] = f"DNS:*.nexthop.{ORIGIN}"
    names["wrong-name"] = f"DNS:wrong-name.{ORIGIN}"
    # Hosts that have a name of their own.
    own = {domain.name for domain in domains() if "good" in domain.all("A") or domain.all("CNAME")}
    names["good"] = ",".join([names["good"], *(f"DNS:{name}" for name in sorted(own))])
    issuers = {"unknown-ca": "other-ca", "expired": "expired", "self-signed": "self-signed"}
    return [f"mx-{name} {names[name]} {issuers.get(name, 'intermediate')}" for name in names]


def chain(certificate: str) -> list[str]:
    """The files that its server sends, the leaf's first."""
    above = {"no-root": ["intermediate"], "self-signed": [], "expired": ["ca"], "unknown-ca": ["other-ca"]}
    return [f"mx-{certificate}", *above.get(certificate, ["intermediate", "ca"])]


@dataclass
class Matched:
    """The bytes that TLSA records speak of."""

    certs: Path
    _der: dict[tuple[str, str], bytes] = field(default_factory=dict)

    def data(self, selector: str, matching: str, what: str) -> str:
        """The association data in hex. `what` is NAME or, for what is only in the record, a word of matrix.tsv."""
        if what.startswith("other"):
            data = hashlib.sha512(what.encode()).digest()
            return (data if matching == "2" else data[:32]).hex()
        if what in ("short", "long", "junk"):
            return {"short": "ab" * 31, "long": "ab" * 33, "junk": "abcd" * 20}[what]
        whole = self._whole(what, "certificate" if selector == "0" else "key")
        digests = {"0": whole, "2": hashlib.sha512(whole).digest()}
        return digests.get(matching, hashlib.sha256(whole).digest()).hex()

    def _whole(self, name: str, part: str) -> bytes:
        if (name, part) not in self._der:
            file = self.certs / f"{name}.crt"
            # The first of the file is the leaf's.
            self._der[name, "certificate"] = ssl.PEM_cert_to_DER_cert(
                re.findall("-----BEGIN CERT.*?END CERTIFICATE-----\n", file.read_text(), re.DOTALL)[0]
            )
            pem = ["openssl", "x509", "-in", str(file), "-noout", "-pubkey"]
            text = subprocess.run(pem, capture_output=True, text=True, check=True).stdout
            text = text.replace("PUBLIC KEY", "CERTIFICATE")
            self._der[name, "key"] = ssl.PEM_cert_to_DER_cert(text)
        return self._der[name, part]

    def tlsa(self, entries: list[str], certificate: str) -> list[str]:
        """Record texts: "3 1 1 leaf" -> "3 1 1 0123…"."""
        found = []
        for entry in entries:
            usage, selector, matching, what = entry.split()
            what, _, times = what.partition("*")
            what, _, of = what.partition("@")
            files = {"leaf": f"mx-{of or certificate}", "root": "ca"}
            for number in range(int(times or 1)):
                name = f"{what}{number}" if what == "other" else files.get(what, what)
                found.append(f"{usage} {selector} {matching} {self.data(selector, matching, name)}")
        return found


# --- MTA-STS -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class PolicyHost:
    """The host `mta-sts.DOMAIN`: what is wrong with it ("" for nothing), and the policy."""

    name: str
    wrong: str
    policy: str


def policy_hosts() -> list[PolicyHost]:
    hosts = []
    for domain in domains():
        policy = ""
        for text in domain.all("STS"):
            mode, names, *age = text.split()
            mx = "".join(f"mx: {name}\n" for name in names.split(",") if name != "-")
            max_age = age[0].partition("=")[2] if age else "86400"
            policy = f"version: STSv1\nmode: {mode}\n{mx}max_age: {max_age}\n"
        for text in domain.all("POLICY"):
            policy = text.replace("\\r", "\r").replace("\\n", "\n")
        if policy:
            hosts.append(PolicyHost(f"mta-sts.{domain.name}", "".join(domain.all("WEB")), policy))
    return hosts


# --- zones -------------------------------------------------------------------------------------


class Zones:
    """The text of each zone before it is signed, without SOA and keys."""

    def __init__(self, certs: Path, smtp_port: int, others: dict[str, int]) -> None:
        self._matched = Matched(certs)
        self._port = smtp_port
        self.lines: dict[str, list[str]] = {zone: [] for zone in ZONES}
        # Delegated, signed by their parent, and then not.
        self.bogus: list[str] = []
        # Delegated to a server that has lost them.
        self.lame: list[str] = []
        for row in matrix():
            for certificate in CERTIFICATES:
                host = f"{row.records}.{certificate}-mx.{ORIGIN}"
                self._add(f"{row.records}.{certificate}.{ORIGIN}", f"MX 10 {host}.")
                self._address(host, certificate)
                # The host without TLS has the other one's records.
                self._tlsa(host, row.tlsa, "good" if certificate == "no-tls" else certificate)
        for domain in domains():
            self._domain(domain)
        self._others(others)

    def _others(self, ports: dict[str, int]) -> None:
        """Each port of the other servers has TLSA records (RFC 7673), and the usual ones a service name."""
        self._add(MAIL_HOST, "A 127.0.0.1")
        for name, port in ports.items():
            variant = next((word for word in VARIANTS if word and name.endswith(f"-{word}")), "")
            protocol = name.removesuffix(f"-{variant}")
            if not variant and protocol in SERVICES:
                self._add(f"_{SERVICES[protocol]}._tcp.{ORIGIN}", f"SRV 0 0 {port} {MAIL_HOST}.")
            if variant or "-" not in protocol or protocol in SERVICES:
                data = self._matched.data("1", "1", VARIANTS[variant])
                self._add(f"_{port}._tcp.{MAIL_HOST}", f"TLSA 3 1 1 {data}")

    def _add(self, name: str, record: str) -> None:
        zone = next(zone for zone in self.lines if name.endswith(zone))
        self.lines[zone].append(f"{ascii_name(name)}. {TTL} IN {record}")

    def _address(self, host: str, service: str) -> None:
        self._add(host, f"A {ADDRESSES[service]}")

    def _tlsa(self, host: str, entries: list[str], certificate: str) -> None:
        for record in self._matched.tlsa(entries, certificate):
            self._add(f"_{self._port}._tcp.{host}", f"TLSA {record}")

    def _txt(self, name: str, text: str) -> None:
        # Two strings, which are read as one (RFC 8461 section 3.1).
        half = len(text) // 2
        self._add(name, f'TXT "{text[:half]}" "{text[half:]}"')

    def _domain(self, domain: Domain) -> None:
        name = domain.name
        services = domain.all("A")
        for kind, text in domain.records:
            if kind == "MX":
                preference, host = text.split()
                self._add(name, f"MX {preference} {ascii_name(host).rstrip('.')}.")
            elif kind == "CNAME":
                self._add(name, f"CNAME {text}.")
            elif kind == "A":
                self._address(name, text)
            elif kind == "TLSA":
                self._tlsa(name, text.split("; "), services[0] if services else "")
            elif kind == "RPT":
                self._txt(f"_smtp._tls.{name}", text)
            elif kind == "NS" or text == "lame":
                self.lame.append(name if kind == "NS" else f"_tcp.{name}")
                self._add(self.lame[-1], "NS ns.test.")
            elif text == "bogus":
                self.bogus.append(f"_tcp.{name}")
                self._add(self.bogus[-1], "NS ns.test.")
            elif kind not in ("STS", "STS-TXT", "WEB", "POLICY"):
                raise ValueError(f"domains.tsv: {name}: {kind}?")
        if domain.all("STS") or domain.all("POLICY"):
            self._policy(domain)

    def _policy(self, domain: Domain) -> None:
        for text in domain.all("STS-TXT") or ["v=STSv1; id=20240101;"]:
            if text != "-":
                self._txt(f"_mta-sts.{domain.name}", text)
        wrong = domain.all("WEB")
        if wrong != ["gone"]:
            address = ADDRESSES["down"] if wrong == ["down"] else POLICY_HOST
            self._add(f"mta-sts.{domain.name}", f"A {address}")
