"""The same for asyncio: streams whose connection was upgraded and checked.

    reader, writer = await starttls.open_connection("imap", "mail.example.org", policy="strict")
    print(starttls.outcome_of(writer).tls)

The dialog, the handshake and every rule are those of `starttls.connect`, `starttls.upgrade` and
`starttls.accept`; nothing here blocks the loop, and a policy's time-out bounds the whole. What
fails raises the same `starttls.Error`, with its outcome, and closes the connection; so does
cancellation. The loop must watch descriptors (`loop.add_reader`): asyncio's selector loops and
uvloop do; on another, `unsupported` is raised before anything is done. DNS questions, MTA-STS policies, the cache
and a resolver of the caller's are asked in a thread of the loop's executor.

The writer's transport has `get_extra_info` with ``starttls_outcome``, ``socket``, ``peername``,
``sockname``, and as ssl's have them ``cipher`` and ``peercert``; ``ssl_object`` is None. `close`
says close_notify, and so does `write_eof`, after which reading goes on. Where the peer ends without
close_notify the reader raises ``closed``, for what came may be cut short. `read(n)` gives all that came
first; `readline`, `readuntil` and `readexactly` raise with the part that they had as ``partial`` of the
exception's ``__cause__``; what a `read()` to the end had is lost. A writer that nobody holds any more is
aborted, without close_notify: what it has sent may be cut short, too.
"""

import asyncio
import operator
import os
import socket
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from starttls import _core, errors
from starttls._core import Negotiation, Policy, Route, Routes, Session
from starttls._dial import dial, ready
from starttls._transport import SessionTransport
from starttls._tried import Tried
from starttls.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from _typeshed import ReadableBuffer

__all__ = ["accept_streams", "connect_domain", "open_connection", "outcome_of", "start"]

_T = TypeVar("_T")
_LIMIT = 64 * 1024
_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
# What runs in a thread ends by its own time-out and says more of it than we could: it may do so first. What is
# queued for a thread, or does not heed its time, nobody waits for.
_GRACE = 0.25


async def open_connection(
    protocol: str,
    host: str,
    port: int = 0,
    *,
    policy: str | Policy = "strict",
    timeout: float | None = None,
    limit: int = _LIMIT,
) -> _Streams:
    """Resolves the host, dials it and makes the connection what the policy demands.

    Arguments, rules and errors are those of `starttls.connect`; limit is that of
    `asyncio.open_connection`. Names are looked up by the loop, addresses dialled as RFC 8305 has it.
    """
    loop = _loop()
    fresh = _Reader(limit=limit, loop=loop)
    port = operator.index(port)
    if not 0 <= port <= 65535:
        raise OverflowError(f"port: 0 to 65535, not {port}")
    shared = _shared(policy, timeout)
    if shared._looks_up:
        deadline = loop.time() + shared.timeout
        route = await _looked_up(loop, deadline, protocol, host, port, shared)
        session = await _connect(loop, protocol, route, deadline - loop.time())
    else:
        session = await _connect_host(loop, protocol, host, port, shared, [])
    return _streams(loop, session, fresh)


async def connect_domain(
    domain: str,
    policy: str | Policy = "strict",
    *,
    protocol: str = "smtp",
    timeout: float | None = None,
    limit: int = _LIMIT,
) -> _Streams:
    """Connects to a host that takes the mail of a domain, by what the domain asks of its senders.

    Arguments, rules and errors are those of `starttls.connect_domain`.
    """
    loop = _loop()
    fresh = _Reader(limit=limit, loop=loop)
    shared = _shared(policy, timeout)
    deadline = loop.time() + shared.timeout
    doing = f"look up {domain}"
    routes = await _in_thread(
        loop, deadline, doing, lambda: Routes(domain, shared, protocol=protocol, timeout=_left(loop, deadline))
    )
    tried = Tried(domain, shared._collector)
    while True:
        left = deadline - loop.time()
        if left <= 0:
            raise tried.error()
        # While others wait for their turn, a host gets half of what is left.
        until = loop.time() + (left if routes.__length_hint__() < 2 else left / 2)

        def next_route(until: float = until) -> Route | None:
            return routes._next(_left(loop, until))

        try:
            # A look-up that is still running would be in the way of the next one: it is waited for to the end.
            route = await _in_thread(loop, deadline, doing, next_route)
            if route is None:
                raise tried.error()
            session = await _connect(loop, protocol, route, until - loop.time())
        except errors.Error as e:
            if tried.over(e):
                raise
            if deadline - loop.time() <= 0:
                raise tried.error() from None
            continue
        try:
            outcome = tried.told(session.outcome, session._tlsrpt_events)
        except BaseException:
            session._drop()
            raise
        return _streams(loop, session, fresh, outcome, tried.events)


