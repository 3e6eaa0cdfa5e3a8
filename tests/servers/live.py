#!/usr/bin/env python3
"""Records that a test changes while it runs: LABEL.live.test, signed, with a TTL of 0.

tests/servers/live.py LABEL < RECORDS     within tests/servers/run.py; a record a line, like
                                          `@ MX 10 311.good-mx.example.test.` or `_mta-sts TXT "v=STSv1; id=1;"`
It replaces all that was at the label, and ends when the resolver says the same. Without records nothing is left.
The labels a to h are in the certificate of the policy host (mta-sts.a.live.test).
"""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ZONE = "live.test"
LABELS = "abcdefgh"


def text(directory: Path, serial: int) -> str:
    """The zone before it is signed, of all that is published."""
    lines = [f"{ZONE}. 0 IN SOA ns.test. hostmaster.test. {serial} 3600 600 86400 0", f"{ZONE}. 300 IN NS ns.test."]
    for file in sorted(directory.glob("*.records")):
        for record in file.read_text().splitlines():
            name, _, rest = record.partition(" ")
            owner = f"{file.stem}.{ZONE}." if name == "@" else f"{name}.{file.stem}.{ZONE}."
            lines.append(f"{owner} 0 IN {rest}")
    return "".join(f"{line}\n" for line in lines)


def sign(file: Path, zone: str, key: Path) -> None:
    now = int(time.time())
    command = ["ldns-signzone", "-i", str(now - 86400), "-e", str(now + 86400 * 30), "-o", f"{zone}."]
    done = subprocess.run(
        [*command, "-f", f"{file}.signed", str(file), str(key)], capture_output=True, text=True, timeout=20
    )
    if done.returncode:
        raise OSError(f"{file.name}: {done.stdout}{done.stderr}")
    Path(f"{file}.signed").replace(file)


def serial(resolver: str) -> int:
    """What the resolver says of the zone; 0 for nothing."""
    host, _, port = resolver.rpartition(":")
    name = b"".join(bytes([len(label)]) + label.encode() for label in ZONE.split(".")) + b"\0"
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.sendto(bytes.fromhex("4c5601000001000000000000") + name + b"\0\6\0\1", (host, int(port)))
        heard = sock.recv(4096)
    # The SOA is last: five numbers, and the serial is the first of them.
    return int.from_bytes(heard[-20:-16], "big") if heard[7] else 0


def publish(found: dict[str, Any], label: str, records: list[str]) -> None:
    """Replaces what is at LABEL.live.test. `found` is the content of $STARTTLS_SERVERS."""
    live = found["dns"]["live"]
    directory = Path(live["directory"])
    with open(directory / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        counter = directory / "serial"
        wanted = int(counter.read_text()) + 1
        counter.write_text(str(wanted))
        (directory / f"{label}.records").write_text("".join(f"{record}\n" for record in records))
        file = directory / "zone"
        file.write_text(text(directory, wanted))
        sign(file, ZONE, Path(live["key"]))
        file.replace(live["zone_file"])
        os.kill(int(Path(live["pid_file"]).read_text()), signal.SIGHUP)
        for _ in range(200):
            if serial(found["dns"]["resolver"]) == wanted:
                return
            time.sleep(0.02)
    raise TimeoutError(f"the resolver does not know serial {wanted} of {ZONE}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    publish(json.loads(Path(os.environ["STARTTLS_SERVERS"]).read_text()), sys.argv[1], sys.stdin.read().splitlines())
