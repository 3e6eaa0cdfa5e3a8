"""The compiled half of `starttls`; use the package, not this module."""

import builtins
from collections.abc import Callable, Iterable
from io import BufferedReader, BufferedRWPair, BufferedWriter, TextIOWrapper
from ipaddress import IPv4Address, IPv6Address
from os import PathLike
from socket import AddressFamily, SocketKind, socket
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypeAlias, TypedDict, Unpack, final, overload

from _typeshed import ReadableBuffer, WriteableBuffer

from starttls._answer import Answer
from starttls._files import SessionIO
from starttls.errors import Error
from starttls.outcome import Outcome

__all__ = [
    "Collector",
    "Event",
    "Negotiation",
    "Policy",
    "Record",
    "Report",
    "Reports",
    "Route",
    "Routes",
    "Session",
    "accept",
    "adopt",
    "connect",
    "connect_domain",
    "look_up_host",
    "make_certificates",
    "policy_of",
    "protocols",
    "refuse",
    "survey",
    "upgrade",
    "version",
]

_Path: TypeAlias = str | PathLike[str]
_ServerCert: TypeAlias = _Path | tuple[_Path, _Path] | bytes | tuple[bytes, bytes]
_Tlsa: TypeAlias = str | tuple[int, int, int, ReadableBuffer]
_Resolver: TypeAlias = str | Callable[[str, str, float], Answer]
_Cache: TypeAlias = _Path | _Mapping | _CacheObject

class _Mapping(Protocol):
    """Such as a dict, a shelf, diskcache's, redis-py's."""

    def __getitem__(self, key: str, /) -> Any: ...
    def __setitem__(self, key: str, value: bytes, /) -> None: ...
    def __delitem__(self, key: str, /) -> None: ...

class _CacheObject(Protocol):
    def get(self, key: str, /) -> ReadableBuffer | None: ...
    def put(self, key: str, value: bytes, expires: float, /) -> object: ...
    def remove(self, key: str, /) -> object: ...

version: str

class _Settings(TypedDict, total=False):
    level: str
    ca_file: _Path | None
    ca_path: _Path | None
    fingerprints: Iterable[str]
    tlsa: Iterable[_Tlsa]
    tlsa_proof: str | None
    client_cert: _Path | tuple[_Path, _Path] | None
    server_cert: _ServerCert | list[_ServerCert] | None
    ask_client_cert: bool
    min_tls: str | None
    timeout: float | None
    client_name: str | None
    names: Iterable[str]
    sni: str | None
    address: str | IPv4Address | IPv6Address | None
    name_from: str | None
    cache: _Cache | None
    destinations: _Path | None
    resolver: _Resolver | None
    tlsrpt: _Path | bool | None
    port: int | None
    sts_port: int | None
    tlsa_port: int | None