async def start(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    protocol: str,
    host: str,
    *,
    stage: str = "ready",
    policy: str | Policy = "strict",
    limit: int = _LIMIT,
) -> _Streams:
    """Makes a plain connection of yours what the policy demands: new streams for the same connection.

    What you have written goes out first; what is left in the reader counts as ``pending`` of
    `starttls.upgrade`, whose host and stages these are. From then on the old reader and writer are used
    up whatever comes of it, and after a failure the connection is closed. Raises `starttls.Error`.

    Arguments that are wrong are found before anything is touched: after `TypeError`, ``invalid`` (also
    for a connection that is closed or speaks TLS already) or ``unsupported`` without an outcome the old
    pair is as it was; so it is after a look-up that fails, which comes before the dialog.
    """
    loop = _loop()
    fresh = _Reader(limit=limit, loop=loop)
    shared = _core.policy_of(policy)
    deadline = loop.time() + shared.timeout
    if shared._looks_up:
        peer = writer.get_extra_info("peername")
        port = peer[1] if isinstance(peer, tuple) else 0
        route = await _looked_up(loop, deadline, protocol, host, port, shared)
        shared = route.policy.derive(timeout=_left(loop, deadline))
    negotiation = await _negotiation(loop, deadline, protocol, host, stage, shared)
    return await _take_over(loop, reader, writer, negotiation, b"", fresh, shared._has_cache)


async def accept_streams(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    protocol: str,
    *,
    command: "ReadableBuffer" = b"",
    policy: str | Policy,
    limit: int = _LIMIT,
) -> _Streams:
    """The server's side, within the callback of `asyncio.start_server`: `starttls.accept` for streams.

    command: all that you have read since the client's upgrade command began, the command included;
    what is left in the reader follows it. What stands behind the command in clear is ``injected``,
    and nothing is answered. Otherwise as `start`.
    """
    loop = _loop()
    fresh = _Reader(limit=limit, loop=loop)
    # Of a number bytes() would make so many zeros.
    before = bytes(memoryview(command))
    negotiation = Negotiation.accept(protocol, policy)
    return await _take_over(loop, reader, writer, negotiation, before, fresh)


def outcome_of(writer: asyncio.StreamWriter) -> Outcome:
    """What did happen on the connection of a writer of this module's."""
    outcome = writer.get_extra_info("starttls_outcome")
    if not isinstance(outcome, Outcome):
        raise errors.InvalidError("invalid", "this writer is not one of starttls")
    return outcome


def _shared(policy: str | Policy, timeout: float | None) -> Policy:
    shared = _core.policy_of(policy)
    return shared if timeout is None else shared.derive(timeout=timeout)


async def _in_thread(loop: asyncio.AbstractEventLoop, deadline: float, doing: str, call: "Callable[[], _T]") -> "_T":
    """What waits. Its own time-out ends it if nobody waits for it any more."""
    try:
        async with asyncio.timeout_at(deadline + _GRACE) as limit:
            return await loop.run_in_executor(None, call)
    except TimeoutError:
        if not limit.expired():
            raise
    message = f"{doing}: not done in time; are all threads of the loop's executor busy?"
    raise errors.make("timeout", message, True, None, None)


def _left(loop: asyncio.AbstractEventLoop, deadline: float) -> float:
    """Seconds until then. A time-out is not 0; this one is over all the same."""
    return max(deadline - loop.time(), 0.001)


