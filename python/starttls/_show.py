"""How the command shows things to people; colours only on a terminal."""

import os
from typing import TextIO

from starttls import errors
from starttls.outcome import Outcome

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


class Screen:
    """Writes to a stream. Colours if it is a terminal, unless NO_COLOR is set (no-color.org)."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        self._colours = stream.isatty() and not plain

    def say(self, text: str = "", style: str | None = None, indent: int = 0) -> None:
        """A line, or several."""
        for line in text.split("\n"):
            line = " " * indent + line if line else line
            if style and self._colours:
                line = f"\x1b[{_STYLES[style]}m{line}\x1b[0m"
            # At once: the dialog is shown as it happens.
            print(line, file=self._stream, flush=True)

    def heading(self, text: str) -> None:
        """What follows is about this."""
        self.say(text, "bold")

    def line(self, from_: str, text: str) -> None:
        """A line of the dialog. The peer's bytes are escaped already."""
        self.say(f"{from_}: {text}", "cyan" if from_ == "C" else "dim", indent=2)

    def findings(self, outcome: Outcome) -> None:
        """Everything about the outcome but the dialog and the verdict."""
        peer = outcome.peer
        if peer.address:
            self.fact("peer", f"{peer.name} at {peer.address} port {peer.port}")
        if tls := outcome.tls:
            words = [tls.version, tls.cipher]
            words += [tls.group] if tls.group else []
            words += [f"ALPN {tls.alpn}"] if tls.alpn else []
            words += ["resumed"] if tls.resumed else []
            words += [] if tls.forward_secrecy else ["no forward secrecy"]
            self.fact("TLS", ", ".join(words))
        if certificate := outcome.certificate:
            self.fact("certificate", f"{certificate.subject}, issued by {certificate.issuer}")
            self.fact("", f"names {', '.join(certificate.names) or 'none'}; until {certificate.not_after}")
            self.fact("", f"sha256 {certificate.sha256}")
            self.fact("", f"key's  {certificate.spki_sha256}")
        for check in outcome.checks:
            if check.ok:
                self.fact(check.check, "ok", "green")
            else:
                self.fact(check.check, f"FAILED: {check.why}", "red")
        if outcome.identity.proven_by:
            self.fact("identity", f"{outcome.identity.name}, by {outcome.identity.proven_by}")
            self.fact("", outcome.identity.evidence or "")
        for suspicion in outcome.suspicions:
            self.fact("suspicious", suspicion, "yellow")
        for note in outcome.notes:
            self.fact("note", note)

    def fact(self, name: str, text: str, style: str | None = None) -> None:
        """A line of a table."""
        self.say(f"{name:<12} {text}", style, indent=2)

    def verdict(self, level: str, error: errors.Error | None, outcome: Outcome | None) -> None:
        """The one line that counts."""
        if error:
            again = " (temporary: it may work later)" if error.temporary else ""
            self.say(f"=> not met: {error.word}: {error.message}{again}", "red")
        elif outcome and outcome.encrypted:
            known = outcome.identity.proven_by
            who = f"the peer is proven by {known}" if known else "the peer could be anyone"
            self.say(f"=> level {level} is met: TLS, {who}", "green" if known else "yellow")
        else:
            because = outcome.because if outcome else None
            self.say(f"=> level {level} is met, but in clear, because: {because}", "yellow")
        self.say()
