"""The standard library's mail clients, and its FTP client, over our dialog: change one line of a script.

    smtp = starttls.stdlib.SMTP("mail.example.org", 587, policy="strict")
    smtp.login(user, password)

The constructor connects and upgrades by `starttls.connect`; under a level that requires TLS it
raises `starttls.Error` where TLS cannot be had, so a login never leaves in clear, whatever the
server does. `SMTP.to_domain` goes to a domain's MX hosts.

Over TLS the client begins anew: greeting, capabilities, APOP stamp and untagged data
that were said in clear are in `outcome.transcript` and nowhere else. Where the policy lets the
connection stay in clear, the client sees the server's own greeting and goes on as it always did.

`starttls()` and `stls()` on a connection that already runs over TLS do nothing and say so; on one
in clear they raise the reason why it is in clear. Connecting again (`smtp.connect(host)`) plays the
dialog again.

`policy` stands third, where `smtplib.SMTP` has local_hostname and `imaplib` and `poplib` have
timeout: what else they take is given by name.
"""

import imaplib
import poplib
import smtplib
import socket
import sys
from typing import Any, Self

from starttls import _core, errors
from starttls._core import Policy, Session
from starttls._ftp import FTP
from starttls._open import NOT_GIVEN, open_session, require_tls
from starttls.outcome import Outcome

__all__ = ["FTP", "IMAP4", "LMTP", "POP3", "SMTP"]


class SMTP(smtplib.SMTP):
    """`smtplib.SMTP` over our dialog.

    host, port: as there; without a host nothing is done until `connect`. policy: a `Policy` or a
    level word. timeout: seconds, for the negotiation as a whole and for each read and write after
    it. local_hostname: also said in the EHLO in clear. source_address: host and port to dial from;
    peers of the other family are not tried, and an empty host with a port is any of IPv4. Raises
    `starttls.Error`.
    """

    _protocol = "smtp"

    _session: Session | None = None
    # While connecting to it.
    _domain: str | None = None

    def __init__(
        self,
        host: str = "",
        port: int = 0,
        policy: str | Policy = "strict",
        *,
        local_hostname: str | None = None,
        timeout: float = NOT_GIVEN,
        source_address: tuple[str, int] | None = None,
    ) -> None:
        self._policy = _with_name(policy, local_hostname)
        super().__init__(host, port, local_hostname, timeout, source_address)

    @classmethod
    def to_domain(
        cls,
        domain: str,
        policy: str | Policy = "strict",
        *,
        local_hostname: str | None = None,
        timeout: float = NOT_GIVEN,
        source_address: tuple[str, int] | None = None,
    ) -> Self:
        """A client of a host that takes the domain's mail, by `starttls.connect_domain`.

            with starttls.stdlib.SMTP.to_domain("example.org", "opportunistic") as smtp:
                smtp.sendmail(sender, recipients, message)

        Raises `starttls.Error`. Connecting again by `connect` is to a host.
        """
        smtp = cls(policy=policy, local_hostname=local_hostname, timeout=timeout, source_address=source_address)
        smtp._domain = domain
        try:
            # A port, or it would be looked for in the domain.
            code, said = smtp.connect(domain, smtp.default_port)
        finally:
            smtp._domain = None
        if code != 220:
            smtp.close()
            raise smtplib.SMTPConnectError(code, said)
        return smtp

    # Called by connect(), so also when connecting again.
    def _get_socket(self, host: str, port: int, timeout: float) -> Session:
        # What was learnt from the server before belongs to that connection.
        self.ehlo_resp = self.helo_resp = None
        self.esmtp_features = {}
        self.does_esmtp = False
        self._session = None
        to = port if self._domain is None else None
        self._session = open_session(self._protocol, host, to, self._policy, timeout, self.source_address)
        return self._session

    @property
    def outcome(self) -> Outcome | None:
        """What did happen at the last `connect`; None if that failed: its exception says what."""
        return self._session.outcome if self._session else None

    def starttls(self, *_args: object, **_kwargs: object) -> tuple[int, bytes]:
        """Says that TLS is on; in clear, raises why it is not. Its arguments play no part."""
        if self._session is None or self.sock is None:
            raise smtplib.SMTPServerDisconnected("please run connect() first")
        require_tls(self._session)
        return 220, b"TLS is on already"


