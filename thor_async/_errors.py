"""The verdicts, and one class for each way in which a stop can fail."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from ._models import StopCharge


class Verdict(StrEnum):
    """What is known of a stop. Never better than the truth."""

    RELAYED = "relayed"
    REJECTED = "rejected"
    NOT_SENT = "not_sent"
    INDETERMINATE = "indeterminate"


class ThorError(Exception):
    """A stop that Thor did not relay, or perhaps did not.

    `command` is the `StopCharge`; `attempts` counts the tries begun; `maybe_applied` says that Thor
    may have relayed the stop in spite of this error. `status` (HTTP), `code` (Thor's word) and
    `retry_after` (seconds, RFC 9110 10.2.3) are those of the answer, or None. Catching one of the
    three direct subclasses catches exactly its `verdict`. Picklable; its text holds no secret.
    """

    verdict: ClassVar[Verdict]

    def __init__(
        self,
        message: str = "",
        *,
        status: int | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.retry_after = retry_after
        self.command: StopCharge | None = None
        self.attempts = 0
        self.maybe_applied = self.verdict is Verdict.INDETERMINATE

    @property
    def answered(self) -> bool:
        """Whether Thor itself spoke: the answer carried a code that Thor documents."""
        return self.code in CODES

    def __str__(self) -> str:
        if self.command is None:
            return self.message
        where = f"chargebox {self.command.chargebox!r} connector {self.command.connector}"
        hint = ", may have been applied" if self.maybe_applied else ""
        return f"{where}: {self.message} (attempts {self.attempts}{hint})"


class RejectedError(ThorError):
    """Thor said no (4xx). This class alone: an unknown code, or none."""

    verdict = Verdict.REJECTED


class TooManyRequests(RejectedError):
    """429: too fast; retried only with `RetryPolicy(retry_throttled=True)`."""


class DomainError(RejectedError):
    """Thor's word about this one charge: the same request would be answered the same."""


class ConnectorNotValid(DomainError):
    """Thor does not take this connector number."""


class NotInTransaction(DomainError):
    """Nothing runs on that connector now: the goal is reached, by whomever."""


class WrongTransaction(DomainError):
    """The id_tag, or the transaction where one was given, is not the running charge's."""


class ChargeboxNotFound(DomainError):
    """Thor does not know this chargebox."""


class AccountError(RejectedError):
    """Thor's word about the account: every other command would fail alike."""


class APIKeyNotFound(AccountError):
    """The API key is not valid."""


class RestAPINotEnabled(AccountError):
    """The integration is disabled in Thor's dashboard."""


class InvalidSourceIPAddr(AccountError):
    """The request came from another IP address than the one configured in Thor's dashboard."""


class NotSentError(ThorError):
    """Certainly no request of this command reached Thor.

    `reason` is connect, dns, tls, timeout, closed, gave_up, expired, not_running or pin.
    """

    verdict = Verdict.NOT_SENT

    def __init__(self, message: str = "", *, reason: str = "connect") -> None:
        super().__init__(message)
        self.reason = reason


class IndeterminateError(ThorError):
    """Thor may or may not have relayed the stop: look whether the charge still runs."""

    verdict = Verdict.INDETERMINATE


class ServerError(IndeterminateError):
    """Any 5xx: perhaps done. The only class that is retried by default."""


class InternalServerError(ServerError):
    """Thor's own code for something unexpected on its side."""


class ResponseTimeout(IndeterminateError, TimeoutError):
    """No answer in time, though the request may have arrived. Also a `TimeoutError`."""


class ConnectionLost(IndeterminateError):
    """The connection dropped after the request may have left."""


class UnexpectedResponse(IndeterminateError):
    """What answered did not speak as Thor does: malformed, cut short, HTML, or an odd status."""


class BatchGaveUp(Exception):
    """A `stop_stream` stopped sending and pulls no more; what it never pulled is still yours.

    `cause` is the error behind it. This speaks of the batch, not of a command: no `ThorError`.
    """

    def __init__(self, message: str = "", cause: Exception | None = None) -> None:
        super().__init__(message, cause)
        self.cause = cause

    def __str__(self) -> str:
        return str(self.args[0])


CODES: dict[str, type[RejectedError] | type[ServerError]] = {
    error.__name__: error
    for error in (
        ConnectorNotValid,
        NotInTransaction,
        WrongTransaction,
        ChargeboxNotFound,
        APIKeyNotFound,
        RestAPINotEnabled,
        InvalidSourceIPAddr,
        TooManyRequests,
        InternalServerError,
    )
}
"""One wire word, one class, spelled as Thor spells it."""
