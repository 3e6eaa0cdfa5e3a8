"""What is raised, so that it fits where scripts already catch.

Every exception is a `starttls.Error`, hence an `OSError`; beyond that, failed handshakes are
`ssl.SSLError`, failed verifications `ssl.SSLCertVerificationError`, time-outs `TimeoutError`, a
peer that is gone `ConnectionError`, a look-up that fails `socket.gaierror`, wrong arguments
`ValueError`. For programs there is `word`, which is the same in Rust, C and the command.
"""

import errno
import socket
import ssl
from collections.abc import Callable

from starttls.outcome import Outcome

__all__ = [
    "BugError",
    "ClosedError",
    "ConnectionFailedError",
    "ConnectionNotMadeError",
    "DaneMismatchError",
    "DnsBogusError",
    "Error",
    "ExpiredError",
    "FingerprintMismatchError",
    "HandshakeError",
    "InjectedError",
    "InvalidError",
    "LookupFailedError",
    "MalformedError",
    "NameInsecureError",
    "NameMismatchError",
    "NoDaneError",
    "NotOfferedError",
    "NullMxError",
    "RefusedError",
    "StrippedError",
    "StsMismatchError",
    "StsUnavailableError",
    "TimedOutError",
    "TooLongError",
    "UnsupportedError",
    "UntrustedError",
    "VerificationError",
]


class Error(OSError):
    """Why a call failed: a word for programs, a sentence for people, and the outcome so far.

    `errno` is the operating system's number where there was one; a time-out and a failed look-up have
    one in any case, `errno.ETIMEDOUT` and `socket.EAI_NONAME` or `EAI_AGAIN`. Else it is None.
    """

    word: str
    """One of the documented words, such as ``name-mismatch``."""
    message: str
    """For people. Bytes of the peer's are escaped."""
    temporary: bool
    """True if the same call may succeed later with nobody changing anything."""

    def __init__(
        self,
        word: str,
        message: str,
        temporary: bool = False,
        outcome: str | None = None,
        os_error: int | None = None,
    ) -> None:
        """outcome: its JSON."""
        super().__init__(f"{word}: {message}")
        self.word = word
        self.message = message
        self.temporary = temporary
        self.errno = os_error
        self.strerror = str(self)
        self._json = outcome
        self._outcome: Outcome | None = None
        # For starttls.tlsrpt: lines of JSON.
        self._events: list[str] = []
        self._complete()

    def _complete(self) -> None:
        """What a class of `ssl`'s has beside these."""

    @property
    def outcome(self) -> Outcome | None:
        """What had happened by then; None if the call failed before anything was tried."""
        if self._outcome is None and self._json is not None:
            self._outcome = Outcome.from_json(self._json)
        return self._outcome

    def __str__(self) -> str:
        return f"{self.word}: {self.message}"

    def __reduce__(self) -> tuple[Callable[..., "Error"], tuple[object, ...], dict[str, object]]:
        state: dict[str, object] = {"_events": self._events}
        return type(self), (self.word, self.message, self.temporary, self._json, self.errno), state


class NotOfferedError(Error):
    """The server does not do TLS here, and the level requires it."""


class RefusedError(Error):
    """The server said no: in its greeting, or to an upgrade that it had advertised."""


class MalformedError(Error):
    """The peer does not keep to the protocol."""


class InjectedError(Error):
    """Plaintext behind the go-ahead: an attack (CVE-2011-0411, CVE-2021-22947)."""


class TooLongError(Error):
    """A line above 64 KiB, or a dialog above 256 KiB."""


class ClosedError(Error, ConnectionError):
    """The peer closed the connection without the protocol's own good-bye."""


class StrippedError(Error):
    """The host proved its name over TLS within the last 30 days, and does not offer TLS now.

    Not a `NotOfferedError`: who goes on in clear after that one must not do so here. If the change is
    meant: `Policy.forget`.
    """


class HandshakeError(Error, ssl.SSLError):
    """The TLS handshake failed."""

    def _complete(self) -> None:
        # What scripts read of an ssl.SSLError.
        self.library = "starttls"
        self.reason = self.word.upper().replace("-", "_")


