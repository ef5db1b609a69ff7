"""The settlement of a message, by the outcome of its command."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from tests.conftest import TAG
from thor_async import (
    APIKeyNotFound,
    ChargeboxNotFound,
    Confirmation,
    ConnectionLost,
    ConnectorNotValid,
    InternalServerError,
    InvalidSourceIPAddr,
    NotInTransaction,
    NotSentError,
    RejectedError,
    ResponseTimeout,
    RestAPINotEnabled,
    StopCharge,
    StopOutcome,
    ThorError,
    TooManyRequests,
    UnexpectedResponse,
    Verdict,
    WrongTransaction,
)
from thor_async.worker import Settlement, apply_as_of, decide, find_expiry, read_command

PINNED = StopCharge("A", 1, TAG, 52)
BARE = StopCharge("A", 1, TAG)
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def outcome(
    error: ThorError | None, command: StopCharge = PINNED, maybe: bool = False
) -> StopOutcome:
    verdict = Verdict.RELAYED if error is None else error.verdict
    return StopOutcome(
        command, 0, verdict, error, 1, 0.1, maybe or verdict is Verdict.INDETERMINATE
    )


def highest(low: float, high: float) -> float:
    return high


NEWER = b'{"chargebox": "A", "connector": 1, "id_tag": "T", "transaction": 52, "site": {"a": [1]}}'


def test_an_unknown_field_is_a_dead_letter_unless_it_is_tolerated() -> None:
    refused = read_command(NEWER)
    assert isinstance(refused, Settlement)
    assert refused.action == "dead_letter"
    assert "unknown field" in (refused.reason or "")
    assert read_command(NEWER, tolerant=True) == StopCharge("A", 1, "T", 52)
    full = StopCharge("A", 1, "T", ref={"n": 1}, not_after=NOW, as_of=NOW)
    assert read_command(msgspec.json.encode(full), tolerant=True) == full


@pytest.mark.parametrize("tolerant", [False, True])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"\xff\xfe",
        b'{"chargebox": "\xff"}',
        b"[" * 10_000 + b"]" * 10_000,
        b'{"ref": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        b'{"chargebox": "A", "connector": 0, "id_tag": "' + TAG.encode() + b'"}',
        b"x" * 2**20,
        b"NaN",
    ],
)
def test_a_body_of_any_kind_is_a_dead_letter(body: bytes, tolerant: bool) -> None:
    settlement = read_command(body, tolerant=tolerant)
    assert isinstance(settlement, Settlement)
    assert settlement.action == "dead_letter"
    assert len(settlement.reason or "") < 300
    assert TAG not in (settlement.reason or "")


@pytest.mark.parametrize(
    ("schema", "is_known"),
    [(None, True), ("1", True), (" 1 ", True), ("2", False), ("\x00", False)],
)
def test_another_schema_is_a_dead_letter(schema: str | None, is_known: bool) -> None:
    found = read_command(msgspec.json.encode(PINNED), schema)
    if is_known:
        assert found == PINNED
    else:
        assert isinstance(found, Settlement)
        assert found.action == "dead_letter"
        assert "this worker knows 1 only: update it, then send it again" in (found.reason or "")
        assert "\x00" not in (found.reason or "")


@pytest.mark.parametrize("command", [PINNED, BARE])
@pytest.mark.parametrize("maybe", [False, True])
@pytest.mark.parametrize("error", [None, NotInTransaction("over")])
def test_done_is_acknowledged(error: ThorError | None, command: StopCharge, maybe: bool) -> None:
    assert decide(outcome(error, command, maybe), 99) == Settlement("ack")


@pytest.mark.parametrize("command", [PINNED, BARE])
@pytest.mark.parametrize(
    "error",
    [
        WrongTransaction("no"),
        ConnectorNotValid("no"),
        ChargeboxNotFound("no"),
        RejectedError("no"),
        NotSentError("no", reason="expired"),
    ],
)
def test_a_permanent_error_is_a_dead_letter(error: ThorError, command: StopCharge) -> None:
    assert decide(outcome(error, command)) == Settlement("dead_letter", reason="no")


@pytest.mark.parametrize("command", [PINNED, BARE])
@pytest.mark.parametrize("error", [APIKeyNotFound, RestAPINotEnabled, InvalidSourceIPAddr])
def test_an_account_error_pauses_and_is_never_a_dead_letter(
    error: type[ThorError], command: StopCharge
) -> None:
    settlement = decide(outcome(error("no"), command, maybe=True), 1000, random=highest)
    assert settlement == Settlement("retry", delay=60.0, reason="no", pauses=True)


@pytest.mark.parametrize("command", [PINNED, BARE])
@pytest.mark.parametrize("error", [NotSentError("no"), TooManyRequests("no")])
def test_an_unsent_command_is_delivered_again(error: ThorError, command: StopCharge) -> None:
    assert decide(outcome(error, command), random=highest) == Settlement(
        "retry", delay=2.0, reason="no"
    )


UNKNOWN = [
    outcome(InternalServerError("no")),
    outcome(ResponseTimeout("no")),
    outcome(ConnectionLost("no")),
    outcome(UnexpectedResponse("no")),
    outcome(TooManyRequests("no"), maybe=True),
]


@pytest.mark.parametrize("unknown", UNKNOWN)
def test_an_unknown_outcome_is_repeated_only_with_a_transaction(
    unknown: StopOutcome,
) -> None:
    assert decide(unknown, random=highest) == Settlement("retry", delay=2.0, reason="no")
    bare = msgspec.structs.replace(unknown, command=BARE)
    assert decide(bare) == Settlement("dead_letter", reason="no", maybe_applied=True)


@pytest.mark.parametrize(
    "error_class", [TooManyRequests, InternalServerError, APIKeyNotFound, UnexpectedResponse]
)
@pytest.mark.parametrize(
    ("retry_after", "delay"),
    [(None, 4.0), (0.0, 4.0), (3.0, 4.0), (4.5, 4.5), (3600.0, 3600.0), (999_999_999.0, 86_400.0)],
)
def test_a_retry_comes_after_the_retry_after(
    error_class: type[ThorError], retry_after: float | None, delay: float
) -> None:
    result = outcome(error_class("no", retry_after=retry_after))
    settlement = decide(result, 2, random=highest)
    assert (settlement.action, settlement.delay) == ("retry", delay)
    watched = Confirmation("still_running", "seen", result)
    assert decide(watched, 2, random=highest).delay == delay


@pytest.mark.parametrize("command", [PINNED, BARE])
def test_a_wrong_transaction_is_never_repeated(command: StopCharge) -> None:
    """The charge that was meant is over, or was never that one."""
    wrong = outcome(WrongTransaction("no"), command, maybe=True)
    assert decide(wrong) == Settlement("dead_letter", reason="no", maybe_applied=True)
    watched = decide(
        Confirmation("still_running", "seen", outcome(WrongTransaction("no"), command))
    )
    assert watched.action == "dead_letter"


@pytest.mark.parametrize("deliveries", [1, 2])
def test_a_pin_that_the_list_refuses_is_a_dead_letter(deliveries: int) -> None:
    refused = outcome(NotSentError("several charges there", reason="pin"), BARE)
    assert decide(refused, deliveries) == Settlement(
        "dead_letter", reason="several charges there", maybe_applied=deliveries > 1
    )


def test_an_unknown_list_is_asked_again_only_if_nothing_was_applied() -> None:
    error = NotSentError("the list is not known", reason="pin", cause=ConnectionLost("lost"))
    unknown = outcome(error, BARE)
    retry = Settlement("retry", delay=2.0, reason="the list is not known")
    dead = Settlement("dead_letter", reason="the list is not known", maybe_applied=True)
    assert decide(unknown, random=highest) == retry
    assert decide(unknown, 2) == dead
    assert decide(unknown, 2, may_be_applied=False, random=highest).action == "retry"
    assert decide(unknown, may_be_applied=True) == dead
    last = decide(unknown, 30, may_be_applied=False)
    assert (last.action, last.maybe_applied) == ("dead_letter", False)


def test_a_list_that_refuses_the_account_does_not_pause() -> None:
    """An account without the list can still stop."""
    error = NotSentError("not known", reason="pin", cause=RestAPINotEnabled("no"))
    assert not decide(outcome(error, BARE)).pauses
    assert decide(outcome(error, BARE), 2).action == "dead_letter"


@pytest.mark.parametrize("error", [ConnectorNotValid("no"), NotSentError("no", reason="expired")])
def test_a_dead_letter_counts_the_deliveries_before_it(error: ThorError) -> None:
    assert decide(outcome(error)).maybe_applied is False
    assert decide(outcome(error), 2).maybe_applied is True
    assert decide(outcome(error), 2, may_be_applied=False).maybe_applied is False


def test_what_is_over_by_the_list_is_done() -> None:
    over = outcome(NotSentError("over", reason="not_running"), BARE)
    assert decide(over, 7) == Settlement("ack")


def test_a_shutdown_hands_over_at_once() -> None:
    closed = outcome(NotSentError("closed", reason="closed"), BARE)
    assert decide(closed, 99) == Settlement("retry", reason="closed")


def test_delays_grow_to_a_minute() -> None:
    ranges: list[tuple[float, float]] = []

    def note(low: float, high: float) -> float:
        ranges.append((low, high))
        return low

    for deliveries in (1, 2, 3, 5, 6, 29):
        decide(outcome(NotSentError("no")), deliveries, random=note)
    assert ranges == [(1, 2), (2, 4), (4, 8), (16, 32), (30, 60), (30, 60)]
    assert decide(outcome(NotSentError("no")), 10**9, max_deliveries=10**9 + 1).delay <= 60


@pytest.mark.parametrize(
    ("error", "maybe"), [(NotSentError("no"), False), (ConnectionLost("no"), True)]
)
def test_the_number_of_deliveries_is_limited(error: ThorError, maybe: bool) -> None:
    assert decide(outcome(error), 29).action == "retry"
    expected = Settlement("dead_letter", reason="delivered 30 times: no", maybe_applied=True)
    assert decide(outcome(error), 30) == expected
    unsent = decide(outcome(error), 30, may_be_applied=False)
    assert unsent == msgspec.structs.replace(expected, maybe_applied=maybe)
    assert decide(outcome(error), 3, max_deliveries=3).action == "dead_letter"


@pytest.mark.parametrize("error", [None, ConnectionLost("lost"), NotInTransaction("over")])
def test_a_command_to_confirm_is_done_only_when_stopped(error: ThorError | None) -> None:
    assert decide(Confirmation("stopped", "seen", outcome(error, BARE))) == Settlement("ack")
    unproven = Confirmation("still_running", "seen", outcome(error))
    reason = f"still_running: seen ({error.message if error else 'relayed'})"
    assert decide(unproven, random=highest) == Settlement("retry", delay=2.0, reason=reason)
    bare = Confirmation("still_running", "seen", outcome(error, BARE))
    assert decide(bare) == Settlement("dead_letter", reason=reason, maybe_applied=True)


def test_a_command_is_read_from_its_json() -> None:
    command = msgspec.structs.replace(PINNED, ref={"site": 7}, not_after=NOW)
    assert read_command(msgspec.json.encode(command)) == command


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b'{"chargebox": "A", "connector": 0, "id_tag": "%s"}' % TAG.encode(),
        b'{"chargebox": "A", "connector": "%s", "id_tag": 1}' % TAG.encode(),
        b'{"chargebox": "A", "connector": 1, "id_tag": "%s\\u0000"}' % TAG.encode(),
        b'{"chargebox": "A", "connector": 1, "id_tag": "%s\xff"}' % TAG.encode(),
        b'{"chargebox": "a\\r\\nb", "connector": 1, "id_tag": "%s"}' % TAG.encode(),
        b'{"chargebox": "A", "connector": 1, "id_tag": "%s", "more": 1}' % TAG.encode(),
        b"[" * 100_000,
        b"9" * 5_000,
    ],
)
def test_a_body_that_is_no_command_is_a_dead_letter(body: bytes) -> None:
    settlement = read_command(body)
    assert isinstance(settlement, Settlement)
    assert settlement.action == "dead_letter"
    assert not settlement.maybe_applied
    assert settlement.reason
    assert settlement.reason.startswith("not a StopCharge: ")
    assert settlement.reason.isprintable()
    assert len(settlement.reason) < 220
    assert TAG not in settlement.reason


@pytest.mark.parametrize(
    ("age", "reason"),
    [(-5.0, None), (600.0, None), (600.6, "expired: 601 s old, at most 600 are allowed")],
)
def test_an_old_command_is_a_dead_letter(age: float, reason: str | None) -> None:
    created = NOW - timedelta(seconds=age)
    expected = None if reason is None else Settlement("dead_letter", reason=reason)
    assert find_expiry(PINNED, created, NOW) == expected
    assert find_expiry(BARE, created, NOW) == expected
    assert find_expiry(BARE, created, NOW, max_age=3600.0) is None


def test_not_after_replaces_the_age_limit() -> None:
    command = msgspec.structs.replace(BARE, not_after=NOW)
    created = NOW - timedelta(days=1)
    assert find_expiry(command, created, NOW) is None
    late = find_expiry(command, created, NOW + timedelta(microseconds=1))
    assert late == Settlement("dead_letter", reason="expired: its not_after has passed")


def test_an_expired_command_may_have_been_applied_by_an_earlier_delivery() -> None:
    created = NOW - timedelta(hours=1)
    for deliveries in (1, 2):
        expiry = find_expiry(BARE, created, NOW, deliveries)
        assert expiry is not None
        assert expiry.maybe_applied is (deliveries > 1)


@pytest.mark.parametrize(
    ("age", "deliveries", "is_bound"),
    [
        (0.0, 1, False),
        (30.0, 1, False),
        (30.1, 1, True),
        (-30.1, 1, True),  # one of the two clocks is wrong
        (0.0, 2, True),
    ],
)
def test_a_repeat_stops_no_charge_that_began_later(
    age: float, deliveries: int, is_bound: bool
) -> None:
    created = NOW - timedelta(seconds=age)
    bound = msgspec.structs.replace(BARE, as_of=created)
    assert apply_as_of(BARE, created, NOW, deliveries) == (bound if is_bound else BARE)
    assert apply_as_of(PINNED, created, NOW, deliveries) == PINNED
    given = msgspec.structs.replace(BARE, as_of=NOW - timedelta(days=1))
    assert apply_as_of(given, created, NOW, deliveries) == given
    future = msgspec.structs.replace(BARE, as_of=NOW + timedelta(days=1))
    assert apply_as_of(future, created, NOW, deliveries) == (bound if is_bound else future)


def test_a_shorter_limit_of_freshness() -> None:
    created = NOW - timedelta(seconds=2)
    assert apply_as_of(BARE, created, NOW, fresh_for=1.5).as_of == created


def test_the_decisions_need_no_broker() -> None:
    code = (
        "import sys, thor_async.worker; assert not {'faststream', 'nats', 'aiohttp.web'} "
        "& set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
