"""What a command refuses, prints and encodes, and the next step of an outcome."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

import msgspec
import pytest
from rich.pretty import pretty_repr

from tests.conftest import TAG, shown
from tests.test_errors import CLASSES, build
from thor_async import (
    APIKeyNotFound,
    ChargeboxNotFound,
    ConnectionLost,
    ConnectorNotValid,
    InternalServerError,
    NotInTransaction,
    NotSentError,
    NotSentReason,
    OutcomeRecord,
    RejectedError,
    ResponseTimeout,
    ServerError,
    StopCharge,
    StopOutcome,
    ThorError,
    TooManyRequests,
    Verdict,
    WrongTransaction,
)
from thor_async._models import NextStep

GOOD: dict[str, Any] = {"chargebox": "A", "connector": 1, "id_tag": TAG}
AWARE = datetime(2026, 3, 1, 6, 30, tzinfo=timezone(timedelta(hours=2)))
NAIVE = AWARE.replace(tzinfo=None)
KNOWN = datetime(2026, 11, 28, 1, 2, 3, 4, tzinfo=UTC)


class Nowhere(tzinfo):
    """A time zone without an offset: a datetime with it is not aware."""

    def utcoffset(self, when: datetime | None) -> None: ...

    dst = utcoffset

    def tzname(self, when: datetime | None) -> str:
        return "nowhere"


NOWHERE = NAIVE.replace(tzinfo=Nowhere())

NO_CONNECTOR = "connector must be an int of at least 1, not {}: connectors count from 1"
NO_TRANSACTION = "transaction must be an int of at least 1, not {}: leave it out when it is not"
CONTROL = "chargebox must not hold control characters, not {}: clean it"
REFUSED: list[tuple[str, object, str]] = [
    ("chargebox", "", "chargebox must not be empty or blank, not ''"),
    ("chargebox", " \t", r"chargebox must not be empty or blank, not ' \t'"),
    ("chargebox", 5, "chargebox must be a str, not 5"),
    ("chargebox", None, "chargebox must be a str, not None"),
    ("chargebox", b"A", "chargebox must be a str, not b'A'"),
    ("chargebox", "A\n", CONTROL.format(r"'A\n'")),
    ("chargebox", "\x00A", CONTROL.format(r"'\x00A'")),
    ("chargebox", "A\x1f", CONTROL.format(r"'A\x1f'")),
    ("chargebox", "A\x7f", CONTROL.format(r"'A\x7f'")),
    ("chargebox", "A\x9f", CONTROL.format(r"'A\x9f'")),
    ("chargebox", "A\u2028B", CONTROL.format(r"'A\u2028B'")),
    ("chargebox", "A\u2029B", CONTROL.format(r"'A\u2029B'")),
    (
        "chargebox",
        "A\ud800",
        r"chargebox must be text that UTF-8 can encode, not 'A\ud800': decode it anew",
    ),
    ("connector", 0, NO_CONNECTOR.format(0)),
    ("connector", -1, NO_CONNECTOR.format(-1)),
    ("connector", True, NO_CONNECTOR.format(True)),
    ("connector", 1.0, NO_CONNECTOR.format(1.0)),
    ("connector", "1", NO_CONNECTOR.format("'1'")),
    ("connector", None, NO_CONNECTOR.format(None)),
    ("transaction", 0, NO_TRANSACTION.format(0) + " known"),
    ("transaction", -1, NO_TRANSACTION.format(-1) + " known"),
    ("transaction", True, NO_TRANSACTION.format(True) + " known"),
    ("transaction", False, NO_TRANSACTION.format(False) + " known"),
    ("transaction", 1.5, NO_TRANSACTION.format(1.5) + " known"),
    ("transaction", "52", NO_TRANSACTION.format("'52'") + " known"),
    ("as_of", NAIVE, f"as_of must be an aware datetime, not {NAIVE!r}: add tzinfo="),
    ("not_after", NAIVE, f"not_after must be an aware datetime, not {NAIVE!r}: add tzinfo="),
    ("not_after", NOWHERE, f"not_after must be an aware datetime, not {NOWHERE!r}: add tzinfo="),
    ("not_after", "soon", "not_after must be an aware datetime, not 'soon': add tzinfo="),
    ("not_after", 1e9, "not_after must be an aware datetime, not 1000000000.0: add tzinfo="),
]
REFUSED_TAGS: list[tuple[object, str]] = [
    ("", "id_tag must not be empty or blank"),
    (f"{TAG}\r", "id_tag must not hold control characters: clean it"),
    (f"{TAG}\u2028", "id_tag must not hold control characters: clean it"),
    (f"{TAG}\ud800", "id_tag must be text that UTF-8 can encode: decode it anew"),
    (TAG.encode(), "id_tag must be a str, not a bytes"),
    ([TAG], "id_tag must be a str, not a list"),
    (None, "id_tag must be a str, not a NoneType"),
]


def chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize(("name", "value", "message"), REFUSED)
def test_a_bad_value_is_refused_and_shown(name: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match="must") as caught:
        StopCharge(**GOOD | {name: value})
    assert str(caught.value) == message


@pytest.mark.parametrize(("value", "message"), REFUSED_TAGS)
def test_a_bad_id_tag_is_refused_and_never_shown(value: object, message: str) -> None:
    with pytest.raises(ValueError, match="must") as caught:
        StopCharge(**GOOD | {"id_tag": value})
    assert str(caught.value) == message
    assert TAG not in shown(caught.value)
    assert list(chain(caught.value)) == [caught.value]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("chargebox", "a"),
        ("chargebox", " Zoë's box, №\u00a07 "),
        ("chargebox", "a\u200bb"),
        ("id_tag", "\U0001f697"),
        ("connector", 1),
        ("connector", 2**63 - 1),
        ("transaction", 1),
        ("transaction", None),
        ("not_after", AWARE),
        ("not_after", datetime.min.replace(tzinfo=UTC)),
        ("not_after", None),
    ],
)
def test_a_good_value_is_taken_as_it_is(name: str, value: object) -> None:
    assert getattr(StopCharge(**GOOD | {name: value}), name) == value


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chargebox": ""}, "chargebox must not be empty or blank, not ''"),
        ({"chargebox": "A\n"}, CONTROL.format(r"'A\n'")),
        ({"connector": 0}, NO_CONNECTOR.format(0)),
        ({"transaction": 0}, NO_TRANSACTION.format(0) + " known"),
        ({"not_after": "2026-03-01T06:30:00"}, f"not_after must be an aware datetime, not {NAIVE}"),
        ({"id_tag": f"{TAG}\x00"}, "id_tag must not hold control characters: clean it"),
        ({"id_tag": ""}, "id_tag must not be empty or blank"),
        ({"chargebox": 5}, "Expected `str`, got `int` - at `$.chargebox`"),
        ({"connector": "1"}, "Expected `int`, got `str` - at `$.connector`"),
        ({"connector": True}, "Expected `int`, got `bool` - at `$.connector`"),
        ({"connector": 1.5}, "Expected `int`, got `float` - at `$.connector`"),
        ({"connector": None}, "Expected `int`, got `null` - at `$.connector`"),
        ({"transaction": True}, "Expected `int | null`, got `bool` - at `$.transaction`"),
        ({"id_tag": [TAG]}, "Expected `str`, got `array` - at `$.id_tag`"),
        ({"not_after": "soon"}, "Invalid RFC3339 encoded datetime - at `$.not_after`"),
        ({"transaction_id": 52}, "Object contains unknown field `transaction_id`"),
    ],
)
def test_a_bad_value_is_refused_when_decoded(changes: dict[str, object], message: str) -> None:
    line = msgspec.json.encode(GOOD | changes)
    with pytest.raises(ValueError, match=r"must|Expected|Invalid|unknown") as caught:
        msgspec.json.decode(line, type=StopCharge)
    assert str(caught.value).replace(repr(NAIVE), str(NAIVE)).startswith(message)
    for error in chain(caught.value):
        assert TAG not in shown(error) + repr(error.args)


@pytest.mark.parametrize("missing", sorted(GOOD))
def test_what_thor_requires_cannot_be_left_out(missing: str) -> None:
    left = {name: value for name, value in GOOD.items() if name != missing}
    with pytest.raises(ValueError, match=missing):
        msgspec.json.decode(msgspec.json.encode(left), type=StopCharge)
    with pytest.raises(TypeError, match=missing):
        StopCharge(**left)


def test_a_changed_copy_is_checked_too(command: StopCharge) -> None:
    with pytest.raises(ValueError, match="not 0"):
        msgspec.structs.replace(command, connector=0)


@pytest.mark.parametrize("ref", [None, "site 7", 7, {"msg": [1, None, "ü"]}])
@pytest.mark.parametrize("not_after", [None, AWARE])
@pytest.mark.parametrize("transaction", [None, 52])
def test_json_keeps_all_of_a_command(
    ref: object, not_after: datetime | None, transaction: int | None
) -> None:
    command = StopCharge("A", 2, TAG, transaction, ref=ref, not_after=not_after)
    assert msgspec.json.decode(msgspec.json.encode(command), type=StopCharge) == command
    assert pickle.loads(pickle.dumps(command)) == command


def test_the_wires_four_are_positional_and_ours_are_not() -> None:
    assert StopCharge("A", 2, TAG, 52) == StopCharge(
        chargebox="A", connector=2, id_tag=TAG, transaction=52, ref=None, not_after=None, as_of=None
    )
    least = StopCharge("A", 2, TAG)
    assert (least.transaction, least.ref, least.not_after, least.as_of) == (None,) * 4
    with pytest.raises(TypeError, match="positional"):
        StopCharge("A", 2, TAG, 52, "ref")  # type: ignore[call-arg]


def test_a_command_is_frozen(command: StopCharge) -> None:
    with pytest.raises(AttributeError, match="immutable"):
        command.connector = 3  # type: ignore[misc]


def test_no_text_of_a_command_has_the_id_tag(command: StopCharge) -> None:
    text = (
        "StopCharge(chargebox='EaJ7cU9NJ3YkTNgy', connector=2, id_tag='***', transaction=52, "
        "ref=None, not_after=None, as_of=None)"
    )
    assert repr(command) == str(command) == text
    assert command.__rich_repr__() == [
        ("chargebox", "EaJ7cU9NJ3YkTNgy"),
        ("connector", 2),
        ("id_tag", "***"),
        ("transaction", 52),
        ("ref", None),
        ("not_after", None),
        ("as_of", None),
    ]
    outcome = make_outcome(command, None)
    for showing in (pretty_repr(command), repr(outcome), pretty_repr(outcome)):
        assert "***" in showing
        assert TAG not in showing


def make_outcome(
    command: StopCharge, error: ThorError | None, *, maybe: bool = False
) -> StopOutcome:
    verdict = error.verdict if error else Verdict.RELAYED
    return StopOutcome(command, 7, verdict, error, 2, 1.23456789, maybe, "id-1", KNOWN)


def not_sent(reason: NotSentReason, cause: ThorError | None = None) -> NotSentError:
    return NotSentError("no", reason=reason, cause=cause)


BAD_KEY = APIKeyNotFound("no", status=403, code="APIKeyNotFound")
NEXT_STEPS: list[tuple[ThorError | None, bool, bool, NextStep]] = [
    # error, maybe applied, a transaction in the request, next step: the rows of the contract
    (None, False, False, "done"),
    (None, True, False, "done"),
    (NotInTransaction("no", status=400, code="NotInTransaction"), False, False, "done"),
    (NotInTransaction("no", status=400, code="NotInTransaction"), True, False, "done"),
    (not_sent("not_running"), False, False, "done"),
    (ResponseTimeout("no"), True, False, "check"),
    (ServerError("no", status=503), True, False, "check"),
    (TooManyRequests("no", status=429), True, False, "check"),
    (ChargeboxNotFound("no", status=404), True, False, "check"),
    (BAD_KEY, True, False, "check"),
    (WrongTransaction("no", status=400), True, False, "check"),
    (WrongTransaction("no", status=400), True, True, "check"),
    (ResponseTimeout("no"), True, True, "resend"),
    (ServerError("no", status=503), True, True, "resend"),
    (TooManyRequests("no", status=429), True, True, "resend"),
    (ChargeboxNotFound("no", status=404), True, True, "resend"),
    (BAD_KEY, True, True, "resend"),
    (BAD_KEY, False, True, "fix"),
    (not_sent("gave_up", BAD_KEY), False, True, "fix"),
    (not_sent("expired"), False, True, "fix"),
    (WrongTransaction("no", status=400), False, True, "fix"),
    (ConnectorNotValid("no", status=400), False, False, "fix"),
    (ChargeboxNotFound("no", status=404), False, False, "fix"),
    (RejectedError("no", status=418), False, False, "fix"),
    (TooManyRequests("no", status=429), False, False, "resend"),
    (not_sent("gave_up", ConnectionLost("no")), False, False, "resend"),
    (not_sent("gave_up"), False, False, "resend"),
    *((not_sent(reason), False, False, "resend") for reason in ("connect", "dns", "tls")),
    *((not_sent(reason), False, False, "resend") for reason in ("timeout", "closed", "pin")),
]


@pytest.mark.parametrize(("error", "maybe", "is_pinned", "step"), NEXT_STEPS)
def test_the_next_step_is_that_of_the_first_row_that_fits(
    error: ThorError | None, maybe: bool, is_pinned: bool, step: NextStep
) -> None:
    command = StopCharge("A", 2, TAG, 52 if is_pinned else None)
    assert make_outcome(command, error, maybe=maybe).next_step == step


@pytest.mark.parametrize("is_pinned", [False, True])
@pytest.mark.parametrize("error_class", CLASSES)
def test_only_a_pinned_stop_may_be_sent_again_when_it_may_have_been_applied(
    error_class: type[ThorError], is_pinned: bool
) -> None:
    command = StopCharge("A", 2, TAG, 52 if is_pinned else None)
    step = make_outcome(command, build(error_class), maybe=True).next_step
    assert step != "resend" or is_pinned


@pytest.mark.parametrize("maybe", [False, True])
def test_nothing_is_left_to_do_once_relayed(maybe: bool, command: StopCharge) -> None:
    assert make_outcome(command, None, maybe=maybe).next_step == "done"


def test_an_outcome_and_its_row_are_frozen(command: StopCharge) -> None:
    with pytest.raises(AttributeError, match="immutable"):
        make_outcome(command, None).attempts = 3  # type: ignore[misc]
    with pytest.raises(AttributeError, match="immutable"):
        make_outcome(command, None).record().attempts = 3  # type: ignore[misc]


def test_a_relay_is_one_flat_row() -> None:
    command = StopCharge("A", 2, TAG, 52, ref={"site": 7}, not_after=AWARE)
    assert msgspec.json.encode(make_outcome(command, None).record()) == (
        b'{"index":7,"at":"2026-11-28T01:02:03.000004Z","chargebox":"A","connector":2,'
        b'"transaction":52,"ref":{"site":7},"verdict":"relayed","code":null,"status":200,'
        b'"request_id":"id-1","message":null,"attempts":2,"elapsed":1.234568,'
        b'"maybe_applied":false,"next_step":"done"}'
    )


def test_an_outcome_is_known_at_the_time_at_which_it_is_made(command: StopCharge) -> None:
    before = datetime.now(UTC)
    outcome = StopOutcome(command, 7, Verdict.RELAYED, None, 1, 0.5, maybe_applied=False)
    assert before <= outcome.at <= datetime.now(UTC)
    assert outcome.at.tzinfo is UTC
    assert outcome.request_id is None


@pytest.mark.parametrize("error", [None, InternalServerError("no", status=500)])
def test_a_dict_of_an_outcome_is_what_json_can_dump(
    error: ThorError | None, command: StopCharge
) -> None:
    outcome = make_outcome(command, error)
    row = outcome.to_dict()
    assert json.loads(json.dumps(row)) == row
    assert row == msgspec.json.decode(msgspec.json.encode(outcome.record()))
    assert type(row["verdict"]) is str
    assert TAG not in json.dumps(row)


def test_a_record_can_be_read_by_name(command: StopCharge) -> None:
    """FastAPI makes a dict of what it does not know."""
    record = make_outcome(command, None).record()
    assert dict(record) == msgspec.structs.asdict(record)
    assert record["verdict"] is Verdict.RELAYED
    for name in ("id_tag", "keys"):
        with pytest.raises(KeyError, match=name):
            record[name]


@pytest.mark.parametrize(
    ("error", "code", "status", "next_step"),
    [
        (NotInTransaction("no", status=400, code="NotInTransaction"), "NotInTransaction", 400,
         "done"),
        (WrongTransaction("no", status=400, code="WrongTransaction"), "WrongTransaction", 400,
         "check"),
        (TooManyRequests("no", status=429), None, 429, "resend"),
        (InternalServerError("no", status=500, code="InternalServerError"), "InternalServerError",
         500, "resend"),
        (ResponseTimeout("no"), None, None, "resend"),
        (NotSentError("no", reason="dns"), None, None, "resend"),
    ],
)  # fmt: skip
def test_a_row_has_fields_in_place_of_the_error_and_no_id_tag(
    error: ThorError, code: str | None, status: int | None, next_step: str, command: StopCharge
) -> None:
    error.command = command
    row = make_outcome(command, error, maybe=True).record()
    assert type(row) is OutcomeRecord
    assert (row.code, row.status, row.message) == (code, status, "no")
    assert (row.verdict, row.next_step) == (error.verdict, next_step)
    assert row.maybe_applied
    line = msgspec.json.encode(row)
    assert TAG not in line.decode()
    assert msgspec.json.decode(line, type=OutcomeRecord) == row


@pytest.mark.parametrize("field", ["connector", "transaction"])
def test_a_number_larger_than_any_of_thors_is_refused(field: str) -> None:
    values: dict[str, Any] = {"chargebox": "box", "connector": 1, "id_tag": "tag"}
    assert getattr(StopCharge(**values | {field: 2**63 - 1}), field) == 2**63 - 1
    with pytest.raises(ValueError, match=f"{field} must be at most 9223372036854775807"):
        StopCharge(**values | {field: 10**5000})
