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
from thor_async.worker import Settlement, decide, find_expiry, read_command

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
    outcome(WrongTransaction("no"), maybe=True),
    outcome(TooManyRequests("no"), maybe=True),
]


@pytest.mark.parametrize("unknown", UNKNOWN)
def test_an_unknown_outcome_is_repeated_only_with_a_transaction(
    unknown: StopOutcome,
) -> None:
    assert decide(unknown, random=highest) == Settlement("retry", delay=2.0, reason="no")
    bare = msgspec.structs.replace(unknown, command=BARE)
    assert decide(bare) == Settlement("dead_letter", reason="no", maybe_applied=True)


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
    expected = Settlement("dead_letter", reason="delivered 30 times: no", maybe_applied=maybe)
    assert decide(outcome(error), 30) == expected
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


def test_the_decisions_need_no_broker() -> None:
    code = (
        "import sys, thor_async.worker; assert not {'faststream', 'nats', 'aiohttp.web'} "
        "& set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
