"""An `asyncio.Transport` over a session: bytes from the loop to `Session.try_read` and back."""

import asyncio
import warnings
from asyncio.trsock import TransportSocket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from socket import SHUT_WR
from typing import TYPE_CHECKING, Any

from starttls._core import Session
from starttls.outcome import Outcome

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
else:
    ReadableBuffer = Any

# What one turn of the loop reads of one connection, in TLS records.
_TURN = 16
_HIGH_WATER = 64 * 1024
# Seconds in which `close` gets rid of what is left to write.
_CLOSING = 30.0


class SessionTransport(asyncio.Transport):
    """Owns the session. The protocol's `connection_made` is called at once."""

    # For __del__, should __init__ fail.
    _session: Session | None = None

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        session: Session,
        protocol: asyncio.BaseProtocol,
        outcome: Outcome | None = None,
        events: Sequence[str] = (),
    ) -> None:
        """outcome: the session's, with that of the hosts before it; events: what these have to report."""
        encrypted = session.outcome.encrypted
        extra = {
            "socket": TransportSocket(session),  # type: ignore[arg-type]
            "peername": _name(session.getpeername),
            "sockname": session.getsockname(),
            "starttls_outcome": outcome or session.outcome,
            "starttls_tlsrpt_events": [*events, *session._tlsrpt_events],
            # As ssl's transports have them; there is no object of ssl's.
            "cipher": session.cipher(),
            "peercert": session.getpeercert() if encrypted else None,
            "ssl_object": None,
            "sslcontext": None,
        }
        super().__init__(extra)
        self._loop = loop
        self._session = session
        self._fd = session.fileno()
        self._protocol = protocol
        self._encrypted = encrypted
        self._buffer = bytearray()
        # Of what was taken from the buffer this may not have left yet.
        self._leaving = 0
        self._high, self._low = _HIGH_WATER, _HIGH_WATER // 4
        self._writing_paused = False
        self._reading_paused = False
        self._ended = False
        self._watched = False
        self._eof_wanted = False
        self._eof_sent = False
        self._closing = False
        self._parting = False
        self._lost = False
        self._deadline: asyncio.TimerHandle | None = None
        protocol.connection_made(self)
        self._begin_reading()

    # --- reading

    def is_reading(self) -> bool:
        """Whether bytes of the peer's are given to the protocol."""
        return not (self._reading_paused or self._ended or self._closing)

    def pause_reading(self) -> None:
        """Gives the protocol nothing until `resume_reading`."""
        if self.is_reading():
            self._reading_paused = True
            self._loop.remove_reader(self._fd)

    def resume_reading(self) -> None:
        """Takes back `pause_reading`."""
        if self._reading_paused:
            self._reading_paused = False
            self._begin_reading()

    def _begin_reading(self) -> None:
        if self.is_reading():
            self._loop.add_reader(self._fd, self._read_ready)
            # The loop is not told of what is decrypted already.
            self._loop.call_soon(self._read_ready)

    def _read_ready(self) -> None:
        for _ in range(_TURN):
            if not self.is_reading() or self._session is None:
                return
            try:
                data = self._session.try_read()
            except OSError as e:
                self._lose(e)
                return
            # It may have had to answer.
            self._watch()
            if data is None:
                return
            if not data:
                self._end()
                return
            try:
                self._give(data)
            except Exception as e:
                self._fault(e, "the protocol failed to take data")
                return
        self._loop.call_soon(self._read_ready)

    def _give(self, data: bytes) -> None:
        protocol = self._protocol
        if isinstance(protocol, asyncio.BufferedProtocol):
            view = memoryview(data)
            while view:
                buffer = memoryview(protocol.get_buffer(len(view))).cast("B")
                n = min(len(buffer), len(view))
                if not n:
                    raise RuntimeError("get_buffer() returned an empty buffer")
                buffer[:n] = view[:n]
                protocol.buffer_updated(n)
                view = view[n:]
        elif isinstance(protocol, asyncio.Protocol):
            protocol.data_received(data)

    def _end(self) -> None:
        """The peer has said that it writes no more."""
        self._ended = True
        self._loop.remove_reader(self._fd)
        protocol = self._protocol
        try:
            keep = isinstance(protocol, asyncio.Protocol | asyncio.BufferedProtocol) and protocol.eof_received()
        except Exception as e:
            self._fault(e, "the protocol failed at the end of the data")
            return
        if not keep:
            self.close()

    # --- writing

    def write(self, data: ReadableBuffer) -> None:
        """Sends what can be sent now and keeps the rest."""
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"data: a bytes-like object, not {type(data).__name__}")
        if self._eof_wanted:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self._closing or self._lost or not data:
            return
        self._buffer += data
        self._write_ready()

    def writelines(self, list_of_data: Iterable[ReadableBuffer]) -> None:
        """`write`, all in one."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """TLS can be ended in one direction, as TCP can."""
        return True

    def write_eof(self) -> None:
        """Ends writing when all is sent: close_notify over TLS. Reading goes on."""
        if not self._eof_wanted and not self._closing:
            self._eof_wanted = True
            self._write_ready()

    def get_write_buffer_size(self) -> int:
        """Bytes that have not left yet."""
        return len(self._buffer) + self._leaving

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Low and high."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """From how many bytes on the protocol is asked to pause writing, and until when."""
        if high is None:
            high = _HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high, self._low = high, low
        self._tell_protocol()

    def _write_ready(self) -> None:
        session = self._session
        if session is None or self._lost:
            return
        try:
            self._push(session)
        except OSError as e:
            self._lose(e)
            return
        self._watch()
        self._tell_protocol()

    def _push(self, session: Session) -> None:
        if self._parting:
            self._say_goodbye(session)
            return
        sent = 0
        with memoryview(self._buffer) as view:
            # A record at a time: the next is taken when the one before has left.
            while sent < len(view):
                with view[sent : sent + 16384] as record:
                    n = session.try_write(record)
                if n is None:
                    break
                sent += n
                self._leaving = n
        del self._buffer[:sent]
        if not session.wants_write or session.try_flush():
            self._leaving = 0
        if self._buffer:
            return
        if self._eof_wanted and not self._eof_sent and not self._leaving:
            self._eof_sent = session.try_finish()
            if self._eof_sent and not self._encrypted:
                session.shutdown(SHUT_WR)
        if self._closing and not self._leaving:
            self._say_goodbye(session)

    def _say_goodbye(self, session: Session) -> None:
        self._parting = True
        said = True
        # A peer that is gone cannot be told.
        with suppress(OSError):
            said = session.try_close()
        if said:
            self._lose(None)

    def _watch(self) -> None:
        """Asks the loop for the descriptor being writable where that is of use."""
        session = self._session
        wanted = not self._lost and session is not None and (bool(self._buffer) or session.wants_write)
        if wanted and not self._watched:
            self._loop.add_writer(self._fd, self._write_ready)
        elif self._watched and not wanted:
            self._loop.remove_writer(self._fd)
        self._watched = wanted

    def _tell_protocol(self) -> None:
        size = self.get_write_buffer_size()
        try:
            if size > self._high and not self._writing_paused:
                self._writing_paused = True
                self._protocol.pause_writing()
            elif size <= self._low and self._writing_paused:
                self._writing_paused = False
                self._protocol.resume_writing()
        except Exception as e:
            self._fault(e, "the protocol failed to pause or resume writing")

    # --- the end

    def is_closing(self) -> bool:
        """Whether `close` was called, or the connection is lost."""
        return self._closing or self._lost

    def close(self) -> None:
        """Sends what is left, then close_notify, and closes. A peer that takes nothing is given 30 s."""
        if self.is_closing():
            return
        self._closing = True
        self._loop.remove_reader(self._fd)
        self._deadline = self._loop.call_later(_CLOSING, self.abort)
        self._write_ready()

    def abort(self) -> None:
        """Closes at once and says nothing to the peer."""
        self._lose(None)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Who is given what comes."""
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Gives what comes to another."""
        self._protocol = protocol

    def _fault(self, error: Exception, message: str) -> None:
        context = {"message": message, "exception": error, "transport": self, "protocol": self._protocol}
        self._loop.call_exception_handler(context)
        self._lose(error)

    def _lose(self, error: Exception | None) -> None:
        """The connection is at its end, for this reason."""
        if self._lost:
            return
        self._lost = self._closing = True
        if self._deadline:
            self._deadline.cancel()
        self._buffer.clear()
        self._leaving = 0
        self._loop.remove_reader(self._fd)
        self._watch()
        self._loop.call_soon(self._part, error)

    def _part(self, error: Exception | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            if self._session is not None:
                self._session._drop()
            self._session = None

    def __del__(self, warn: Any = warnings.warn) -> None:
        if self._session is not None:
            warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            self._session._drop()

    def __repr__(self) -> str:
        state = "closed" if self._lost else "closing" if self._closing else "open"
        return f"<starttls transport {state} fd={self._fd}>"


def _name(get: Any) -> Any:
    try:
        return get()
    except OSError:
        # The peer is gone already.
        return None
