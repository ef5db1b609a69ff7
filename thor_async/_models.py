"""The input of a stop, `StopCharge`, and its result, `StopOutcome`."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from ._errors import (
    AccountError,
    NotInTransaction,
    NotSentError,
    ThorError,
    TooManyRequests,
    Verdict,
    WrongTransaction,
)

NextStep = Literal["done", "resend", "check", "fix"]
MASKED = "***"
LARGEST = 2**63 - 1

_BREAKS_A_LINE = {"Cc", "Zl", "Zp"}


class MaskedText(str):
    """A secret that no repr shows, also not that of a dict or of a frame's local variables.

    Loggers and error trackers print these by repr, in this package's frames and in aiohttp's.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(MASKED)


class InvalidKeyError(ValueError):
    """A key that no header can carry. Its text shows nothing of the key."""


class MaskedBytes(bytes):
    """Bytes with a secret in them, likewise."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(MASKED)


class _Charge(msgspec.Struct, frozen=True):
    chargebox: str
    connector: int
    id_tag: str
    transaction: int | None = None


class StopCharge(_Charge, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Asks Thor to stop the charge that runs on one connector.

    `chargebox`: Thor's identifier of the chargebox. `connector`: its number, from 1. `id_tag`: the
    identifier that started the charge. `transaction`: the number from the start notification; with
    it, a repeat cannot stop a later charge. `ref`: your own handle, any JSON value. `not_after`: an
    aware datetime past which the stop is not sent. `as_of`: an aware datetime, the time at which
    the stop was meant: only a charge that began at or before it is stopped. These three belong to
    its JSON, and are never sent to Thor.

    Raises ValueError when it is built, or decoded, from values that Thor could not take.
    """

    ref: Any = None
    not_after: datetime | None = None
    as_of: datetime | None = None

    def __post_init__(self) -> None:
        check_text("chargebox", self.chargebox, shown=True)
        check_number("connector", self.connector, "connectors count from 1")
        check_text("id_tag", self.id_tag, shown=False)
        if self.transaction is not None:
            check_number("transaction", self.transaction, "leave it out when it is not known")
        if self.not_after is not None:
            _check_aware("not_after", self.not_after)
        if self.as_of is not None:
            _check_aware("as_of", self.as_of)

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Masks the id_tag, because it is a credential and personal data."""
        return [
            (name, MASKED if name == "id_tag" else getattr(self, name))
            for name in self.__struct_fields__
        ]

    def __repr__(self) -> str:
        return f"StopCharge({', '.join(f'{n}={v!r}' for n, v in self.__rich_repr__())})"


class OutcomeRecord(msgspec.Struct, frozen=True):
    """A `StopOutcome` as one flat row for a JSON line, without the id_tag.

    `at` is the time (UTC) at which the outcome was known, `status` that of the last HTTP answer,
    and `request_id` its id. `dict(record)` works, so that a web framework can return a record.
    """

    index: int
    at: datetime
    chargebox: str
    connector: int
    transaction: int | None
    ref: Any
    verdict: Verdict
    code: str | None
    status: int | None
    request_id: str | None
    message: str | None
    attempts: int
    elapsed: float
    maybe_applied: bool
    next_step: NextStep

    def keys(self) -> tuple[str, ...]:
        """Returns the names of the fields."""
        return self.__struct_fields__

    def __getitem__(self, name: str) -> Any:
        if name not in self.__struct_fields__:
            raise KeyError(name)
        return getattr(self, name)


def utc_now() -> datetime:
    """Returns the wall clock's time."""
    return datetime.now(UTC)


class StopOutcome(msgspec.Struct, frozen=True):
    """What is known of one command.

    `index` is its position in the input, `error` is None when Thor relayed it, `attempts` counts
    the tries begun, `elapsed` is the seconds since it was pulled. `request_id` is the id of Thor's
    answer, where it has one, and `at` the time (UTC) at which the outcome was known. `relayed`
    means that Thor handed it on to the chargebox, not that the charge has stopped.
    """

    command: StopCharge
    index: int
    verdict: Verdict
    error: ThorError | None
    attempts: int
    elapsed: float
    maybe_applied: bool
    request_id: str | None = None
    at: datetime = msgspec.field(default_factory=utc_now)

    @property
    def next_step(self) -> NextStep:
        """The next step: `done`, `resend`, `check` whether it still runs, or `fix` the data.

        `resend` is only said when a repeat cannot stop the next driver's charge: the stop was
        certainly not applied, or its request had a `transaction`.
        """
        error = self.error
        reason = error.reason if isinstance(error, NotSentError) else None
        if error is None or isinstance(error, NotInTransaction) or reason == "not_running":
            return "done"
        if self.maybe_applied:
            is_pinned = self.command.transaction is not None
            return "resend" if is_pinned and not isinstance(error, WrongTransaction) else "check"
        if isinstance(error, NotSentError):
            # What was refused because of the account would be refused again.
            is_refused = isinstance(error.cause, AccountError)
            return "fix" if is_refused or reason == "expired" else "resend"
        return "resend" if isinstance(error, TooManyRequests) else "fix"

    def record(self) -> OutcomeRecord:
        """Returns this outcome as one flat row that msgspec can encode."""
        command, error = self.command, self.error
        return OutcomeRecord(
            index=self.index,
            at=self.at,
            chargebox=command.chargebox,
            connector=command.connector,
            transaction=command.transaction,
            ref=command.ref,
            verdict=self.verdict,
            code=error.code if error else None,
            status=error.status if error else 200,
            request_id=self.request_id,
            message=error.message if error else None,
            attempts=self.attempts,
            elapsed=round(self.elapsed, 6),
            maybe_applied=self.maybe_applied,
            next_step=self.next_step,
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns `record()` as plain builtins, for `json.dumps`: `at` is ISO text."""
        return to_dict(self.record())


def to_dict(record: OutcomeRecord) -> dict[str, Any]:
    """Returns a record as plain builtins; a `ref` that JSON cannot hold raises TypeError."""
    row: dict[str, Any] = msgspec.to_builtins(record)
    return row


def check_text(name: str, value: object, *, shown: bool) -> None:
    """Raises ValueError for what cannot be an identifier; `shown`: the message may repeat it."""
    if type(value) is str and value.isascii() and value.isprintable() and value.strip():
        return
    sight = f", not {value!r}" if shown else ""
    if type(value) is not str:
        raise ValueError(f"{name} must be a str{sight or f', not a {type(value).__name__}'}")
    if not value.strip():
        raise ValueError(f"{name} must not be empty or blank{sight}")
    if not value.isprintable() and any(unicodedata.category(c) in _BREAKS_A_LINE for c in value):
        raise ValueError(f"{name} must not hold control characters{sight}: clean it")
    try:
        value.encode()
    except UnicodeEncodeError:
        # Outside the handler: its exception would carry the whole value.
        bad = True
    else:
        bad = False
    if bad:
        raise ValueError(f"{name} must be text that UTF-8 can encode{sight}: decode it anew")


def check_number(name: str, value: object, cure: str) -> None:
    """Raises ValueError for what cannot be a number in Thor: these count from 1."""
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be an int of at least 1, not {value!r}: {cure}")
    if value > LARGEST:
        raise ValueError(f"{name} must be at most {LARGEST}: Thor has no larger number")


def _check_aware(name: str, value: object) -> None:
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise ValueError(f"{name} must be an aware datetime, not {value!r}: add tzinfo=")