@final
class Policy:
    """What must hold on a connection: a level, and what goes with it.

    Immutable, and safe to share between threads; a policy made before `fork` serves the children of
    a single-threaded parent. The `SSL_CTX`, the trust store and the store of resumable TLS sessions
    are made at the first use and belong to the policy and all derived from it, so make one and keep
    it. A level word given as `policy=` stands for one policy kept per process.
    """

    def __new__(
        cls,
        level: str = "strict",
        *,
        ca_file: _Path | None = None,
        ca_path: _Path | None = None,
        fingerprints: Iterable[str] = (),
        tlsa: Iterable[_Tlsa] = (),
        tlsa_proof: str | None = None,
        client_cert: _Path | tuple[_Path, _Path] | None = None,
        server_cert: _ServerCert | list[_ServerCert] | None = None,
        ask_client_cert: bool = False,
        min_tls: str | None = None,
        timeout: float | None = 30.0,
        client_name: str | None = None,
        names: Iterable[str] = (),
        sni: str | None = None,
        address: str | IPv4Address | IPv6Address | None = None,
        name_from: str | None = None,
        cache: _Cache | None = None,
        destinations: _Path | None = None,
        resolver: _Resolver | None = None,
        tlsrpt: _Path | bool | None = None,
        port: int | None = None,
        sts_port: int | None = None,
        tlsa_port: int | None = None,
    ) -> Self:
        """Raises `invalid` for what makes no sense and `unsupported` for what is not in this build.

        level: `none`, `may`, `encrypt`, `fingerprint`, `verify`, `dane`, `dane-only`, `opportunistic`,
        `strict`.
        ca_file, ca_path: PEM file, directory with hash links; they replace the system's trust store.
        fingerprints: SHA-256 (hex) of the certificate or its public key; for level `fingerprint`.
        client_cert: PEM file with certificate and key, or the pair of files.
        min_tls: `1.0` to `1.3`; 1.2 if not set, but at `may` whatever the build has.
        timeout: seconds for resolving, dialling, dialog and handshake together; None: 30.
        client_name: for EHLO and LHLO; the local address if not set, nothing is looked up.
        names: accepted in the certificate beside the host's. sni: sent instead of the host's.
        address: dial this address; the host is then only what is checked.
        name_from: where the host's name comes from: `caller`, `dnssec`, `mta-sts`, `insecure-dns`.
        server_cert: for `accept`: a PEM file with certificate, chain and key; a pair (certificate,
        key) of files; the same as `bytes`, for PEM in memory; a directory of `HOST.pem` (or `HOST.crt`
        and `HOST.key`; `_.DOMAIN.pem` is for any one label below); or a list of such. A client that
        names a host is shown the certificate for it, all others the first. A server's levels are
        `encrypt`, `verify` and `fingerprint`; the last two demand a certificate of the client.
        ask_client_cert: at `encrypt`, ask the client for one; the outcome tells what came.
        resolver: whom to ask for MX, addresses, TLSA and TXT: `127.0.0.1`, `192.0.2.1:53 trust-ad`,
        `unbound`; or a callable `(name, type, timeout)` that returns a `starttls.Answer`; None: the
        system's.
        cache: where to keep what was learnt: `memory`, `directory`, a path, `redis://…`, a mapping from
        str to bytes, or an object with `get(key)`, `put(key, value, expires)` and `remove(key)`. What it
        raises is a note in the outcome. It is called on the thread that connects.
        destinations: file with what you know of destinations, one a line, or a STARTTLS Everywhere list.
        tlsrpt: socket of the TLSRPT collector; True: only look a domain's record up, for
        `starttls.tlsrpt`.
        port: of a domain's mail hosts, 25 if not set. sts_port: of the host that has the MTA-STS policy,
        443.
        tlsa: the host's TLSA records, if you have looked them up: tuples (usage, selector, matching,
        bytes) or texts `3 1 1 hex`. tlsa_proof: what DNSSEC says of them: `secure`, `insecure`, `bogus`,
        `indeterminate`, or `failed`. tlsa_port: the port that is in their name, if another one is dialled.
        """

    def derive(self, **changes: Unpack[_Settings]) -> Policy:
        """A policy with these changes, named as the arguments of `Policy`.

        It shares `SSL_CTX`, trust store and resumable sessions with this one unless the level, the
        CA, a certificate of ours, `ask_client_cert` or `min_tls` are among them.
        """

    def ready(self) -> None:
        """Reads all files and builds the `SSL_CTX` now, which else the first connection does.

        Before `fork` or dropping privileges. Raises `invalid` if a file holds nothing usable.
        """

    def reload(self) -> None:
        """As server, reads certificates, keys and CA anew, for all policies that share them with this.

        Sessions that exist go on, and tickets given out stay good. A program that forks calls it in
        the parent. Raises `invalid`; what was read before then stays in use.
        """

    def forget(self, name: str) -> None:
        """Forgets that a host, or a domain's hosts, did TLS before: for one that stops doing so and means it.

        What it proves later is remembered again. Raises `invalid` without a cache, `io` if that cannot be
        written.
        """

    def _with_source_address(self, address: str) -> Policy:
        """For `starttls.stdlib`: a policy that dials from this address.

        As `192.0.2.1:0` or `[2001:db8::1]:0`.
        """

    @property
    def level(self) -> str:
        """The level's word."""

    @property
    def timeout(self) -> float:
        """Seconds for resolving, dialling, dialog and handshake together."""

    @property
    def client_name(self) -> str | None:
        """For EHLO and LHLO; None: the local address."""

    @property
    def address(self) -> str | None:
        """The address that is dialled whatever the host; None: the host's."""

    @property
    def _source_address(self) -> tuple[str, int] | None:
        """Host and port that are dialled from, if `_with_source_address` has set them."""

    @property
    def _has_cache(self) -> bool:
        """Whether making and checking a connection may wait for a cache."""

    @property
    def _looks_up(self) -> bool:
        """Whether something may have to be looked up before a host is dialled.

        By the level, or by that of the host's row in the table of destinations.
        """

    @property
    def _collector(self) -> _Path | None:
        """The socket of the TLSRPT collector."""