def _with_name(policy: str | Policy, local_hostname: str | None) -> Policy:
    """The policy with the client's name, unless it has one or this cannot stand in an EHLO."""
    shared = _core.policy_of(policy)
    if local_hostname is None or shared.client_name is not None:
        return shared
    try:
        return shared.derive(client_name=local_hostname)
    except errors.InvalidError:
        return shared


class LMTP(SMTP):
    """`smtplib.LMTP` over our dialog; TCP only. See `SMTP`."""

    _protocol = "lmtp"
    ehlo_msg = "lhlo"
    default_port = smtplib.LMTP_PORT

    @classmethod
    def to_domain(
        cls,
        domain: str,
        policy: str | Policy = "strict",
        *,
        local_hostname: str | None = None,
        timeout: float = NOT_GIVEN,
        source_address: tuple[str, int] | None = None,
    ) -> Self:
        """Raises ``unsupported``: a domain does not publish who takes its mail by LMTP (RFC 2033 section 5)."""
        message = f"no DNS record says which host takes mail for {domain!r} by LMTP; name the host, or use SMTP"
        raise errors.UnsupportedError("unsupported", message)

    def connect(self, host: str = "localhost", port: int = 0, source_address: Any = None) -> tuple[int, bytes]:
        """As `smtplib.LMTP.connect`, but not to a Unix socket, where TLS has no name to check."""
        if host.startswith("/"):
            raise errors.UnsupportedError(
                "unsupported", "LMTP over a Unix socket has no host name to check; use smtplib.LMTP there"
            )
        return super().connect(host, port, source_address)


class IMAP4(imaplib.IMAP4):
    """`imaplib.IMAP4` over our dialog.

    timeout: seconds, for the negotiation as a whole and for each read and write after it; None: the
    policy's for the negotiation, none after it. Raises `starttls.Error`.
    """

    _session: Session

    def __init__(
        self,
        host: str,
        port: int = 143,
        policy: str | Policy = "strict",
        *,
        timeout: float | None = None,
    ) -> None:
        self._policy = _core.policy_of(policy)
        super().__init__(host, port, timeout)

    def _create_socket(self, timeout: float | None = None) -> Session:
        # None means here what it means in imaplib: the default time-out, if there is one.
        seconds = socket.getdefaulttimeout() if timeout is None else timeout
        sys.audit("imaplib.open", self, self.host, self.port)
        self._session = open_session("imap", self.host, self.port, self._policy, seconds)
        return self._session

    @property
    def outcome(self) -> Outcome:
        """What did happen."""
        return self._session.outcome

    def starttls(self, ssl_context: Any = None) -> tuple[str, list[Any]]:  # type: ignore[override]
        """Says that TLS is on; in clear, raises why it is not. ssl_context plays no part."""
        require_tls(self._session)
        return "OK", [b"TLS is on already"]


class POP3(poplib.POP3):
    """`poplib.POP3` over our dialog. Over TLS there is no APOP, whose stamp was said in clear.

    timeout: seconds, for the negotiation as a whole and for each read and write after it. Raises
    `starttls.Error`.
    """

    _session: Session

    def __init__(
        self,
        host: str,
        port: int = 110,
        policy: str | Policy = "strict",
        *,
        timeout: float = NOT_GIVEN,
    ) -> None:
        self._policy = _core.policy_of(policy)
        super().__init__(host, port, timeout)

    def _create_socket(self, timeout: float | None) -> Session:
        self._session = open_session("pop3", self.host, self.port, self._policy, timeout)
        return self._session

    @property
    def outcome(self) -> Outcome:
        """What did happen."""
        return self._session.outcome

    def stls(self, *_args: object, **_kwargs: object) -> bytes:
        """Says that TLS is on; in clear, raises why it is not. Its arguments play no part."""
        require_tls(self._session)
        return b"+OK TLS is on already"
