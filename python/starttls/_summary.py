"""What `starttls scan` counts. A target becomes a few words, the summary is how often each was said."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from starttls import errors
from starttls.outcome import Outcome

__all__ = ["Summary", "words_of"]


def words_of(outcome: Outcome | None, error: errors.Error | None, bad_line: bool = False) -> list[str]:
    """What counts of one target."""
    if bad_line:
        return ["bad-line"]
    words = ["met"] if error is None else [f"error:{error.word}", *(["temporary"] if error.temporary else [])]
    if outcome is None:
        return words
    if outcome.tls:
        words.append(f"version:{outcome.tls.version.replace(' ', '-')}")
        words += ["forward-secrecy"] if outcome.tls.forward_secrecy else []
    # Under a level that must know the peer the handshake ends where the certificate will not do.
    if outcome.tls or outcome.certificate:
        words.append("tls")
        checks = [outcome.check(kind) for kind in ("chain", "name", "time")]
        words += ["pkix"] if all(check and check.ok for check in checks) else []
        dane = outcome.check("dane")
        words += ["dane"] if dane and dane.ok else []
    elif outcome.offered is False or outcome.because in ("not-offered", "refused"):
        words.append("no-tls")
    if outcome.because:
        words.append(f"plain:{outcome.because}")
    if outcome.identity.proven_by and error is None:
        words.append(f"proven:{outcome.identity.proven_by}")
    if outcome.suspicions:
        words.append("suspicious")
    if domain := outcome.domain:
        words += {"secure": ["mx-signed"], "indeterminate": ["dnssec-unknown"]}.get(domain.mx or "", [])
        for policy in domain.policies:
            if policy.type == "tlsa":
                words.append("tlsa-unusable" if policy.failure else "tlsa")
            elif policy.type == "sts":
                words.append(f"sts:{policy.mode or 'unusable'}" if not policy.failure else "sts:unusable")
    return list(dict.fromkeys(words))


class Summary:
    """How often each word was said."""

    def __init__(self, level: str) -> None:
        self._level = level
        self._counts: Counter[str] = Counter()
        self.done = 0

    def add(self, words: Sequence[str]) -> None:
        """One target more."""
        self.done += 1
        self._counts.update(words)

    def __getitem__(self, word: str) -> int:
        return self._counts[word]

    def of(self, kind: str) -> dict[str, int]:
        """Of words like `version:TLSv1.3` the second half, the most frequent first."""
        found = [(word.partition(":")[2], n) for word, n in self._counts.items() if word.startswith(f"{kind}:")]
        return dict(sorted(found, key=lambda one: (-one[1], one[0])))

    @property
    def targets(self) -> int:
        """Without the lines that are none."""
        return self.done - self["bad-line"]

    @property
    def failed(self) -> int:
        """Targets that do not meet the level."""
        return self.targets - self["met"]

    def as_dict(self, interrupted: bool = False) -> dict[str, Any]:
        """For --json."""
        return {
            "level": self._level,
            "interrupted": interrupted,
            "targets": self.targets,
            "bad_lines": self["bad-line"],
            "met": self["met"],
            "tls": self["tls"],
            "no_tls": self["no-tls"],
            "pkix": self["pkix"],
            "dane": self["dane"],
            "tlsa": self["tlsa"],
            "mx_signed": self["mx-signed"],
            "dnssec_unknown": self["dnssec-unknown"],
            "sts": {mode: self[f"sts:{mode}"] for mode in ("enforce", "testing", "none", "unusable")},
            "forward_secrecy": self["forward-secrecy"],
            "suspicious": self["suspicious"],
            "versions": self.of("version"),
            "proven_by": self.of("proven"),
            "plain_because": self.of("plain"),
            "errors": self.of("error"),
            "temporary": self["temporary"],
        }

    def groups(self) -> list[tuple[str, list[tuple[str, int]]]]:
        """The same for people: headings, and what is below each."""
        groups: list[tuple[str, list[tuple[str, int]]]] = [
            (
                f"of {self.targets} targets",
                [
                    (f"meet the level {self._level}", self["met"]),
                    ("do TLS", self["tls"]),
                    ("prove their name by a certificate (PKIX)", self["pkix"]),
                    ("match their TLSA records (DANE)", self["dane"]),
                    ("chose a cipher with forward secrecy", self["forward-secrecy"]),
                    ("do not offer TLS", self["no-tls"]),
                    ("do not meet the level", self.failed),
                    ("of these, temporarily", self["temporary"]),
                ],
            ),
            (
                "what their domains publish",
                [
                    ("signed MX records", self["mx-signed"]),
                    ("TLSA records that can be used", self["tlsa"]),
                    ("MTA-STS, enforced", self["sts:enforce"]),
                    ("MTA-STS, testing", self["sts:testing"]),
                    ("MTA-STS, of no use", self["sts:unusable"]),
                ],
            ),
            ("TLS version", list(self.of("version").items())),
            ("in clear, because", list(self.of("plain").items())),
            ("errors", list(self.of("error").items())),
        ]
        return [(heading, rows) for heading, rows in groups if rows]

    def notes(self) -> list[str]:
        """What a reader must know beside the numbers."""
        notes = []
        if n := self["bad-line"]:
            notes.append(f"lines of the list that are no target: {n}")
        if n := self["dnssec-unknown"]:
            notes.append(f"targets of which no trusted resolver said whether they are signed, so no DANE was seen: {n}")
        return notes

    def text(self) -> str:
        """As a table."""
        lines = []
        for heading, rows in self.groups():
            lines.append(heading)
            for name, n in rows:
                share = f"{100 * n / self.targets:6.1f} %" if self.targets else ""
                lines.append(f"  {name:<48} {n:>9} {share}".rstrip())
        lines += self.notes()
        return "\n".join(lines)
