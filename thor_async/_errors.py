"""The verdicts, and one class for each way in which a stop can fail."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from ._models import StopCharge

NotSentReason = Literal[
    "connect",
    "dns",
    "tls",
    "proxy",
    "timeout",
    "closed",
    "gave_up",
    "expired",
    "not_running",
    "pin",
]
"""Why no request of a command reached Thor."""


class Verdict(StrEnum):
    """What is known about a stop. It is never better than the truth."""

    RELAYED = "relayed"
    REJECTED = "rejected"
    NOT_SENT = "not_sent"
    INDETERMINATE = "indeterminate"


class ThorError(Exception):
    """Thor did not relay a stop, or it is not known whether it did.

    `command` is the `StopCharge`; `attempts` counts the tries begun; `maybe_applied` says that Thor
    may have relayed the stop in spite of this error. `status` (HTTP), `code` (Thor's word),
    `retry_after` (seconds, RFC 9110 10.2.3) and `request_id` (for Thor's support) are those of the
    answer, or None. Catching one of the three direct subclasses catches exactly its `verdict`. It
    can be pickled; its text has no secret.
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
        self.message: str = message
        self.status = status
        self.code = code
        self.retry_after = retry_after
        self.request_id: str | None = None
        self.command: StopCharge | None = None
        self.attempts = 0
        self.maybe_applied: bool = self.verdict is Verdict.INDETERMINATE

    @property
    def answered(self) -> bool:
        """Whether Thor itself answered: the answer has a code that Thor documents."""
        return self.code in CODES

    def explain(self, more: str) -> None:
        """Adds to the message what happened after the answer."""
        self.message = f"{self.message}; {more}"

    def __str__(self) -> str:
        if self.command is None:
            return self.message
        where = f"chargebox {self.command.chargebox!r} connector {self.command.connector}"
        hint = ", may have been applied" if self.maybe_applied else ""
        return f"{where}: {self.message} (attempts {self.attempts}{hint})"


class RejectedError(ThorError):
    """Thor said no (4xx). Its own class, not a subclass, means an unknown code or none."""

    verdict = Verdict.REJECTED


class TooManyRequests(RejectedError):
    """429: too many requests. Retried only with `RetryPolicy(retry_throttled=True)`.

    `is_quota`: a gateway's `Limit Exceeded`, the quota of a day or longer. No pace helps, so it is
    not retried, and ends a batch.
    """

    is_quota = False


class DomainError(RejectedError):
    """Thor rejects this one charge: the same request would get the same answer."""


class ConnectorNotValid(DomainError):
    """Thor does not accept this connector number."""


class NotInTransaction(DomainError):
    """No charge runs on that connector now, so there is nothing left to stop."""


class WrongTransaction(DomainError):
    """The id_tag, or the given transaction, is not that of the running charge."""


class ChargeboxNotFound(DomainError):
    """Thor does not know this chargebox."""


class AccountError(RejectedError):
    """Thor rejects the account: every other command would fail in the same way.

    Its own class, not a subclass, means a 401 or 403 without a code that Thor documents.
    """


class APIKeyNotFound(AccountError):
    """The API key is not valid."""


class RestAPINotEnabled(AccountError):
    """The integration is disabled in Thor's dashboard."""


class InvalidSourceIPAddr(AccountError):
    """The request came from another IP address than the one configured in Thor's dashboard."""


class NotSentError(ThorError):
    """No request of this command reached Thor, for certain.

    `reason` is connect, dns, tls, proxy, timeout, closed, gave_up, expired, not_running or pin;
    with `proxy`, `status` is the answer of the proxy that refused. `cause` is the `ThorError` for
    which a batch gave up, or for which there is no running list; else None.
    """

    verdict = Verdict.NOT_SENT

    def __init__(
        self,
        message: str = "",
        *,
        reason: NotSentReason = "connect",
        status: int | None = None,
        cause: ThorError | None = None,
    ) -> None:
        super().__init__(message, status=status)
        self.reason: NotSentReason = reason
        self.cause = cause


class IndeterminateError(ThorError):
    """Thor may or may not have relayed the stop: look whether the charge still runs."""

    verdict = Verdict.INDETERMINATE


class ServerError(IndeterminateError):
    """Any 5xx: the stop may have been relayed. The only class that is retried by default."""


class InternalServerError(ServerError):
    """Thor's own code for an unexpected failure on its side."""


class ResponseTimeout(IndeterminateError, TimeoutError):
    """No answer in time, though the request may have arrived. Also a `TimeoutError`."""


class ConnectionLost(IndeterminateError):
    """The connection dropped after the request may have left."""


class UnexpectedResponse(IndeterminateError):
    """The answer is not like Thor's: malformed, cut short, HTML, or an unexpected status."""


class BatchGaveUp(Exception):
    """A `stop_stream` stopped sending and pulls no more; commands that it never pulled are yours.

    `cause` is the error behind it. It is no `ThorError`, because it is about the batch and not
    about a command.
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
"""One class for each code on the wire, spelled as Thor spells it."""
