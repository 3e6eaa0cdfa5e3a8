"""What Postfix's own client says of a domain: posttls-finger, asking the resolver of the tests.

It verifies and prints, for one host; it does not go on to the next one when a certificate does not do.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("posttls-finger", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def missing(found: dict[str, Any]) -> str | None:
    """Why it cannot be asked here."""
    if "smtp_port" not in found.get("dns", {}):
        return "no name servers, or no Postfix"
    if not found["dns"]["preload"]:
        return "no C compiler to point posttls-finger to another resolver"
    return None if PROGRAM else "posttls-finger is not installed"


def posttls_finger(found: dict[str, Any], domain: str, level: str) -> str:
    """All that it writes. `found` is the content of $STARTTLS_SERVERS."""
    dns = found["dns"]
    environment = {
        "PATH": os.environ["PATH"],
        "LC_ALL": "C",
        "LD_PRELOAD": dns["preload"],
        "STARTTLS_TESTS_DNS_PORT": dns["resolver"].rpartition(":")[2],
        # The configuration of the tests' own Postfix.
        "MAIL_CONFIG": str(Path(found["certs_dir"]).parent / "postfix" / "etc"),
    }
    command = [PROGRAM or "", "-a", "ipv4", "-t", "10", "-T", "10", "-L", "routine,certmatch,verbose", "-l", level]
    done = subprocess.run(
        [*command, f"{domain}:{dns['smtp_port']}"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=60,
    )
    return done.stdout


def verdict(said: str) -> str:
    """The word of tests/tlsa/matrix.tsv for what it wrote at level dane."""
    if "does not accept mail (nullMX)" in said:
        return "null-mx"
    if "SMTP service not available: 4" in said:
        return "refused"
    connected = re.search(r"Connected to (\S+)\[", said)
    if not connected:
        return "lookup-failed" if "lookup" in said else "io"
    # Of the host that it came to, not of those before.
    last = re.split(rf"Failed to establish session to \S+ via (?!{re.escape(connected[1])}:)", said)[-1]
    usable = "DNSSEC-signed TLSA record" in last and "all TLSA records unusable" not in last
    unusable = not usable and ("TLSA record" in last or "TLSA certificate usage" in last or "TLSA RR" in last)
    if "TLS connection established" not in last:
        return "not-offered" if usable or unusable else "plain"
    if usable and "Matched DANE" in last and ("Verified TLS" in last or "Trusted TLS" in last):
        return "dane"
    if not usable:
        return "encrypt" if unusable else "may"
    for text, word in (("num=65:", "dane-mismatch"), ("expired", "expired"), ("hostname mismatch", "name-mismatch")):
        if text in last:
            return word
    return f"none that is known: {last}"
