"""The Python half of the bench: starttls against what scripts write today.

Usage: bench.py FRESH_PORT CA_FILE. Batches of both sides alternate in one process; each line is the
median of the pair ratios (ours to the other's speed; above 1 is faster) with quartiles.
"""

import resource
import smtplib
import socket
import ssl
import statistics
import sys
import time
from collections.abc import Callable

import starttls

HOST = "mail.example.test"
BULK = 8 << 20
BLOCK = 16384


def cost(work: Callable[[], None]) -> tuple[float, float]:
    def cpu() -> float:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime

    wall_before, cpu_before = time.perf_counter(), cpu()
    work()
    return time.perf_counter() - wall_before, max(cpu() - cpu_before, 1e-6)


def compare(what: str, pairs: int, other: Callable[[], None], ours: Callable[[], None], goal: float) -> None:
    other()
    ours()
    ratios: dict[str, list[float]] = {"wall": [], "cpu": []}
    for i in range(pairs):
        if i % 2:
            theirs, mine = cost(other), cost(ours)
        else:
            mine, theirs = cost(ours), cost(other)
        ratios["wall"].append(theirs[0] / mine[0])
        ratios["cpu"].append(theirs[1] / mine[1])
    for kind, values in ratios.items():
        low, middle, high = statistics.quantiles(values, n=4)
        print(f"{what:<34} {kind:<5} {middle:5.2f}  [{low:.2f} .. {high:.2f}]  goal {goal:.2f}", flush=True)


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port))


def main() -> None:
    port, ca_file = int(sys.argv[1]), sys.argv[2]
    policy = starttls.Policy("strict", ca_file=ca_file, address="127.0.0.1")
    shared = ssl.create_default_context(cafile=ca_file)

    class Smtp(smtplib.SMTP):
        """Dials loopback and checks the name, as `address=` does for ours."""

        def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
            return super()._get_socket("127.0.0.1", port, timeout)  # type: ignore[misc,no-any-return]

    def a_context_for_each() -> ssl.SSLContext:
        # As scripts write it; the bench's CA comes on top of the system's.
        context = ssl.create_default_context()
        context.load_verify_locations(ca_file)
        return context

    def by_smtplib(context: Callable[[], ssl.SSLContext], times: int) -> None:
        for _ in range(times):
            client = Smtp(HOST, port, local_hostname="me")
            client.starttls(context=context())
            client.ehlo()
            client.close()

    def by_us(times: int) -> None:
        for _ in range(times):
            client = starttls.stdlib.SMTP(HOST, port, policy=policy, local_hostname="me")
            client.ehlo()
            client.close()

    compare(
        "upgrades: smtplib, its own context",
        10,
        lambda: by_smtplib(a_context_for_each, 5),
        lambda: by_us(5),
        15.0,
    )
    compare("upgrades: smtplib, shared context", 40, lambda: by_smtplib(lambda: shared, 25), lambda: by_us(25), 1.0)

    clear = connected(port)
    clear.recv(512)
    for line in (b"EHLO me\r\n", b"STARTTLS\r\n"):
        clear.sendall(line)
        clear.recv(512)
    theirs = shared.wrap_socket(clear, server_hostname=HOST)
    mine = starttls.connect("smtp", HOST, port, policy=policy)
    block = bytes(BLOCK)

    def write(to: ssl.SSLSocket | starttls.Session) -> None:
        to.sendall(b"SINK %d\r\n" % BULK)
        for _ in range(BULK // BLOCK):
            to.sendall(block)
        to.recv(64)

    def read(of: ssl.SSLSocket | starttls.Session) -> None:
        of.sendall(b"SOURCE %d\r\n" % BULK)
        left = BULK
        while left:
            left -= len(of.recv(BLOCK))

    compare("bulk write, 16 KiB each", 40, lambda: write(theirs), lambda: write(mine), 1.0)
    compare("bulk read, 16 KiB each", 40, lambda: read(theirs), lambda: read(mine), 1.0)


if __name__ == "__main__":
    main()