@final
class Session:
    """A connection over TLS or, where the policy allows it, in clear: `outcome` says which and why.

    Made by `starttls.connect`, `starttls.upgrade`, `starttls.accept` and `Context.wrap_socket`.
    Behaves as a socket. One thread may read while others write, each in its turn. After `fork` the
    child may only close it, and that sends nothing. An end of the peer's without close_notify raises
    `closed`: what came before may be cut short. So may what a `with` block that an exception leaves has
    sent: then no close_notify is sent, and a socket given to `upgrade` is shut down. Time-outs
    (`settimeout`) count from the last byte moved.
    """

    @property
    def outcome(self) -> Outcome:
        """What did happen. It stays after `close`."""

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """Reads up to bufsize bytes, 16 KiB (a TLS record) at most, waiting for the first.

        `b""` means that the peer closed properly. flags must be 0.
        """

    def recv_into(self, buffer: WriteableBuffer, nbytes: int | None = 0, flags: int = 0) -> int:
        """Reads into a writable buffer, at most nbytes (0 or None: as many as fit); how many came."""

    def send(self, data: ReadableBuffer, flags: int = 0) -> int:
        """Writes the beginning of data, 16 KiB at most, and says how many bytes.

        Where it raises for want of time (`ssl.SSLWantWriteError` at time-out 0), call it again with
        the same data, as with `ssl`.
        """

    def sendall(self, data: ReadableBuffer, flags: int = 0) -> None:
        """Writes all of data, or raises; how much has reached the peer is then not known."""

    @overload
    def makefile(
        self,
        mode: Literal["b", "rb", "br"],
        buffering: Literal[-1] | None = None,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> BufferedReader: ...
    @overload
    def makefile(
        self,
        mode: Literal["wb", "bw"],
        buffering: Literal[-1] | None = None,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> BufferedWriter: ...
    @overload
    def makefile(
        self,
        mode: Literal["r", "w", "rw", "wr", ""] = "r",
        buffering: int | None = None,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> TextIOWrapper: ...
    @overload
    def makefile(
        self,
        mode: str,
        buffering: int | None = None,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> BufferedReader | BufferedWriter | BufferedRWPair | TextIOWrapper | SessionIO:
        """A file object over this session, as `socket.makefile`: closing the session waits for it."""

    def settimeout(self, value: float | None) -> None:
        """The longest a read or write may wait without a byte moving, in seconds.

        None: for ever; 0: never, it then raises `ssl.SSLWantReadError` and the like.
        """

    def gettimeout(self) -> float | None:
        """What `settimeout` set, in seconds."""

    def setblocking(self, flag: object) -> None:
        """`setblocking(True)` is `settimeout(None)`, `setblocking(False)` is `settimeout(0)`."""

    def getblocking(self) -> bool:
        """False at time-out 0."""

    def setsockopt(self, *args: Any) -> None:
        """As `socket.setsockopt`."""

    def getsockopt(self, *args: Any) -> Any:
        """As `socket.getsockopt`."""

    @property
    def family(self) -> AddressFamily:
        """`socket.AF_INET` and the like."""

    @property
    def type(self) -> SocketKind:
        """`socket.SOCK_STREAM`."""

    @property
    def proto(self) -> int:
        """The number of the protocol within the family."""

    def fileno(self) -> int:
        """The descriptor to wait on, -1 once closed. See `pending` before waiting for it.

        The session owns it; on a session made by `upgrade` it is a duplicate of the socket's.
        """

    def pending(self) -> int:
        """Bytes that `recv` gives without waiting for the peer."""

    def getpeername(self) -> Any:
        """The peer's address, as `socket.getpeername` gives it."""

    def getsockname(self) -> Any:
        """Our own address, as `socket.getsockname` gives it."""

    def shutdown(self, how: int) -> None:
        """Shuts one or both directions down (`socket.SHUT_RD`, `SHUT_WR`, `SHUT_RDWR`).

        Where writing ends, the peer is sent close_notify first.
        """

    def unwrap(self) -> socket:
        """Ends TLS by close_notify, waits for the peer's, and gives the plain socket back.

        It is the one given to `upgrade`, else a new one. The session is closed then. Raises `invalid`
        on a session in clear or if the peer still sent data, which `recv` then gives, `closed` if it
        does not answer with close_notify.
        """

    def close(self) -> None:
        """Sends close_notify and closes; a thread waiting in `recv` is woken.

        A socket given to `upgrade` stays open. Does not raise if the peer is gone. With files of
        `makefile` still open it happens when the last is closed.
        """

    def version(self) -> str | None:
        """The TLS version, as `"TLSv1.3"`; None in clear."""

    def cipher(self) -> tuple[str, str, int] | None:
        """Name, protocol version and secret bits of the cipher; None in clear."""

    def selected_alpn_protocol(self) -> str | None:
        """The application protocol agreed on (RFC 7301), or None."""

    @overload
    def getpeercert(self, binary_form: Literal[False] = False) -> dict[str, Any] | None: ...
    @overload
    def getpeercert(self, binary_form: Literal[True]) -> bytes | None: ...
    @overload
    def getpeercert(self, binary_form: object) -> dict[str, Any] | bytes | None:
        """The peer's certificate; None in clear.

        DER if binary_form, else a dict as `ssl` gives it (without its OCSP and CRL entries, and of the
        alternative names without othername and Registered ID), which is empty where nothing proved
        who the peer is.
        """

    def get_channel_binding(self, cb_type: str = "tls-exporter") -> bytes:
        """Channel binding for SASL: `tls-exporter` (RFC 9266) or `tls-server-end-point` (RFC 5929).

        Raises `invalid` in clear or for another type.
        """

    def heard(self) -> bytes:
        """All that the peer said in clear before the session, raw.

        Over TLS nothing of it is to be acted on.
        """

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: builtins.type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    def _as_stream(self, first: bytes) -> None:
        """For the standard library's classes, whose protocols delimit their messages themselves.

        These bytes are read first, and an end without close_notify reads as an end.
        """

    def _file_opened(self) -> None: ...
    def _file_closed(self) -> None: ...
    def protect(self, sock: _Socket) -> Session:
        """Protects a second connection to the same server by the same policy, such as FTP's for data.

        (RFC 4217 §9.) After `PROT P` and the server's answer to the command that uses it. It resumes
        this session's TLS session, which many servers demand. sock: as for `starttls.upgrade`: it
        stays yours. End the new session by `close`, so that the server knows the data to be whole;
        that waits for the server's end, 5 s at most. Raises `invalid` on a session in clear or a
        server's, and as `upgrade`.
        """

    def _protect_own(self, sock: socket) -> Session:
        """The same with a socket that the new session owns: it is detached, and closed if this fails."""

    def try_handshake(self) -> Literal["done", "read", "write"]:
        """Goes on with the handshake of a session that a `Negotiation` was made, without waiting.

        `read`, `write`: call again when that is possible. Before it is done, nothing else can be.
        """

    def try_read(self, n: int = 16384) -> bytes | None:
        """Reads what is there, at most n bytes and one TLS record, without waiting.

        None if nothing is, `b""` if the peer has closed properly. Go on until None: what is left may
        be decrypted already.
        """

    def try_write(self, data: ReadableBuffer) -> int | None:
        """Takes the beginning of data, at most one TLS record, and says how many bytes.

        None: try again when the descriptor is writable. What was taken may not have left yet:
        `wants_write`.
        """

    def try_flush(self) -> bool:
        """Gives the kernel what it has not taken yet; True when nothing is left."""

    def try_finish(self) -> bool:
        """Says that nothing more will be written: close_notify, over TLS. Reading goes on.

        Call it until it is True.
        """

    def try_close(self) -> bool:
        """Ends the session, over TLS by close_notify. Call it until it is True, then `close`."""

    @property
    def wants_write(self) -> bool:
        """Whether bytes wait for the descriptor to be writable."""

    @property
    def time_left(self) -> float | None:
        """Seconds left of the policy's time-out for the handshake; None when that is done."""

    def _redial(self) -> Negotiation | None:
        """After a `try_handshake` that failed on a connection dialled for it.

        The negotiation for a second connection in clear, where `starttls.connect` would dial again.
        """

    def _drop(self) -> None:
        """Closes and says nothing to the peer."""

    @property
    def _tlsrpt_events(self) -> list[str]:
        """For `starttls.tlsrpt.events`: lines of JSON."""

@final
class Negotiation:
    """A dialog in clear, for whoever does the input and output himself, such as an event loop.

    Do what `want` says until it says `handshake` or `plain`, make it a `session`, and go on with that
    one's `try_handshake`. Nothing here waits. Methods that learn what the peer has said raise
    `starttls.Error`; the negotiation is then over.
    """

    def __new__(cls, protocol: str, host: str, stage: str, policy: str | Policy) -> Self:
        """The client's side. Its time-out, the policy's, counts from now."""

    @staticmethod
    def accept(protocol: str, policy: str | Policy) -> Negotiation:
        """The server's side, as `starttls.accept`."""

    @property
    def want(self) -> Literal["write", "read", "handshake", "plain"]:
        """`write`: send `output` and say so by `sent`, but read first what is there.

        `read`: hand what comes to `receive`, or raise `closed`. `handshake`, `plain`: make it a
        `session`.
        """

    @property
    def default_port(self) -> int:
        """The port that stands for 0."""

    @property
    def host(self) -> str | None:
        """The name to look up: the host in A-labels, or an address."""

    @property
    def outcome(self) -> Outcome:
        """What has happened so far."""

    @property
    def time_left(self) -> float:
        """Seconds that are left of the policy's time-out."""

    def output(self) -> bytes:
        """What is to be sent."""

    def sent(self, n: int) -> None:
        """So many bytes of `output` were sent."""

    def receive(self, data: ReadableBuffer) -> None:
        """These bytes came."""

    def closed(self) -> Error:
        """The exception for a peer that has closed the connection."""

    def lost(self, errno: int) -> Error:
        """The exception for a connection that broke with this errno."""

    def too_late(self) -> Error:
        """The exception for a time-out that has passed."""

    def on(self, sock: _Socket, dialled: bool = False) -> None:
        """Before anything is said: this is the connection.

        A client then names itself by its address. Where it was dialled since the negotiation began, the
        outcome tells how long that took.
        """

    def session(self, sock: socket) -> Session:
        """Makes a session of it, which owns the connection. The negotiation is used up.

        The socket is detached, and closed if this fails.
        """

@final
class Route:
    """One host that takes the domain's mail, with the policy that holds there."""

    @property
    def host(self) -> str:
        """The name to give to `connect` or `upgrade`, in A-labels, or an address."""

    @property
    def port(self) -> int:
        """The port to dial."""

    @property
    def addresses(self) -> list[str]:
        """All that was looked up, best first."""

    @property
    def policy(self) -> Policy:
        """What must hold there, with all look-ups done."""

@final
class Routes:
    """The hosts of a domain in the order to try them, as an iterator. Made by `starttls.routes`.

    Each host's look-ups are made when its turn comes. A host that cannot do, because its look-ups failed
    or because nothing there could meet the policy, is left out; why is in `skipped`.
    """

    def __new__(
        cls, domain: str, policy: str | Policy = "strict", *, protocol: str = "smtp", timeout: float | None = None
    ) -> Self: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Route: ...
    def __length_hint__(self) -> int:
        """How many hosts have not had their turn."""

    @property
    def skipped(self) -> list[Error]:
        """Why hosts were left out so far."""

    def _next(self, seconds: float) -> Route | None:
        """For `starttls.aio`: the next host, and None after the last one. Raises why it is to be skipped.

        seconds: for its look-ups.
        """

@final
class Record:
    """A domain's record, by which it asks for reports: the TXT at `_smtp._tls.DOMAIN`."""

    @staticmethod
    def parse(text: str | ReadableBuffer) -> Record:
        """Reads one record. Raises `malformed`."""

    @staticmethod
    def find(records: Iterable[str | ReadableBuffer]) -> Record | None:
        """The record among all TXT records at the name, each with its strings joined.

        None if there is none, or if there are several, among which nobody can choose. Raises `malformed`.
        """

    @property
    def rua(self) -> list[str]:
        """Where reports go, in the domain's order: `mailto:…` or `https://…`. Never empty."""

    @property
    def text(self) -> str:
        """The record as it was found."""

    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...

@final
class Event:
    """How each policy of a domain fared in one attempted session."""

    @staticmethod
    def from_json(line: str) -> Event:
        """Reads what `to_json` gives. Raises `invalid`."""

    def to_json(self) -> str:
        """One line, for another process that folds."""

    @property
    def domain(self) -> str:
        """The domain that the mail is for, in A-labels."""

    @property
    def success(self) -> bool:
        """Whether every policy was met."""

    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...

@final
class Collector:
    """The standard collector, `tlsrpt-collectd`, at its Unix socket."""

    def __new__(cls, socket: _Path) -> Self:
        """Raises `invalid` if the path is too long for a socket."""

    def send(self, event: Event) -> None:
        """Sends one event, without waiting. Raises `io`; that is no reason to hold up mail."""

@final
class Reports:
    """Folds events to one report for each domain. Memory is bounded."""

    def __new__(
        cls,
        organization: str,
        contact: str,
        *,
        day: float | None = None,
        unique_id: str | None = None,
        limit: int | None = None,
    ) -> Self:
        """organization: for people. contact: a mail address, whose domain is told to be the one that reports.

        day: a time within the day (UTC) that the reports are about, in seconds as of `time.time()`; None:
        today. unique_id: letters and digits that tell these reports from another machine's. limit: bytes
        that all may take.
        """

    def add(self, event: Event) -> None:
        """Adds one session."""

    def merge(self, other: Reports) -> None:
        """Adds what another has folded. Raises `invalid` if it is of another sender or day."""

    def reports(self) -> list[Report]:
        """The reports as they are now, one for each domain."""

    @property
    def dropped(self) -> int:
        """How many sessions had no room and are in no report."""

@final
class Report:
    """The report to one domain."""

    @property
    def domain(self) -> str:
        """The domain that it is about and goes to."""

    @property
    def record(self) -> Record:
        """Where to send it. It goes there even if TLS fails. Raises `malformed` if the record is not valid."""

    @property
    def id(self) -> str:
        """A name that no other report has."""

    @property
    def file_name(self) -> str:
        """As the mail's attachment has to be called (RFC 8460 §5.1): it is the compressed one's."""

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Header fields that the mail needs beside the usual ones (§5.3), name and value."""

    def to_json(self) -> str:
        """The report."""

    def gzip(self) -> bytes:
        """The report, compressed."""

class _Socket(Protocol):
    def fileno(self) -> int: ...
    def gettimeout(self) -> float | None: ...

def connect(
    protocol: str,
    host: str,
    port: int = 0,
    *,
    policy: str | Policy = "strict",
    timeout: float | None = None,
    _see: Callable[[str, str], object] | None = None,
) -> Session:
    """Resolves the host, dials it and makes the connection what the policy demands.

    port 0 is the protocol's own. policy: a `Policy` or a level word. timeout: seconds for resolving,
    dialling, dialog and handshake together, instead of the policy's; reading and writing afterwards
    wait for ever unless `settimeout` is called; None: the policy's. The look-up of a name counts, but cannot be cut
    short; who needs a bound gives an address.

    Returns a `Session` that owns its connection. Raises `starttls.Error`. The GIL is released while
    it waits; Ctrl-C ends the wait.
    """

def connect_domain(
    domain: str,
    policy: str | Policy = "strict",
    *,
    protocol: str = "smtp",
    timeout: float | None = None,
    _see: Callable[[str, str], object] | None = None,
) -> Session:
    """Connects to a host that takes the mail of a domain, by what the domain asks of its senders.

    The hosts of its MX records are tried in their order until one meets the policy: DANE (RFC 7672),
    MTA-STS (RFC 8461), the policy's table of destinations. `outcome.domain` says what was found,
    `outcome.attempts` what the hosts before had to say. domain: also an address literal such as
    `[192.0.2.1]`. protocol: `smtp`; another one, such as `submission` or `xmpp`, goes by the domain's SRV
    records. timeout: seconds for all of it.

    Raises `null-mx` where the domain takes no mail, `lookup-failed`, `dns-bogus` and so on; else, when no
    host would do, the error of the last one that may do later, or of the last one. Otherwise as `connect`.
    """

def look_up_host(protocol: str, host: str, port: int, policy: Policy) -> Route:
    """For `starttls.aio`: a host that the caller names, with the look-ups done that `connect` makes. Waits."""

def survey(domain: str, policy: str | Policy | None = None, timeout: float | None = None) -> str:
    """What a domain publishes for those who send to it, as JSON: for `starttls.survey`."""

def upgrade(
    protocol: str,
    sock: _Socket,
    host: str,
    stage: str = "greeting",
    pending: ReadableBuffer = b"",
    policy: str | Policy = "strict",
) -> Session:
    """Makes a connection that you have already opened what the policy demands.

    sock: a connected stream socket, blocking or not. The session keeps a reference to it and never
    closes it; after a failure from the go-ahead on it is shut down, so that nobody goes on in clear
    on it. host: the name to check. stage: `greeting` (nothing read yet), `ready` (you have talked
    and now want the upgrade), `go-ahead` (you have received the go-ahead: handshake only). pending:
    bytes you have read beyond what `stage` says; it cannot see what is left in a buffer of yours,
    such as a file made by `sock.makefile()`: for smtplib, imaplib and poplib use `starttls.stdlib`.

    The deadline is the policy's `timeout`; the session begins with the socket's own time-out. Raises
    `starttls.Error`. The GIL is released while it waits; Ctrl-C ends the wait.
    """

def accept(protocol: str, sock: _Socket, *, command: ReadableBuffer = b"", policy: str | Policy) -> Session:
    """The server's side: answers the client's upgrade command with the go-ahead, and does the handshake.

    The certificate is the policy's `server_cert`. sock: as for `upgrade`: the session keeps a reference
    and never closes it. command: all that you have read since the client's upgrade command began, the
    command included; if it is empty or not whole it is read. What stands or comes behind the command
    in clear is never obeyed: it is `injected`, nothing is answered, and the connection is shut down
    (CVE-2011-0411). Where TLS comes from the first byte those bytes are the ClientHello.

    Raises `malformed` where the client says something else than the upgrade command, to which you may
    still answer; `untrusted`, `expired` and the like for a client's certificate; `invalid` for a level
    that is none of `encrypt`, `verify`, `fingerprint`. The deadline is the policy's `timeout`; the
    session begins with the socket's own time-out. The GIL is released while it waits; Ctrl-C ends the
    wait.
    """

def refuse(protocol: str, sock: _Socket, *, command: ReadableBuffer = b"", policy: str | Policy = "strict") -> None:
    """Sends the protocol's own refusal to the client's upgrade command (454, NO, -ERR …).

    The connection stays yours, in clear. command: as for `accept`. policy: only its time-out counts.
    Raises `unsupported` for protocols without a refusal, and as `accept`.
    """

def adopt(
    sock: socket,
    host: str,
    policy: str | Policy,
    *,
    timeout: float | None = None,
    ragged_eofs: bool = False,
) -> Session:
    """Detaches a socket, owns its descriptor from then on, and makes of it a session.

    On failure the connection is closed, as `ssl` does. The caller has had the go-ahead of a protocol
    that it does not name: only the handshake is done. ragged_eofs: an end without close_notify reads
    as an end, as `ssl` has it. timeout: seconds for the handshake.
    """

def policy_of(argument: str | Policy) -> Policy:
    """The policy that an argument `policy=` stands for: itself, or the one kept for this level word."""

def protocols() -> list[tuple[str, int, str | None, int | None, str | None, str, str]]:
    """The table of protocols.

    Word, port, word and port with TLS from the first byte, ALPN, specification, what comes first on
    the new session.
    """

def make_certificates(directory: _Path, wanted: list[tuple[str, list[str]]]) -> None:
    """Makes a CA for a day and with it a certificate for each list of names.

    Writes into the directory `ca.crt` and, with certificate and key together, `NAME.pem`.
    """
