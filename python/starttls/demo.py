"""`starttls demo`: what STARTTLS can go wrong with, and what this package makes of it.

It needs nothing but the package: servers and certificates are its own and live as long as it runs.
"""

import os
import subprocess
import tempfile
from pathlib import Path

from starttls import _core, errors
from starttls._core import Policy
from starttls._demo_servers import HOST, Listener, injecting_box, mail_server, stripping_box
from starttls._show import Screen
from starttls.outcome import Outcome

__all__ = ["run"]


def run(screen: Screen) -> bool:
    """Plays all of it; True if everything came out as it must."""
    with tempfile.TemporaryDirectory(prefix="starttls-demo-") as name:
        directory = Path(name)
        _core.make_certificates(
            directory,
            [("good", [HOST, "localhost", "127.0.0.1"]), ("wrong", ["www.example.test"])],
        )
        with (
            Listener(mail_server(directory / "good.pem")) as good,
            Listener(mail_server(directory / "wrong.pem")) as wrong,
            Listener(stripping_box(good.port)) as stripping,
            Listener(injecting_box(good.port)) as injecting,
        ):
            demo = _Demo(screen, directory / "ca.crt")
            demo.say(
                f"A mail server called {HOST} runs on this machine, with a certificate of a CA that was\n"
                "made a moment ago and is thrown away at the end. S: is what the server says in clear,\n"
                "C: what we say. After the last line of each dialog TLS begins, or does not."
            )
            demo.verified(good.port)
            demo.stripped(stripping.port)
            demo.injected(injecting.port)
            demo.wrong_certificate(wrong.port)
            if example := os.environ.get("STARTTLS_C_EXAMPLE"):
                demo.c_example(example, good.port)
        demo.end()
        return not demo.surprises


class _Demo:
    def __init__(self, screen: Screen, ca_file: Path) -> None:
        self._screen = screen
        self._ca_file = ca_file
        self._steps = 0
        self.surprises: list[str] = []

    def say(self, text: str) -> None:
        self._screen.say(text)
        self._screen.say()

    def _step(self, title: str, text: str) -> None:
        self._steps += 1
        self._screen.heading(f"{self._steps}. {title}")
        self.say(text)

    def _try(self, level: str, port: int, expected: str) -> Outcome | None:
        """Connects, shows everything, and notes if it does not come out as expected."""
        policy = Policy(level, ca_file=self._ca_file, address="127.0.0.1", timeout=10)
        self._screen.say(f'>>> starttls.connect("smtp", "{HOST}", {port}, policy=Policy("{level}", …))', "bold")
        error: errors.Error | None = None
        outcome: Outcome | None
        try:
            with _core.connect("smtp", HOST, port, policy=policy, _see=self._screen.line) as session:
                outcome = session.outcome
            came = outcome.because or "tls"
        except errors.Error as e:
            error, outcome, came = e, e.outcome, e.word
        if outcome:
            self._screen.findings(outcome)
        self._screen.verdict(level, error, outcome)
        self._expect(f"step {self._steps} at level {level}", expected, came)
        return outcome

    def _expect(self, where: str, expected: str, came: str) -> None:
        if came != expected:
            self.surprises.append(f"{where}: expected {expected}, and it was {came}")

    def verified(self, port: int) -> None:
        self._step(
            "A server that does it right",
            "Level strict: TLS with a certificate that proves the server's name, or an error.",
        )
        outcome = self._try("strict", port, "tls")
        proven = outcome.identity.proven_by if outcome else None
        self._expect(f"step {self._steps}: who it is", "pkix", proven or "not proven")
        self.say("Every check is run and written down, whatever the level needs. The evidence has a name.")

    def stripped(self, port: int) -> None:
        self._step(
            "The same server, and someone on the path who hides STARTTLS",
            "They take STARTTLS out of the server's answer and refuse the command: as if it were an old\n"
            "server. Level opportunistic goes on in clear, as it must, and says why:",
        )
        self._try("opportunistic", port, "not-offered")
        self.say("Level strict asks for TLS although it is not advertised, and goes nowhere without it:")
        self._try("strict", port, "not-offered")

    def injected(self, port: int) -> None:
        self._step(
            "Someone on the path who adds a line behind the go-ahead",
            "A careless client reads it after the handshake and takes it for the server's word\n"
            "(CVE-2011-0411 and forty more since). Here it is an error at every level, even the laxest:",
        )
        self._try("may", port, "injected")

    def wrong_certificate(self, port: int) -> None:
        self._step(
            "A server with a certificate for another name",
            "Level may takes TLS with anyone over no TLS at all, and writes down what did not hold:",
        )
        outcome = self._try("may", port, "tls")
        name = outcome.check("name") if outcome else None
        self._expect(f"step {self._steps}: the name", "failed", "failed" if name and not name.ok else "not checked")
        self.say("Level strict does not talk to it:")
        self._try("strict", port, "name-mismatch")

    def c_example(self, program: str, port: int) -> None:
        self._step(
            "The same from C",
            "capi/examples/smtp_client.c with libstarttls, against the server of the first step:",
        )
        command = [program, "localhost", str(port), str(self._ca_file)]
        self._screen.say("$ smtp_client localhost " + f"{port} ca.crt", "bold")
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=20)
            output, status = done.stdout + done.stderr, str(done.returncode)
        except (OSError, subprocess.TimeoutExpired) as e:
            output, status = "", str(e)
        self._screen.say(output.rstrip("\n"), indent=2)
        self.say("")
        self._expect(f"step {self._steps}: {program}", "0", status)

    def end(self) -> None:
        for surprise in self.surprises:
            self._screen.say(f"NOT AS IT SHOULD BE: {surprise}", "red")
        if not self.surprises:
            self.say(
                "All of it came out as it must. Next: `starttls check smtp://YOUR.MAIL.SERVER:587`,\n"
                "or in Python: help(starttls)."
            )
