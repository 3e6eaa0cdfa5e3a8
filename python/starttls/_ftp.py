"""`ftplib.FTP` over our dialog, with protected data connections."""

import ftplib
import sys
from typing import Any

from starttls import _core, errors
from starttls._core import Policy, Session
from starttls._open import NOT_GIVEN, open_session, require_tls
from starttls.outcome import Outcome

__all__ = ["FTP"]


class FTP(ftplib.FTP):
    """`ftplib.FTP_TLS` over our dialog.

        with starttls.stdlib.FTP("ftp.example.org", policy="strict") as ftp:
            ftp.login("me", "secret")
            ftp.retrbinary("RETR file", print)

    Unlike there the constructor connects and upgrades, and data connections are protected: PBSZ 0 and
    PROT P are said before the first transfer, unless `prot_c` was called. They are made by the same
    policy as the control connection and resume its TLS session, as many servers demand; an upload ends
    with close_notify, so that the server knows it to be whole, and a download that does not raises
    ``closed``. Where the policy lets the control connection stay in clear, so do the data connections.

    host, port, user, passwd, acct, encoding: as for `ftplib.FTP`; without a host nothing is done until
    `connect`. policy: a `Policy` or a level word. timeout: seconds, for the negotiation as a whole and
    for each read and write after it. source_address: host and port to dial from. Raises
    `starttls.Error`; for what the server says no to in its own words, ftplib's exceptions.
    """

    _session: Session | None = None
    # What PROT has come to; None: nothing was said.
    _protection: str | None = None

    def __init__(
        self,
        host: str = "",
        port: int = 0,
        policy: str | Policy = "strict",
        *,
        user: str = "",
        passwd: str = "",
        acct: str = "",
        timeout: float | None = NOT_GIVEN,
        source_address: tuple[str, int] | None = None,
        encoding: str = "utf-8",
    ) -> None:
        self._policy = _core.policy_of(policy)
        super().__init__(timeout=timeout, source_address=source_address, encoding=encoding)
        if host:
            self.connect(host, port)
            if user:
                self.login(user, passwd, acct)

    def connect(
        self, host: str = "", port: int = 0, timeout: float = -999, source_address: tuple[str, int] | None = None
    ) -> str:
        """Connects and upgrades; the server's greeting, or over TLS one of ours."""
        if host:
            self.host = host
        if port > 0:
            self.port = port
        if timeout != -999:
            self.timeout = timeout
        if source_address is not None:
            self.source_address = source_address
        sys.audit("ftplib.connect", self, self.host, self.port)
        self._session = self._protection = None
        session = open_session("ftp", self.host, self.port, self._policy, self.timeout, self.source_address)
        # It is what ftplib calls a socket.
        self._session = self.sock = session  # type: ignore[assignment]
        try:
            self.af = session.family
            self.file = session.makefile("r", encoding=self.encoding)
            self.welcome = self.getresp()
        except BaseException:
            self.close()
            raise
        return self.welcome

    @property
    def outcome(self) -> Outcome | None:
        """What did happen at the last `connect`; None if that failed: its exception says what."""
        return self._session.outcome if self._session else None

    def login(self, user: str = "", passwd: str = "", acct: str = "", secure: bool = True) -> str:
        """As `ftplib.FTP.login`. secure plays no part: the policy has decided."""
        return super().login(user, passwd, acct)

    def auth(self) -> str:
        """Says that TLS is on; in clear, raises why it is not."""
        require_tls(self._connected())
        return "234 TLS is on already"

    def prot_p(self) -> str:
        """Has data connections protected from now on: PBSZ 0, PROT P. Raises in clear."""
        require_tls(self._connected())
        self.voidcmd("PBSZ 0")
        answer = self.voidcmd("PROT P")
        self._protection = "P"
        return answer

    def prot_c(self) -> str:
        """Has data connections in clear from now on: PROT C."""
        if self._protection is None and self._connected().version() is not None:
            self.voidcmd("PBSZ 0")
        answer = self.voidcmd("PROT C")
        self._protection = "C"
        return answer

    def ccc(self) -> str:
        """Raises ``unsupported``: commands do not go back to clear."""
        raise errors.UnsupportedError("unsupported", "CCC would end TLS on the control connection")

    def ntransfercmd(self, cmd: str, rest: int | str | None = None) -> tuple[Any, int | None]:
        """As `ftplib.FTP.ntransfercmd`; the first is a `Session` where data are protected."""
        session = self._connected()
        if session.version() is not None and self._protection is None:
            self.prot_p()
        conn, size = super().ntransfercmd(cmd, rest)
        if self._protection != "P":
            return conn, size
        return session._protect_own(conn), size

    def abort(self) -> str:
        """As `ftplib.FTP_TLS.abort`: over TLS there are no urgent data."""
        self._connected().sendall(b"ABOR\r\n")
        answer = self.getmultiline()
        if answer[:3] not in ("225", "226", "426"):
            raise ftplib.error_proto(answer)
        return answer

    def _connected(self) -> Session:
        if self._session is None or self.sock is None:
            raise errors.InvalidError("invalid", "not connected: call connect() first")
        return self._session
