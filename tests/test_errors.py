"""The tree of errors: classes, verdicts, attributes, pickles and texts."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator

import pytest

import thor_async._errors as module
from tests.conftest import TAG, shown
from thor_async import (
    AccountError,
    APIKeyNotFound,
    BatchGaveUp,
    ChargeboxNotFound,
    ConnectionLost,
    ConnectorNotValid,
    DomainError,
    IndeterminateError,
    InternalServerError,
    InvalidSourceIPAddr,
    NotInTransaction,
    NotSentError,
    RejectedError,
    ResponseTimeout,
    RestAPINotEnabled,
    ServerError,
    StopCharge,
    ThorError,
    TooManyRequests,
    UnexpectedResponse,
    Verdict,
    WrongTransaction,
)

TREE: list[tuple[type[ThorError], tuple[type[Exception], ...], str]] = [
    (RejectedError, (ThorError,), "rejected"),
    (TooManyRequests, (RejectedError,), "rejected"),
    (DomainError, (RejectedError,), "rejected"),
    (ConnectorNotValid, (DomainError,), "rejected"),
    (NotInTransaction, (DomainError,), "rejected"),
    (WrongTransaction, (DomainError,), "rejected"),
    (ChargeboxNotFound, (DomainError,), "rejected"),
    (AccountError, (RejectedError,), "rejected"),
    (APIKeyNotFound, (AccountError,), "rejected"),
    (RestAPINotEnabled, (AccountError,), "rejected"),
    (InvalidSourceIPAddr, (AccountError,), "rejected"),
    (NotSentError, (ThorError,), "not_sent"),
    (IndeterminateError, (ThorError,), "indeterminate"),
    (ServerError, (IndeterminateError,), "indeterminate"),
    (InternalServerError, (ServerError,), "indeterminate"),
    (ResponseTimeout, (IndeterminateError, TimeoutError), "indeterminate"),
    (ConnectionLost, (IndeterminateError,), "indeterminate"),
    (UnexpectedResponse, (IndeterminateError,), "indeterminate"),
]
CLASSES = [error for error, _, _ in TREE]
every_class = pytest.mark.parametrize("error_class", CLASSES)


def build(error_class: type[ThorError], command: StopCharge | None = None) -> ThorError:
    """Returns an error with a value in every attribute."""
    if issubclass(error_class, NotSentError):
        error: ThorError = error_class("Thor refused it", reason="dns")
    else:
        error = error_class("Thor refused it", status=599, code="Word", retry_after=1.5)
    error.command = command
    error.attempts = 3
    return error


def subclasses(error_class: type[ThorError]) -> Iterator[type[ThorError]]:
    for subclass in error_class.__subclasses__():
        yield subclass
        yield from subclasses(subclass)


@pytest.mark.parametrize(("error_class", "bases", "verdict"), TREE)
def test_each_class_has_its_place_and_its_verdict(
    error_class: type[ThorError], bases: tuple[type[Exception], ...], verdict: str
) -> None:
    assert error_class.__bases__ == bases
    assert error_class.verdict is Verdict(verdict)


def test_the_tree_has_no_other_class() -> None:
    assert ThorError.__bases__ == (Exception,)
    ours = {error for error in subclasses(ThorError) if error.__module__ == module.__name__}
    assert ours == set(CLASSES)


@every_class
def test_catching_a_base_catches_exactly_its_verdict(error_class: type[ThorError]) -> None:
    for base in (RejectedError, NotSentError, IndeterminateError):
        caught = False
        try:
            raise error_class
        except base:
            caught = True
        except ThorError:
            pass
        assert caught is (error_class.verdict is base.verdict)


def test_the_verdicts_are_strings() -> None:
    assert list(Verdict) == ["relayed", "rejected", "not_sent", "indeterminate"]
    assert str(Verdict.NOT_SENT) == "not_sent"


def test_one_wire_word_is_one_class_spelled_as_thor_spells_it() -> None:
    assert sorted(module.CODES) == [
        "APIKeyNotFound",
        "ChargeboxNotFound",
        "ConnectorNotValid",
        "InternalServerError",
        "InvalidSourceIPAddr",
        "NotInTransaction",
        "RestAPINotEnabled",
        "TooManyRequests",
        "WrongTransaction",
    ]
    assert all(module.CODES[word].__name__ == word for word in module.CODES)


@every_class
def test_without_arguments_nothing_is_claimed(error_class: type[ThorError]) -> None:
    error = error_class()
    assert (str(error), error.message) == ("", "")
    assert (error.status, error.code, error.retry_after) == (None, None, None)
    assert (error.command, error.attempts) == (None, 0)
    assert error.maybe_applied is (error.verdict is Verdict.INDETERMINATE)


def test_a_reason_is_given_or_connect() -> None:
    assert NotSentError().reason == "connect"
    assert NotSentError("too late", reason="expired").reason == "expired"


@every_class
def test_pickling_loses_nothing(error_class: type[ThorError], command: StopCharge) -> None:
    error = build(error_class, command)
    error.maybe_applied = not error.maybe_applied
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(error, protocol))
        assert type(again) is error_class
        assert vars(again) == vars(error)
        assert again.args == error.args
        assert str(again) == str(error)


@every_class
def test_copying_loses_nothing(error_class: type[ThorError], command: StopCharge) -> None:
    error = build(error_class, command)
    assert vars(copy.copy(error)) == vars(copy.deepcopy(error)) == vars(error)


@every_class
def test_no_text_has_the_id_tag(error_class: type[ThorError], command: StopCharge) -> None:
    error = build(error_class, command)
    assert "Thor refused it" in shown(error)
    assert TAG not in shown(error)


def test_the_text_names_the_command_the_attempts_and_maybe_applied(command: StopCharge) -> None:
    where = "chargebox 'EaJ7cU9NJ3YkTNgy' connector 2: Thor refused it"
    assert str(build(ServerError)) == "Thor refused it"
    assert str(build(RejectedError, command)) == f"{where} (attempts 3)"
    assert str(build(ServerError, command)) == f"{where} (attempts 3, may have been applied)"


@pytest.mark.parametrize("code", [*module.CODES, None, "Word", ""])
def test_thor_itself_answered_if_the_code_is_documented(code: str | None) -> None:
    assert RejectedError(code=code).answered is (code in module.CODES)


def test_a_response_timeout_is_caught_as_a_timeout_error() -> None:
    with pytest.raises(TimeoutError, match="no answer in time"):
        raise ResponseTimeout("no answer in time")


def test_a_batch_that_gave_up_is_no_thor_error_and_keeps_its_cause() -> None:
    cause = APIKeyNotFound("Thor answered 403", status=403, code="APIKeyNotFound")
    error = pickle.loads(pickle.dumps(BatchGaveUp("the batch gave up", cause)))
    assert BatchGaveUp.__bases__ == (Exception,)
    assert str(error) == "the batch gave up"
    assert type(error.cause) is APIKeyNotFound
    assert vars(error.cause) == vars(cause)


def test_a_batch_that_gave_up_needs_no_arguments() -> None:
    assert str(BatchGaveUp()) == ""
    assert BatchGaveUp().cause is None
