"""What proves that a charge has stopped, and what does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import pytest

from tests.conftest import TAG
from thor_async import (
    ChargeboxNotFound,
    Confirmation,
    ConnectionLost,
    NotInTransaction,
    NotSentError,
    RunningCharge,
    ServerError,
    StopCharge,
    StopNotification,
    StopOutcome,
    ThorError,
    WrongTransaction,
)
from thor_async._confirm.tracker import (
    GONE,
    NOT_WATCHED,
    NOTIFIED,
    REFUSAL,
    REPLACED,
    RUNS,
    ChargeTracker,
    Snapshot,
    is_watched,
)
from thor_async._errors import Verdict

OURS, NEXT, EARLIER = 52, 53, 51
KNOWN = StopCharge("A", 1, TAG, OURS)
UNKNOWN = StopCharge("A", 1, TAG)


def outcome(error: ThorError | None = None, command: StopCharge = KNOWN) -> StopOutcome:
    verdict = Verdict.RELAYED if error is None else error.verdict
    return StopOutcome(command, 0, verdict, error, 1, 0.1, False)


def charge(transaction: int, chargebox: str = "A", connector: int = 1) -> RunningCharge:
    return RunningCharge(chargebox=chargebox, connector=connector, transaction=transaction)


def ended(transaction: int, *, chargebox: str = "A", connector: int = 1) -> StopNotification:
    body = {
        "type": "stop_transaction",
        "accepted": True,
        "unlocked": False,
        "chargebox": chargebox,
        "connector": connector,
        "idTag": TAG,
        "transaction_id": transaction,
    }
    return StopNotification.parse(msgspec.json.encode(body))


def refused(*, connector: int = 1, tag: str = TAG, unlocked: bool = False) -> StopNotification:
    body = {
        "msg": "stop",
        "accepted": False,
        "unlocked": unlocked,
        "chargebox": "A",
        "connector": connector,
        "idTag": tag,
        "transaction_id": 0,
    }
    return StopNotification.parse(msgspec.json.encode(body))


Fact = Sequence[int] | StopNotification | str
"""A complete list, as the transactions at (A, 1); a notification; or "sent" and "answered"."""


def play(
    *facts: Fact, command: StopCharge = KNOWN, answer: StopOutcome | None = None
) -> Confirmation:
    """A second passes between facts; a list is asked for when it comes in."""
    tracker, said = ChargeTracker(command), answer or outcome(command=command)
    for now, fact in enumerate(facts):
        match fact:
            case "sent":
                tracker.mark_sent()
            case "answered":
                tracker.mark_answered(said, now)
            case StopNotification():
                tracker.notify(fact)
            case _:
                listed = [charge(number) for number in fact if isinstance(number, int)]
                tracker.observe(Snapshot(now, [charge(1, "elsewhere"), *listed]))
    return tracker.conclude(said)


PAST = ("sent", "answered")


@pytest.mark.parametrize(
    ("facts", "state", "evidence"),
    [
        (([OURS], *PAST, [], []), "stopped", GONE),
        ((*PAST, [OURS], [], []), "stopped", GONE),
        (([OURS], "sent", [OURS], "answered", [], []), "stopped", GONE),
        (([OURS], *PAST, [], [OURS], [], []), "stopped", GONE),
        (([OURS], *PAST, [NEXT]), "stopped", REPLACED),
        ((*PAST, [NEXT]), "stopped", REPLACED),
        (([OURS], *PAST, [EARLIER], []), "stopped", GONE),
        ((*PAST, ended(OURS)), "stopped", NOTIFIED),
        (("sent", ended(OURS), "answered"), "stopped", NOTIFIED),
        ((ended(OURS), *PAST), "stopped", NOTIFIED),
        ((*PAST, refused(), ended(OURS)), "refused", REFUSAL),
        ((*PAST, refused()), "refused", REFUSAL),
        ((*PAST, refused(tag="")), "refused", REFUSAL),
        (("sent", refused(), "answered"), "refused", REFUSAL),
        ((*PAST, [OURS]), "still_running", RUNS),
        (([OURS], *PAST, [], [OURS]), "still_running", RUNS),
    ],
)
def test_proof(facts: tuple[Fact, ...], state: str, evidence: str) -> None:
    confirmation = play(*facts)
    assert (confirmation.state, confirmation.evidence) == (state, evidence)


@pytest.mark.parametrize(
    ("facts", "doubt"),
    [
        (PAST, "no complete running list"),
        (([OURS], *PAST), "no complete running list"),
        ((*PAST, [], [], []), "never seen"),
        (([OURS], *PAST, []), "absent from a single one"),
        (([OURS], *PAST, [], [OURS], []), "absent from a single one"),
        (([OURS], [], [], *PAST), "no complete running list"),
        (([OURS], "sent", [], [], "answered"), "no complete running list"),
        (([OURS], "sent", [], "answered", []), "absent from a single one"),
        ((*PAST, [EARLIER], [EARLIER]), "never seen"),
        ((*PAST, ended(EARLIER), ended(NEXT)), "no complete running list"),
        ((*PAST, ended(OURS, connector=2)), "no complete running list"),
        ((*PAST, ended(OURS, chargebox="B")), "no complete running list"),
        ((refused(), *PAST), "no complete running list"),
        ((*PAST, refused(connector=2)), "no complete running list"),
        ((*PAST, refused(tag="another")), "no complete running list"),
        ((*PAST, refused(tag="", unlocked=True)), "no complete running list"),
    ],
)
def test_no_proof(facts: tuple[Fact, ...], doubt: str) -> None:
    confirmation = play(*facts)
    assert confirmation.state == "unconfirmed"
    assert doubt in confirmation.evidence


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        # A list from before the stop tells which transaction is meant ...
        (([OURS], *PAST, [NEXT]), "stopped"),
        (([OURS], *PAST, [], []), "stopped"),
        (([OURS], *PAST, ended(OURS)), "stopped"),
        (([OURS], *PAST, [OURS]), "still_running"),
        # ... the last one before it,
        (([EARLIER], [OURS], *PAST, [], ended(EARLIER)), "unconfirmed"),
        (([EARLIER], [OURS], *PAST, [OURS]), "still_running"),
        (([OURS], [], *PAST, [], []), "unconfirmed"),
        # ... but not one with two at that connector, and none from after it.
        (([EARLIER, OURS], *PAST, [OURS]), "unconfirmed"),
        ((*PAST, [NEXT]), "unconfirmed"),
        (("sent", [OURS], "answered", [OURS]), "unconfirmed"),
        ((*PAST, ended(OURS)), "unconfirmed"),
        ((*PAST, [OURS], ended(OURS)), "unconfirmed"),
        # Whatever was there is gone.
        ((*PAST, [OURS], [], []), "stopped"),
        ((*PAST, refused()), "refused"),
    ],
)
def test_without_a_transaction(facts: tuple[Fact, ...], state: str) -> None:
    assert play(*facts, command=UNKNOWN).state == state


def test_a_transaction_is_one_of_its_chargebox() -> None:
    tracker = ChargeTracker(KNOWN)
    tracker.mark_sent()
    tracker.mark_answered(outcome(), 0)
    for now in (1, 2, 3):
        tracker.observe(Snapshot(now, [charge(OURS, "B")]))
    assert tracker.conclude(outcome()).state == "unconfirmed"


def test_a_list_that_was_asked_for_before_the_answer_proves_no_absence() -> None:
    tracker = ChargeTracker(KNOWN)
    tracker.observe(Snapshot(0, [charge(OURS)]))
    tracker.mark_sent()
    tracker.mark_answered(outcome(), 1.0)
    tracker.observe(Snapshot(0.5, []))
    tracker.observe(Snapshot(1.0, []))
    assert tracker.state is None
    tracker.observe(Snapshot(1.1, []))
    assert tracker.state is None
    tracker.observe(Snapshot(1.2, []))
    assert tracker.state == "stopped"


def test_a_proven_state_stays() -> None:
    tracker = ChargeTracker(KNOWN)
    tracker.mark_sent()
    tracker.mark_answered(outcome(), 0)
    tracker.notify(ended(OURS))
    tracker.notify(refused())
    tracker.observe(Snapshot(1, [charge(OURS)]))
    assert tracker.conclude(outcome()).state == "stopped"


WATCHED: list[Callable[[], ThorError]] = [
    NotInTransaction,
    WrongTransaction,
    ServerError,
    ConnectionLost,
]


@pytest.mark.parametrize("error", WATCHED)
def test_a_stop_that_may_have_worked_is_watched(error: Callable[[], ThorError]) -> None:
    said = outcome(error())
    assert is_watched(said)
    assert play([OURS], *PAST, [], [], answer=said).state == "stopped"


@pytest.mark.parametrize("error", [ChargeboxNotFound, NotSentError])
def test_a_stop_that_thor_did_not_take_is_not_watched(error: Callable[[], ThorError]) -> None:
    said = outcome(error())
    assert not is_watched(said)
    confirmation = ChargeTracker(KNOWN).conclude(said)
    assert (confirmation.state, confirmation.evidence) == ("unconfirmed", NOT_WATCHED)


def test_a_confirmation_as_a_row() -> None:
    row = msgspec.to_builtins(play([OURS], *PAST, [], []).record())
    assert row["state"] == "stopped"
    assert row["evidence"] == GONE
    assert (row["chargebox"], row["verdict"], row["next_step"]) == ("A", "relayed", "done")
    assert TAG not in repr(row)


@pytest.mark.parametrize(
    ("facts", "answer", "step"),
    [
        (([OURS], *PAST, [], []), None, "done"),
        ((*PAST, [OURS]), None, "check"),
        ((*PAST, refused()), None, "check"),
        (PAST, None, "check"),
        (PAST, NotInTransaction(), "done"),
        ((*PAST, [OURS]), NotInTransaction(), "check"),
        (PAST, ConnectionLost(), "resend"),
        ((), ChargeboxNotFound(), "fix"),
        ((), NotSentError(), "resend"),
    ],
)
def test_only_a_proven_stop_is_done(
    facts: tuple[Fact, ...], answer: ThorError | None, step: str
) -> None:
    confirmation = play(*facts, answer=outcome(answer))
    assert confirmation.next_step == confirmation.record().next_step == step


def without_a_number(now: float, *transactions: int) -> Snapshot:
    unnumbered = RunningCharge(chargebox="A", connector=1, transaction=None)
    return Snapshot(now, [unnumbered, *map(charge, transactions)])


def watched(command: StopCharge = KNOWN) -> ChargeTracker:
    """A tracker whose charge was seen, and whose stop was relayed at 1.0."""
    tracker = ChargeTracker(command)
    tracker.observe(Snapshot(0, [charge(OURS)]))
    tracker.mark_sent()
    tracker.mark_answered(outcome(), 1.0)
    return tracker


@pytest.mark.parametrize("command", [KNOWN, UNKNOWN])
@pytest.mark.parametrize("others", [(), (NEXT,)])
def test_a_charge_without_a_number_may_be_ours(
    command: StopCharge, others: tuple[int, ...]
) -> None:
    """Such a list shows neither that ours runs nor that it is over."""
    tracker = watched(command)
    for now in (2, 3, 4):
        tracker.observe(without_a_number(now, *others))
    assert tracker.conclude(outcome()).state == "unconfirmed"
    tracker.observe(without_a_number(5, OURS))
    assert tracker.conclude(outcome()).state == "still_running"
    tracker.observe(without_a_number(6, *others))
    assert tracker.conclude(outcome()).state == "unconfirmed"


def test_absences_around_a_charge_without_a_number_are_not_in_a_row() -> None:
    tracker = watched()
    tracker.observe(Snapshot(2, []))
    tracker.observe(without_a_number(3))
    tracker.observe(Snapshot(4, []))
    assert tracker.state is None
    tracker.observe(Snapshot(5, []))
    assert tracker.state == "stopped"


def test_a_snapshot_of_rows_in_disorder() -> None:
    snapshot = Snapshot(0, [charge(1)])
    snapshot.add([charge(2), charge(3), charge(4, "B")])
    assert list(snapshot.there("A", 1)) == [1, 2, 3]
    assert list(snapshot.there("A", 2)) == []
    assert snapshot.chargeboxes == {"A", "B"}
    assert snapshot.shows("B", 4)
    assert not snapshot.shows("A", 4)
