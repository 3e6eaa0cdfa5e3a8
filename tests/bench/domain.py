"""What mail to a domain costs, against real servers: run inside tests/servers/run.py.

Questions per delivery are counted by the library and, in a test, by a DNS proxy. "Warm" has a cache that knows the
domain. The floor is the same delivery to a host that needs no look-up.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

with open(os.environ["STARTTLS_SERVERS"]) as listing:
    FOUND = json.load(listing)

# The policy host is proven by the system's trust store.
os.environ["SSL_CERT_FILE"] = FOUND["ca_file"]
os.environ["SSL_CERT_DIR"] = "/nonexistent"

import starttls

ROUNDS = 15
DOMAINS = {
    "DANE": "dane.example.test",
    "MTA-STS, signed MX": "sts.example.test",
    "MTA-STS, unsigned MX": "sts.insecure.test",
    "nothing published": "plain.insecure.test",
}


def policy(cache: str | None) -> starttls.Policy:
    port = FOUND["dns"]["smtp_port"]
    return starttls.Policy(
        "opportunistic",
        resolver=FOUND["dns"]["resolver"],
        ca_file=FOUND["ca_file"],
        port=port,
        tlsa_port=port,
        sts_port=FOUND["sts"]["port"],
        cache=cache,
    )


def deliver(domain: str, by: starttls.Policy) -> tuple[float, int]:
    before = time.perf_counter()
    with starttls.connect_domain(domain, policy=by) as session:
        spent = time.perf_counter() - before
        outcome = session.outcome
    assert outcome.domain is not None
    return spent, outcome.domain.lookups


def main() -> int:
    if "smtp_port" not in FOUND.get("dns", {}):
        print("n/a: name servers or Postfix are not installed")
        return 0
    print(f"{'':<24} {'questions':>20}   {'time, to a host without look-ups':>34}")
    print(f"{'':<24} {'cold':>9} {'warm':>10}   {'cold':>16} {'warm':>17}")
    for what, domain in DOMAINS.items():
        cold: list[float] = []
        warm: list[float] = []
        floor: list[float] = []
        with tempfile.TemporaryDirectory(dir=sys.argv[1]) as directory:
            kept = policy(str(Path(directory) / "cache"))
            host = kept.derive(address=None)
            deliver(domain, kept)
            with starttls.connect_domain(domain, policy=kept) as session:
                peer = session.outcome.peer
            plain = starttls.Policy("encrypt", address=str(peer.address))
            asked_cold = asked_warm = 0
            for _ in range(ROUNDS):
                before = time.perf_counter()
                with starttls.connect("smtp", peer.name, peer.port, policy=plain):
                    floor.append(time.perf_counter() - before)
                spent, asked_cold = deliver(domain, policy(None))
                cold.append(spent)
                spent, asked_warm = deliver(domain, host)
                warm.append(spent)
        base = statistics.median(floor)
        print(
            f"{what:<24} {asked_cold:>9} {asked_warm:>10}   "
            f"{statistics.median(cold) / base:>16.2f} {statistics.median(warm) / base:>17.2f}",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