async def _looked_up(
    loop: asyncio.AbstractEventLoop, deadline: float, protocol: str, host: str, port: int, policy: Policy
) -> Route:
    """A host that the caller names, with the look-ups done."""

    def look_up() -> Route:
        # From when there is a thread for it.
        return _core.look_up_host(protocol, host, port, policy.derive(timeout=_left(loop, deadline)))

    return await _in_thread(loop, deadline, f"look up {host}", look_up)


async def _negotiation(
    loop: asyncio.AbstractEventLoop, deadline: float, protocol: str, host: str, stage: str, policy: Policy
) -> Negotiation:
    if not policy._has_cache:
        return Negotiation(protocol, host, stage, policy)

    def make() -> Negotiation:
        return Negotiation(protocol, host, stage, policy.derive(timeout=_left(loop, deadline)))

    # It may be asked who did TLS before.
    return await _in_thread(loop, deadline, f"ask the cache for {host}", make)


def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.get_running_loop()
    if type(loop).add_reader is asyncio.AbstractEventLoop.add_reader:
        message = f"{type(loop).__name__} does not watch descriptors; use a selector loop of asyncio's, or uvloop"
        raise errors.UnsupportedError("unsupported", message)
    return loop


async def _take_over(
    loop: asyncio.AbstractEventLoop,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    negotiation: Negotiation,
    before: bytes,
    fresh: "_Reader",
    remembers: bool = False,
) -> _Streams:
    sock, left = await _detach(reader, writer, negotiation)
    session = await _negotiate(loop, negotiation, sock, before + left, remembers=remembers)
    try:
        await _shake(loop, session, remembers)
    except BaseException:
        session._drop()
        raise
    return _streams(loop, session, fresh)


async def _detach(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, negotiation: Negotiation
) -> tuple[socket.socket, bytes]:
    """The connection without its transport, and what had been read of it."""
    transport = writer.transport
    if transport.is_closing():
        raise errors.InvalidError("invalid", "the connection is closed")
    known = transport.get_extra_info
    if known("starttls_outcome") or known("sslcontext"):
        raise errors.InvalidError("invalid", "the connection is negotiated already")
    sock = known("socket")
    if sock is None:
        raise errors.InvalidError("invalid", "the writer is not one of a socket's")
    try:
        # Now drain() waits until all is sent.
        transport.set_write_buffer_limits(high=0)
        async with asyncio.timeout(negotiation.time_left) as limit:
            await writer.drain()
        transport.pause_reading()  # type: ignore[attr-defined]
        ours = socket.socket(fileno=os.dup(sock.fileno()))
    except OSError as e:
        if limit.expired():
            raise negotiation.too_late() from None
        raise negotiation.closed() from e
    finally:
        # Closes its own descriptor alone; the connection lives on in ours.
        transport.abort()
    try:
        ours.setblocking(False)
        reader.feed_eof()
        return ours, await reader.read()
    except BaseException:
        ours.close()
        raise


async def _connect(loop: asyncio.AbstractEventLoop, protocol: str, route: Route, seconds: float) -> Session:
    """To a host whose look-ups are done."""
    policy = route.policy.derive(timeout=max(seconds, 0.001))
    return await _connect_host(loop, protocol, route.host, route.port, policy, route.addresses)


async def _connect_host(
    loop: asyncio.AbstractEventLoop, protocol: str, host: str, port: int, policy: Policy, known: list[str]
) -> Session:
    negotiation = await _negotiation(loop, loop.time() + policy.timeout, protocol, host, "greeting", policy)
    port = port or negotiation.default_port
    session = await _reach(loop, negotiation, policy, port, known)
    try:
        await _shake(loop, session, policy._has_cache)
    except BaseException:
        again = session._redial()
        session._drop()
        if again is None:
            raise
        # The one case in which a connection is dialled again, in clear: see starttls.connect.
        session = await _reach(loop, again, policy, port, known)
    return session


async def _reach(
    loop: asyncio.AbstractEventLoop, negotiation: Negotiation, policy: Policy, port: int, known: list[str]
) -> Session:
    sock = await dial(loop, negotiation, policy, port, known)
    return await _negotiate(loop, negotiation, sock, b"", dialled=True, remembers=policy._has_cache)


