"""A stand-in for `ssl.SSLContext` where the standard library's clients take one."""

import socket
import ssl
from typing import TYPE_CHECKING

from starttls import _core, errors
from starttls._core import Policy, Session

if TYPE_CHECKING:
    # What the standard library's annotations ask for.
    from ssl import SSLContext as _Base
else:
    _Base = object

__all__ = ["Context"]

# What scripts set on an `ssl.SSLContext`, and what decides it here.
_INSTEAD = {
    "minimum_version": 'Policy("strict", min_tls="1.3")',
    "maximum_version": "nothing: the highest version that both ends have is used",
    "options": "Policy's min_tls for the versions",
    "check_hostname": "the Policy's level",
    "verify_mode": "the Policy's level",
    "verify_flags": "the Policy's level and ca_file or ca_path",
}
_CHECK_NAMES = ("verify", "strict", "dane-only")


class Context(_Base):
    """For ``context=`` in smtplib, imaplib and poplib: a policy with ``wrap_socket``.

        smtplib.SMTP(host).starttls(context=starttls.Context("strict"))

    level: a level word or a `Policy`; not ``none``. Threads may share it; make one and keep it, so
    that its connections share the trust store and resume TLS sessions.

    The standard library plays the dialog in clear before it calls ``wrap_socket``. What it read and
    kept in its own buffer cannot be seen from here: capabilities and untagged data that someone on
    the path put in survive the upgrade. `starttls.stdlib` has the same clients with a dialog of ours,
    in which nothing heard in clear survives.

    Type checkers take it for an `ssl.SSLContext`, as those clients are annotated; it is none, and has
    the attributes below and no others.
    """

    def __init__(self, level: str | Policy = "strict") -> None:
        self._policy = _core.policy_of(level)
        if self._policy.level == "none":
            raise errors.InvalidError("invalid", 'level "none" never does TLS, and a context only does TLS')

    def __setattr__(self, name: str, value: object) -> None:
        if name != "_policy":
            instead = _INSTEAD.get(name, "the Policy that the context is made with")
            raise AttributeError(f"a starttls.Context takes no {name}; what decides is {instead}")
        super().__setattr__(name, value)

    @property
    def policy(self) -> Policy:
        """What must hold."""
        return self._policy

    @property
    def check_hostname(self) -> bool:  # type: ignore[override]
        """Whether the level checks the server's name. Only the level decides."""
        return self._policy.level in _CHECK_NAMES

    @property
    def verify_mode(self) -> ssl.VerifyMode:  # type: ignore[override]
        """`ssl.CERT_REQUIRED` where the level must know the peer, else `ssl.CERT_NONE`."""
        known = self.check_hostname or self._policy.level == "fingerprint"
        return ssl.CERT_REQUIRED if known else ssl.CERT_NONE

    def wrap_socket(  # type: ignore[override]
        self,
        sock: socket.socket,
        server_side: bool = False,
        do_handshake_on_connect: bool = True,
        suppress_ragged_eofs: bool = True,
        server_hostname: str | None = None,
        session: None = None,
    ) -> Session:
        """Does the TLS handshake on a socket whose peer has given the go-ahead.

        The socket is detached before the handshake; the session owns the connection, which is closed
        if the handshake fails. The deadline is the socket's time-out if it has one, else the
        policy's. Raises `starttls.Error`; a failed handshake is an `ssl.SSLError`, too.

        server_side, do_handshake_on_connect=False and session are not supported.
        """
        if server_side or not do_handshake_on_connect or session is not None:
            raise errors.UnsupportedError(
                "unsupported", "server_side, do_handshake_on_connect=False and session are not in this version"
            )
        if not server_hostname:
            if self.check_hostname:
                raise errors.InvalidError(
                    "invalid",
                    f'level "{self._policy.level}" checks the server\'s name: give server_hostname '
                    "(for smtplib: give the host to SMTP(), not to connect())",
                )
            address = sock.getpeername()
            if not isinstance(address, tuple):
                raise errors.InvalidError("invalid", "the peer has no address to go by: give server_hostname")
            server_hostname = str(address[0])
        return _core.adopt(
            sock,
            server_hostname,
            self._policy,
            timeout=sock.gettimeout() or None,
            ragged_eofs=suppress_ragged_eofs,
        )

    def __repr__(self) -> str:
        return f"starttls.Context({self._policy!r})"
