"""How `starttls check DOMAIN` shows what a domain publishes and what that comes to."""

from typing import Any

from starttls._show import Screen
from starttls._verdict import NO_MAIL, HostFacts, Verdict, at_most

__all__ = ["DomainScreen"]

_UNTRUSTED = "not trusted to validate DNSSEC: nothing counts as signed here, no DANE is seen, and the verdict"
_UNTRUSTED_TOO = "may be worse than the truth. One on this machine is trusted, another with --trust-dns."
_PROOFS = {
    "secure": ("signed (DNSSEC), and valid", "green"),
    "insecure": ("not signed", "yellow"),
    "indeterminate": ("not known to be signed", "yellow"),
    "bogus": ("signed, and not valid", "red"),
}
_MAIL = {
    "accepted": ("MAIL FROM is accepted without TLS", None),
    "wants-tls": ("no mail is taken without TLS", "green"),
    "refused": ("MAIL FROM is refused", None),
}
_STYLES = {"dane": "green", "sts": "green", "plain": "red", "may": "yellow", "verify": "yellow"}


class DomainScreen(Screen):
    """A screen that knows domains."""

    _told_of_resolver = False

    def published(self, found: dict[str, Any]) -> None:
        """What was looked up."""
        self._mx(found)
        for host in found["hosts"]:
            self._host(host)
        self._sts(found["sts"])
        self._tlsrpt(found["tlsrpt"])
        for note in found["notes"]:
            self.fact("note", note)
        if not found["trusted_resolver"] and not self._told_of_resolver:
            self._told_of_resolver = True
            for name, text in (("resolver", _UNTRUSTED), ("", _UNTRUSTED_TOO)):
                self.fact(name, text, "yellow")
        self.say()

    def _mx(self, found: dict[str, Any]) -> None:
        mx = found["mx"]
        if mx["error"]:
            self.fact("MX", f"{mx['error']['word']}: {mx['error']['message']}", "red")
            return
        what = "no MX records: the domain is its own mail host; " if mx["implicit"] else ""
        text, style = _PROOFS.get(mx["proof"], ("an address, which needs no MX", None))
        self.fact("MX", what + text, style)

    def _host(self, host: dict[str, Any]) -> None:
        addresses = ", ".join(host["addresses"]) or "no address"
        self.fact("", f"{host['preference']:>2} {host['name']}  {addresses}")
        if host["error"]:
            self.fact("", f"   {host['error']['word']}: {host['error']['message']}", "red")
        tlsa = host["tlsa"]
        if not tlsa:
            self.fact("", "   no secure TLSA records", "dim")
            return
        for record in tlsa["string"][:8]:
            self.fact("", f"   TLSA {record if len(record) < 80 else record[:76] + '…'}")
        if len(tlsa["string"]) > 8:
            self.fact("", f"   and {len(tlsa['string']) - 8} TLSA records more")
        if host["tlsa_usable"]:
            self.fact("", "   usable for DANE", "green")
        else:
            self.fact("", f"   of no use: {tlsa['why']}", "red")

    def _sts(self, sts: dict[str, Any]) -> None:
        for record in sts["records"]:
            self.fact("MTA-STS", f"record {record}")
        if sts["mode"]:
            style = "green" if sts["mode"] == "enforce" else None
            self.fact("MTA-STS", f"mode {sts['mode']}, good for {_lasting(sts['max_age'])}", style)
            for pattern in sts["mx"]:
                self.fact("", f"mx {pattern}")
        if sts["failure"]:
            self.fact("MTA-STS", f"{sts['failure']}: {sts['why']}", "red")
        elif not sts["records"]:
            self.fact("MTA-STS", "none", "dim")

    def _tlsrpt(self, tlsrpt: dict[str, Any]) -> None:
        if tlsrpt["error"]:
            self.fact("TLSRPT", f"{tlsrpt['error']['word']}: {tlsrpt['error']['message']}", "red")
        elif tlsrpt["record"]:
            self.fact("TLSRPT", f"reports to {', '.join(tlsrpt['rua'])}")
        else:
            self.fact("TLSRPT", "none", "dim")

    def host(self, name: str, host: dict[str, Any]) -> None:
        """What follows is about this host."""
        preference = host["preference"]
        self.heading(name if preference is None else f"{name} (preference {preference})")

    def clear(self, clear: dict[str, Any]) -> None:
        """What came of asking it in clear."""
        if clear["keywords"] is not None:
            self.fact("before TLS", f"it offers {', '.join(clear['keywords']) or 'nothing'}")
        if clear["auth"]:
            self.fact("before TLS", f"it offers AUTH: {' '.join(clear['auth'])}", "red")
        if clear["mail"]:
            text, style = _MAIL[clear["mail"]]
            self.fact("before TLS", f"{text}: {clear['reply']}", style)
        if clear["error"]:
            self.fact("before TLS", clear["error"], "yellow")

    def domain_verdict(
        self,
        domain: str,
        verdict: Verdict,
        weakest: HostFacts | None,
        hosts: list[tuple[HostFacts, Verdict]],
        advice: list[str],
    ) -> None:
        """The end of it, in words."""
        self.heading(f"{domain}: {verdict.says}")
        if len({one.level for _, one in hosts}) > 1:
            for host, one in hosts:
                self.fact(one.level, host.name, _STYLES.get(one.level, "red"))
        taking = {at_most(one).level for _, one in hosts} - {*NO_MAIL}
        if weakest and len(taking) > 1:
            self.fact("weakest", f"{weakest.name}: whoever is on the path can block the others")
        if verdict.attack != "not-known":
            self.say("  what an attacker on the path could do: " + verdict.could, _STYLES.get(verdict.level, "red"))
        for line in advice:
            self.fact("advice", line)

    def no_mail(self, domain: str) -> None:
        """There is nothing to protect."""
        self.heading(f"{domain}: takes no mail")


def _lasting(seconds: int) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