async def _negotiate(
    loop: asyncio.AbstractEventLoop,
    negotiation: Negotiation,
    sock: socket.socket,
    pending: bytes,
    dialled: bool = False,
    remembers: bool = False,
) -> Session:
    """Plays the dialog; the socket becomes the session's."""
    try:
        if remembers:
            # What the cache knows is of a port.
            deadline = loop.time() + negotiation.time_left
            await _in_thread(loop, deadline, "ask the cache", lambda: negotiation.on(sock, dialled))
        else:
            negotiation.on(sock, dialled)
        await _talk(loop, negotiation, sock, pending)
        return negotiation.session(sock)
    except BaseException:
        sock.close()
        raise


async def _talk(loop: asyncio.AbstractEventLoop, negotiation: Negotiation, sock: socket.socket, pending: bytes) -> None:
    if pending:
        negotiation.receive(pending)
    moved = bool(pending)
    while (want := negotiation.want) != "handshake":
        if want == "plain" and not moved:
            # Where nothing is to be said, nothing is to be read.
            return
        try:
            # Also before each write: has the peer said what it should not have yet?
            data = _look(sock)
            if data:
                moved = True
                negotiation.receive(data)
                continue
            if want == "plain":
                return
            if want == "read" and data is not None:
                raise negotiation.closed()
            if want == "write":
                negotiation.sent(sock.send(negotiation.output()))
                moved = True
                continue
        except BlockingIOError:
            pass
        except errors.Error:
            raise
        except OSError as e:
            raise negotiation.lost(e.errno or 0) from None
        if not await ready(loop, sock.fileno(), want == "read", want == "write", negotiation.time_left):
            raise negotiation.too_late()


def _look(sock: socket.socket) -> bytes | None:
    """What has come; None if nothing has, nothing at the end."""
    try:
        return sock.recv(4096)
    except BlockingIOError:
        return None


async def _shake(loop: asyncio.AbstractEventLoop, session: Session, remembers: bool = False) -> None:
    """The handshake. The deadline is the session's: past it, try_handshake raises.

    remembers: its end may have to wait for a cache.
    """

    async def step() -> str:
        if not remembers:
            return session.try_handshake()
        deadline = loop.time() + (session.time_left or 0)
        return await _in_thread(loop, deadline, "handshake", session.try_handshake)

    while (want := await step()) != "done":
        writing = want == "write" or session.wants_write
        await ready(loop, session.fileno(), want == "read", writing, session.time_left or 0)


def _streams(
    loop: asyncio.AbstractEventLoop,
    session: Session,
    reader: "_Reader",
    outcome: Outcome | None = None,
    events: "Sequence[str]" = (),
) -> _Streams:
    try:
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport = SessionTransport(loop, session, protocol, outcome, events)
    except BaseException:
        session._drop()
        raise
    return reader, _Writer(transport, protocol, reader, loop)


class _Writer(asyncio.StreamWriter):
    """Says close_notify only if it is closed: a writer that was given up may have more to say."""

    def __del__(self, warn: Any = warnings.warn) -> None:
        if self.transport.is_closing():
            return
        warn(f"unclosed {self!r}", ResourceWarning, source=self)
        # Without its loop the transport does that by itself.
        with suppress(RuntimeError):
            self.transport.abort()


class _Reader(asyncio.StreamReader):
    """Gives all that came before it raises why there is no more."""

    _why: Exception | None = None

    def exception(self) -> Exception | None:
        return self._why if self._why and self.at_eof() else None

    def set_exception(self, exc: Exception) -> None:
        self._why = exc
        self.feed_eof()

    async def read(self, n: int = -1) -> bytes:
        data = await super().read(n)
        if not data and n and self._why:
            raise self._why
        return data

    async def readuntil(self, separator: bytes = b"\n") -> bytes:  # type: ignore[override]
        try:
            return await super().readuntil(separator)
        except asyncio.IncompleteReadError as e:
            if self._why:
                raise self._why from e
            raise

    async def readexactly(self, n: int) -> bytes:
        try:
            return await super().readexactly(n)
        except asyncio.IncompleteReadError as e:
            if self._why:
                raise self._why from e
            raise
