"""The README's example for Python, played against the real servers."""

import re
import uuid
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def test_the_example(servers, capsys):
    [code] = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.M | re.S)
    # Where, as whom and with which CA is all that differs here.
    ports = {
        "starttls.stdlib.SMTP(": servers.port("postfix", "submission"),
        'starttls.connect("imap"': servers.port("dovecot", "imap"),
    }
    lines = code.splitlines()
    for call, port in ports.items():
        [at] = [i for i, text in enumerate(lines) if call in text]
        lines[at], n = re.subn(
            r'"mail\.example\.org"(, \d+)?(, policy="strict")?\)', f'"localhost", {port}, policy=POLICY)', lines[at]
        )
        assert n == 1, lines[at]
    code = "\n".join(lines)
    for ours, theirs in {
        '"me"': repr(servers.user),
        '"secret"': repr(servers.password),
        "me@example.org": "bob@example.test",
        "you@example.org": "alice@example.test",
        "Subject: hello": f"Subject: {uuid.uuid4().hex}",
    }.items():
        assert ours in code
        code = code.replace(ours, theirs)
    exec(compile(code, str(README), "exec"), {"POLICY": servers.policy()})
    printed = capsys.readouterr().out
    assert "TLSv1." in printed and "CAPABILITY" in printed
