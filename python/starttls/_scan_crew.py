"""Many threads for `starttls scan`, and at most so many of their connections into one network.

A job is a generator. It yields the addresses that it is about to dial, goes on when all their networks have room,
and gives the room back at its next yield or at its end. One that must wait is put aside, and its thread takes
another: a hundred names of one provider in a row do not stand in the way of the rest. It holds nothing while it
waits, so no two wait for each other.
"""

import ipaddress
import threading
from collections import Counter, deque
from collections.abc import Generator, Sequence
from functools import lru_cache

__all__ = ["Crew", "Job", "network"]

Job = Generator[Sequence[str], None, None]


@lru_cache(4096)
def network(address: str) -> str:
    """Where an address belongs: an IPv4 /24, an IPv6 /48."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    return str(ipaddress.ip_network((ip, 24 if ip.version == 4 else 48), strict=False))


class Crew:
    """Runs jobs. What is in memory is bounded: `put` waits."""

    def __init__(self, threads: int, per_network: int) -> None:
        self._most = per_network
        self._lock = threading.Lock()
        # For the threads: there may be a job to take. Who takes one wakes the next.
        self._work_there = threading.Condition(self._lock)
        # For the one who puts and waits.
        self._moved = threading.Condition(self._lock)
        self._jobs: deque[Job] = deque()
        self._longest = 2 * threads
        # Those put aside, the oldest first. When there are that many nothing new is begun.
        self._aside: deque[tuple[Job, frozenset[str]]] = deque()
        self._most_aside = max(256, 4 * threads)
        self._inside: Counter[str] = Counter()
        # Whether room was made since all that is aside was last looked at.
        self._room = False
        self._no_more = False
        self._stopped = False
        self._running = 0
        self._failure: BaseException | None = None
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def put(self, job: Job, seconds: float) -> bool:
        """Adds a job. False if there was no room for it within the time. Raises what one of the threads has raised."""
        with self._lock:
            self._moved.wait_for(lambda: self._stopped or len(self._jobs) < self._longest, seconds)
            self._raise()
            if len(self._jobs) >= self._longest:
                return False
            self._jobs.append(job)
            self._work_there.notify()
            return True

    def wait(self, seconds: float) -> None:
        """Until something has happened, or that long. Raises as `put`."""
        with self._lock:
            self._moved.wait(seconds)
            self._raise()

    def rest(self, seconds: float) -> bool:
        """There are no more jobs. Whether all are done, within this time. Raises as `put`."""
        with self._lock:
            self._no_more = True
            self._work_there.notify_all()
            done = self._moved.wait_for(self._is_done, seconds)
            self._raise()
            return done

    def stop(self, seconds: float) -> bool:
        """Begins nothing more, and waits that long for what is under way. Whether it has ended."""
        with self._lock:
            self._stopped = True
            self._work_there.notify_all()
            return self._moved.wait_for(lambda: self._running == 0, seconds)

    def _is_done(self) -> bool:
        return self._stopped or (not self._jobs and not self._aside and self._running == 0)

    def _raise(self) -> None:
        if self._failure:
            raise self._failure

    def _work(self) -> None:
        while taken := self._take():
            job, networks = taken
            wanted: frozenset[str] | None = None
            try:
                wanted = frozenset(network(address) for address in next(job))
            except StopIteration:
                pass
            except BaseException as e:
                with self._lock:
                    self._failure = self._failure or e
                    self._stopped = True
                    self._work_there.notify_all()
            with self._lock:
                self._running -= 1
                self._leave(networks)
                if wanted is not None:
                    self._aside.append((job, wanted))
                    self._room = True
                self._moved.notify()

    def _take(self) -> tuple[Job, frozenset[str]] | None:
        """A job to go on with, and the networks in which it has a place now."""
        with self._lock:
            while not self._stopped:
                if found := self._from_aside() or self._from_jobs():
                    self._running += 1
                    if self._room or self._jobs:
                        self._work_there.notify()
                    return found
                if self._no_more and self._is_done():
                    self._work_there.notify_all()
                    return None
                self._work_there.wait()
            return None

    def _from_aside(self) -> tuple[Job, frozenset[str]] | None:
        if not self._room:
            return None
        for n, (job, networks) in enumerate(self._aside):
            if all(self._inside[one] < self._most for one in networks):
                del self._aside[n]
                self._inside.update(networks)
                return job, networks
        self._room = False
        return None

    def _from_jobs(self) -> tuple[Job, frozenset[str]] | None:
        if not self._jobs or len(self._aside) >= self._most_aside:
            return None
        self._moved.notify()
        return self._jobs.popleft(), frozenset()

    def _leave(self, networks: frozenset[str]) -> None:
        for one in networks:
            self._inside[one] -= 1
            if not self._inside[one]:
                del self._inside[one]
            self._room = True
