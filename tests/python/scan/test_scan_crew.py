"""Many at once, few in one network."""

import json
import random
import socket
import threading
import time
from collections import Counter

import pytest
from peers import line, play
from scans import start, write
from starttls._scan_crew import Crew, network


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/48"),
    ],
)
def test_network(address, wanted):
    assert network(address) == wanted


class Busy:
    """Counts how many are in each network at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.order: list[str] = []

    def visit(self, networks: list[str], seconds: float) -> None:
        with self._lock:
            self._now.update(networks)
            for one in networks:
                self.most[one] = max(self.most[one], self._now[one])
        time.sleep(seconds)
        with self._lock:
            self._now.subtract(networks)
            self.order.append(networks[0])


def finish(crew: Crew) -> None:
    end = time.monotonic() + 30
    while not crew.rest(0.2):
        assert time.monotonic() < end, "the crew stands still"


def test_a_crew_of_many_jobs_in_many_networks():
    busy, generator = Busy(), random.Random(1)
    done = []

    def job(n):
        for _ in range(generator.randrange(1, 4)):
            addresses = [f"10.0.{generator.randrange(6)}.{n % 250}" for _ in range(generator.randrange(1, 4))]
            yield addresses
            busy.visit(sorted({network(a) for a in addresses}), generator.random() * 0.004)
        done.append(n)

    crew = Crew(12, 2)
    for n in range(400):
        while not crew.put(job(n), 0.2):
            pass
    finish(crew)
    assert sorted(done) == list(range(400))
    assert len(busy.most) == 6 and max(busy.most.values()) == 2


def test_a_full_network_does_not_stand_in_the_way():
    busy = Busy()

    def job(address, seconds):
        yield [address]
        busy.visit([network(address)], seconds)

    crew = Crew(4, 1)
    for _ in range(20):
        while not crew.put(job("10.0.0.1", 0.05), 0.2):
            pass
    for n in range(10):
        while not crew.put(job(f"10.1.{n}.1", 0), 0.2):
            pass
    finish(crew)
    assert busy.most["10.0.0.0/24"] == 1
    # One of the twenty must be running all the time, so the ten others are done long before the last of them.
    assert busy.order.index("10.1.9.0/24") < 18, busy.order


def test_more_in_one_network_than_can_be_put_aside():
    busy = Busy()

    def job():
        yield ["10.0.0.1"]
        busy.visit(["10.0.0.0/24"], 0)

    crew = Crew(4, 2)
    for _ in range(1000):
        while not crew.put(job(), 0.2):
            pass
    finish(crew)
    assert len(busy.order) == 1000 and busy.most["10.0.0.0/24"] <= 2


def test_what_a_job_raises_is_told():
    def job():
        yield ["10.0.0.1"]
        raise OSError("disk full")

    crew = Crew(2, 1)
    crew.put(job(), 1)
    with pytest.raises(OSError, match="disk full"):
        finish(crew)


def test_connections_into_one_network(tmp_path):
    """What a server sees: never more than so many at once of each /24, and the networks side by side."""
    busy = Busy()
    ended = threading.Event()

    def serve(listening: socket.socket, name: str) -> None:
        def talk(sock: socket.socket) -> None:
            with sock:
                try:
                    # One visit: from the dial to the answer, after which the client goes.
                    busy.visit([name, "all"], 0.05)
                    play(sock, [b"220 x\r\n", None, b"250 x\r\n"])
                    line(sock)
                except OSError:
                    pass

        while not ended.is_set():
            try:
                sock, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(sock,), daemon=True).start()

    first = socket.create_server(("127.0.1.1", 0))
    port = first.getsockname()[1]
    second = socket.create_server(("127.0.2.1", port))
    for listening, name in ((first, "first"), (second, "second")):
        threading.Thread(target=serve, args=(listening, name), daemon=True).start()
    lines = [f"smtp://127.0.1.1:{port}"] * 20 + [f"smtp://127.0.2.1:{port}"] * 20
    child = start("--json", "--level", "may", "--jobs", 10, "--per-network", 3, write(tmp_path / "list", lines))
    out, err = child.communicate(timeout=60)
    ended.set()
    first.close()
    second.close()
    assert child.returncode == 0 and err == b"", err
    assert json.loads(out.splitlines()[-1])["summary"]["met"] == 40
    assert busy.most["first"] == 3 and busy.most["second"] == 3 and busy.most["all"] > 3
