"""What a domain's owner should do about it: one sentence for each thing that is wrong, the gravest first."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starttls._domain_check import Host

__all__ = ["advise"]

# A certificate that is renewed by a program is renewed earlier than that.
_SOON = 14


def advise(found: dict[str, Any], hosts: "list[Host]", now: datetime | None = None) -> list[str]:
    """Of the survey, and of what the hosts did."""
    now = now or datetime.now(UTC)
    said: list[str] = []
    for host in hosts:
        said += _of_host(host, now)
    said += _of_sts(found, hosts)
    said += _of_domain(found, hosts)
    return said


def _of_host(host: "Host", now: datetime) -> list[str]:
    said = []
    name, published, seen = host.name, host.published, host.seen
    if error := published["error"]:
        said.append(f"{name} cannot be reached by name: {error['message']}")
    elif host.error and host.error.word in ("io", "timeout"):
        said.append(f"{name} does not answer: {host.error.message}")
    tls = host._tls()
    match host._tlsa():
        case "mismatch":
            check = seen and seen.check("dane")
            why = f" ({check.why})" if check and check.why else ""
            said.append(f"the TLSA records of {name} do not match its certificate{why}")
        case "failed":
            said.append(f"the TLSA records of {name} cannot be looked up: {published['tlsa']['why']}")
        case "unusable":
            records = ", ".join(published["tlsa"]["string"])
            said.append(f"none of the TLSA records of {name} can be used for SMTP ({records}): use 3 1 1")
        case "untested" if tls == "no":
            said.append(f"{name} has TLSA records and does not do TLS")
    if tls == "no":
        said.append(f"{name} does not do STARTTLS")
    if seen and seen.certificate:
        said += _of_certificate(host, now)
    if seen and seen.tls:
        if seen.tls.version in ("TLSv1", "TLSv1.1", "SSLv3"):
            said.append(f"{name} knows no newer TLS than {seen.tls.version}")
        if not seen.tls.forward_secrecy:
            said.append(f"{name} chose a cipher without forward secrecy: {seen.tls.cipher}")
    if host.clear and host.clear["auth"]:
        said.append(f"{name} offers AUTH before TLS ({' '.join(host.clear['auth'])}): passwords may go in clear")
    return said


def _of_certificate(host: "Host", now: datetime) -> list[str]:
    assert host.seen and host.seen.certificate
    said = []
    # Usage 3 needs neither a CA nor a name nor a date (RFC 7672 §3.1.1).
    by_key = host._tlsa() == "match"
    if not by_key:
        for kind in ("chain", "name"):
            check = host.seen.check(kind)
            if check and not check.ok:
                said.append(f"the certificate of {host.name} proves nothing to most senders: {check.why}")
    if host.seen.certificate.not_after:
        left = (datetime.fromisoformat(host.seen.certificate.not_after) - now).total_seconds() / 86400
        if left < 0:
            said.append(f"the certificate of {host.name} expired {_days(-left)} ago")
        elif left < _SOON:
            said.append(f"the certificate of {host.name} expires in {_days(left)}")
    return said


def _days(days: float) -> str:
    whole = int(days)
    return "less than a day" if whole == 0 else "a day" if whole == 1 else f"{whole} days"


def _of_sts(found: dict[str, Any], hosts: "list[Host]") -> list[str]:
    sts = found["sts"]
    said = []
    if sts["failure"]:
        said.append(f"the MTA-STS policy is of no use ({sts['failure']}): {sts['why']}")
    if sts["mode"] in ("enforce", "testing"):
        for host in hosts:
            if host.published["named_by_sts"] is False:
                said.append(f"the MTA-STS policy does not name the MX host {host.name}")
    if sts["mode"] == "testing":
        said.append("the MTA-STS policy is in mode testing: senders demand nothing until it says enforce")
    if sts["mode"] == "enforce" and sts["max_age"] is not None and sts["max_age"] < 86400:
        said.append(f"the MTA-STS policy is kept for {sts['max_age']} s only: some weeks are better")
    return said


def _of_domain(found: dict[str, Any], hosts: "list[Host]") -> list[str]:
    said = []
    signed = found["mx"]["proof"] == "secure"
    has_tlsa = [host for host in hosts if host.published["tlsa"]]
    if found["trusted_resolver"] and found["mx"]["proof"] == "insecure":
        said.append("the MX records are not signed: without DNSSEC there is no DANE, and MTA-STS alone protects mail")
    if signed and hosts:
        without = [host.name for host in hosts if not host.published["tlsa"] and not host.published["error"]]
        if without and has_tlsa:
            said.append(f"{', '.join(without)}: no TLSA records, so whoever blocks the other hosts gets round DANE")
        elif without:
            said.append("the MX records are signed, and no host has TLSA records: they would make TLS binding (DANE)")
    if found["mx"]["proof"] is None and not found["mx"]["error"]:
        # An address literal has no DNS in which to publish anything.
        return said
    if found["sts"]["mode"] is None and not found["sts"]["failure"]:
        said.append("no MTA-STS policy: many senders that do not do DANE would heed one")
    if error := found["tlsrpt"]["error"]:
        said.append(f"the TLSRPT record is of no use: {error['message']}")
    elif not found["tlsrpt"]["record"]:
        said.append("no TLSRPT record: nobody tells you when senders fail to reach you over TLS")
    return said