# X509_V_ERR_…, as far as a word tells; else it is X509_V_ERR_UNSPECIFIED, which is 1.
_VERIFY_CODES = {"expired": 10, "untrusted": 20, "name-mismatch": 62}


class VerificationError(HandshakeError, ssl.SSLCertVerificationError):
    """The peer is not proven to be who it must be."""

    def _complete(self) -> None:
        super()._complete()
        self.verify_code = _VERIFY_CODES.get(self.word, 1)
        self.verify_message = self.message


class FingerprintMismatchError(VerificationError):
    """No given fingerprint is the certificate's or its key's."""


class DaneMismatchError(VerificationError):
    """The secure TLSA records of the host are for another certificate (RFC 7672)."""


class NoDaneError(VerificationError):
    """The level wants DANE, and the host has no secure TLSA records that can be used."""


class UntrustedError(VerificationError):
    """The certificate chain does not end at a trusted root."""


class ExpiredError(VerificationError):
    """The certificate is not valid now."""


class NameMismatchError(VerificationError):
    """The certificate is for another name (RFC 9525)."""


class NameInsecureError(VerificationError):
    """The name came from insecure DNS and proves nothing."""


class LookupFailedError(Error, socket.gaierror):
    """A look-up failed."""


class DnsBogusError(LookupFailedError):
    """An answer that is signed does not validate: it is forged, or the domain's DNSSEC is broken."""


class NullMxError(Error):
    """The domain says that it takes no mail (RFC 7505)."""


class StsUnavailableError(Error):
    """The domain has an MTA-STS policy that the level needs and that cannot be had now."""


class StsMismatchError(Error):
    """The domain's MTA-STS policy does not name this MX host (RFC 8461)."""


class TimedOutError(Error, TimeoutError):
    """The deadline passed."""


class ConnectionFailedError(Error):
    """The operating system reported an error on the connection."""


class ConnectionNotMadeError(ConnectionFailedError, ConnectionRefusedError):
    """Nobody listens there."""


class InvalidError(Error, ValueError):
    """The caller's input is wrong; the message says what to do."""


class UnsupportedError(Error):
    """This build or this protocol cannot do that."""


class BugError(Error):
    """A fault in this library."""


_CLASSES: dict[str, type[Error]] = {
    "not-offered": NotOfferedError,
    "refused": RefusedError,
    "malformed": MalformedError,
    "injected": InjectedError,
    "too-long": TooLongError,
    "closed": ClosedError,
    "stripped": StrippedError,
    "handshake": HandshakeError,
    "fingerprint-mismatch": FingerprintMismatchError,
    "dane-mismatch": DaneMismatchError,
    "no-dane": NoDaneError,
    "untrusted": UntrustedError,
    "expired": ExpiredError,
    "name-mismatch": NameMismatchError,
    "name-insecure": NameInsecureError,
    "lookup-failed": LookupFailedError,
    "dns-bogus": DnsBogusError,
    "null-mx": NullMxError,
    "sts-unavailable": StsUnavailableError,
    "sts-mismatch": StsMismatchError,
    "timeout": TimedOutError,
    "io": ConnectionFailedError,
    "invalid": InvalidError,
    "unsupported": UnsupportedError,
    "bug": BugError,
}


def make(word: str, message: str, temporary: bool, outcome: str | None, os_error: int | None) -> Error:
    """The exception for an error of the core, in the class that its word and errno stand for."""
    of_errno = type(OSError(os_error, "")) if os_error is not None else OSError
    cls = _CLASSES.get(word, Error)
    if cls is ConnectionFailedError and of_errno is ConnectionRefusedError:
        cls = ConnectionNotMadeError
    elif cls is TimedOutError:
        # Not the errno of a dial that failed before: what is raised is a TimeoutError.
        os_error = errno.ETIMEDOUT
    elif issubclass(cls, LookupFailedError):
        os_error = socket.EAI_AGAIN if temporary else socket.EAI_NONAME
    return cls(word, message, temporary, outcome, os_error)
