"""File objects over a session, as `socket.makefile` gives them."""

import io
import ssl
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from starttls._core import Session


class SessionIO(io.RawIOBase):
    """The raw end. Unlike `socket.SocketIO` it can be read again after a time-out."""

    def __init__(self, session: "Session", reading: bool, writing: bool) -> None:
        super().__init__()
        self._session: Session | None = None
        session._file_opened()
        self._session = session
        self._reading = reading
        self._writing = writing

    def _open(self) -> "Session":
        if self._session is None:
            raise ValueError("I/O operation on closed file.")
        return self._session

    def readable(self) -> bool:
        self._open()
        return self._reading

    def writable(self) -> bool:
        self._open()
        return self._writing

    def fileno(self) -> int:
        return self._open().fileno()

    @property
    def mode(self) -> str:
        """``rb``, ``wb`` or ``rwb``."""
        return "r" * self._reading + "w" * self._writing + "b"

    @property
    def name(self) -> int:
        """The descriptor, -1 once closed."""
        return -1 if self._session is None else self._session.fileno()

    def readinto(self, buffer: "WriteableBuffer", /) -> int | None:
        session = self._open()
        if not self._reading:
            raise io.UnsupportedOperation("not readable")
        try:
            return session.recv_into(buffer)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None

    def write(self, buffer: "ReadableBuffer", /) -> int | None:
        session = self._open()
        if not self._writing:
            raise io.UnsupportedOperation("not writable")
        try:
            return session.send(buffer)
        except (BlockingIOError, ssl.SSLWantWriteError):
            return None

    def close(self) -> None:
        """Closes this file, and the session if that was asked for meanwhile."""
        if self.closed:
            return
        super().close()
        session, self._session = self._session, None
        if session is not None:
            session._file_closed()


def makefile(
    session: "Session",
    mode: str,
    buffering: int | None,
    encoding: str | None,
    errors: str | None,
    newline: str | None,
) -> IO[bytes] | IO[str] | SessionIO:
    """`socket.makefile` for a session, with its rules for mode and buffering."""
    if not set(mode) <= {"r", "w", "b"} or len(set(mode)) != len(mode):
        raise ValueError(f"invalid mode {mode!r} (only r, w, b allowed)")
    writing = "w" in mode
    reading = "r" in mode or not writing
    binary = "b" in mode
    if buffering is None or buffering < 0:
        buffering = io.DEFAULT_BUFFER_SIZE
    if buffering == 0 and not binary:
        raise ValueError("unbuffered streams must be binary")
    raw = SessionIO(session, reading, writing)
    if buffering == 0:
        return raw
    buffer: io.BufferedRWPair | io.BufferedReader | io.BufferedWriter
    if reading and writing:
        buffer = io.BufferedRWPair(raw, raw, buffering)
    elif reading:
        buffer = io.BufferedReader(raw, buffering)
    else:
        buffer = io.BufferedWriter(raw, buffering)
    if binary:
        return buffer  # type: ignore[return-value]  # a BufferedRWPair is what socket.makefile gives, too
    text = io.TextIOWrapper(buffer, encoding, errors, newline)  # type: ignore[type-var]
    text.mode = mode  # type: ignore[misc]  # as socket.makefile does
    return text
