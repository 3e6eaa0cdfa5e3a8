"""From a name to a connected socket without blocking the loop (RFC 8305)."""

import asyncio
import errno
import json
import os
import socket
import time
from typing import Any

from starttls import errors
from starttls._core import Negotiation, Policy

# How long one attempt is alone before the next address is tried as well.
_STAGGER = 0.25
_MAX_ADDRESSES = 32

# Family and address, as getaddrinfo has them.
_Address = tuple[socket.AddressFamily, Any]


async def ready(loop: asyncio.AbstractEventLoop, fd: int, reading: bool, writing: bool, seconds: float) -> bool:
    """Waits until the descriptor is ready, or False: until the time is over."""
    came = loop.create_future()

    def wake(in_time: bool) -> None:
        if not came.done():
            came.set_result(in_time)

    timer = loop.call_later(seconds, wake, False)
    try:
        if reading:
            loop.add_reader(fd, wake, True)
        if writing:
            loop.add_writer(fd, wake, True)
        return bool(await came)
    finally:
        timer.cancel()
        loop.remove_reader(fd)
        loop.remove_writer(fd)


async def dial(
    loop: asyncio.AbstractEventLoop, negotiation: Negotiation, policy: Policy, port: int, known: list[str]
) -> socket.socket:
    """Connects to the first address that answers, within the negotiation's time.

    known: the host's addresses, if they were looked up.
    """
    began = time.monotonic()
    host = negotiation.host or ""
    doing = f"look up {host}"

    def failed(word: str, message: str, temporary: bool, os_error: int | None = None) -> errors.Error:
        outcome = negotiation.outcome.as_dict()
        outcome["peer"]["port"] = port
        outcome["milliseconds"]["connect"] = int((time.monotonic() - began) * 1000)
        return errors.make(word, f"{doing}: {message}", temporary, json.dumps(outcome), os_error)

    try:
        async with asyncio.timeout(negotiation.time_left) as limit:
            addresses = _mixed(await _resolve(loop, known or [policy.address or host], port))
            doing = "connect to " + ", ".join(_shown(address) for _, address in addresses)
            return await _race(loop, addresses, policy._source_address)
    except socket.gaierror as e:
        permanent = e.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
        raise failed("lookup-failed", e.strerror or "failed", not permanent) from None
    except OSError as e:
        if limit.expired():
            raise failed("timeout", "no answer", True) from None
        number = e.errno or errno.EIO
        word = "timeout" if number == errno.ETIMEDOUT else "io"
        raise failed(word, os.strerror(number), True, number) from None


async def _resolve(loop: asyncio.AbstractEventLoop, hosts: list[str], port: int) -> list[_Address]:
    found = []
    for host in hosts:
        try:
            # An address needs no look-up, and no thread for it.
            found += socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except socket.gaierror:
            found += await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _mixed(addresses: list[_Address]) -> list[_Address]:
    """They are sorted; a broken address family must still not hold up the other (RFC 8305 §4)."""
    preferred = [a for a in addresses if a[0] == addresses[0][0]]
    others = iter([a for a in addresses if a[0] != addresses[0][0]])
    mixed: list[_Address] = []
    for address in preferred:
        mixed += [address, *[other for other in [next(others, None)] if other]]
    return [*mixed, *others][:_MAX_ADDRESSES]


async def _race(
    loop: asyncio.AbstractEventLoop, addresses: list[_Address], source: tuple[str, int] | None
) -> socket.socket:
    untried = iter(addresses)
    left = len(addresses)
    running: set[asyncio.Task[socket.socket]] = set()
    winner: socket.socket | None = None
    error: BaseException | None = None
    try:
        while winner is None and (left or running):
            if left:
                running.add(loop.create_task(_connect(loop, *next(untried), source)))
                left -= 1
            done, running = await asyncio.wait(
                running, timeout=_STAGGER if left else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                error = task.exception()
                if error is None and winner is None:
                    winner = task.result()
                elif error is None:
                    task.result().close()
    except BaseException:
        if winner:
            winner.close()
        raise
    finally:
        for task in running:
            task.cancel()
        for one in await asyncio.gather(*running, return_exceptions=True):
            if isinstance(one, socket.socket):
                one.close()
    if winner is None:
        raise error or OSError(errno.EADDRNOTAVAIL, "no address")
    return winner


async def _connect(
    loop: asyncio.AbstractEventLoop, family: socket.AddressFamily, address: Any, source: tuple[str, int] | None
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if source:
            sock.bind(source)
        await loop.sock_connect(sock, address)
        # Mail dialogs are short lines that wait for each other.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock
    except BaseException:
        sock.close()
        raise


def _shown(address: Any) -> str:
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
