"""What proves that a charge has stopped, and what does not: facts in, a state out."""

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
    """A second passes between facts; a list is asked for when it is told."""
    watch, said = ChargeTracker(command), answer or outcome(command=command)
    for now, fact in enumerate(facts):
        match fact:
            case "sent":
                watch.sent()
            case "answered":
                watch.answered(said, now)
            case StopNotification():
                watch.told(fact)
            case _:
                listed = [charge(number) for number in fact if isinstance(number, int)]
                watch.saw(Snapshot(now, [charge(1, "elsewhere"), *listed]))
    return watch.conclude(said)


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
def test_what_is_proof(facts: tuple[Fact, ...], state: str, evidence: str) -> None:
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
def test_what_is_none(facts: tuple[Fact, ...], doubt: str) -> None:
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
    watch = ChargeTracker(KNOWN)
    watch.sent()
    watch.answered(outcome(), 0)
    for now in (1, 2, 3):
        watch.saw(Snapshot(now, [charge(OURS, "B")]))
    assert watch.conclude(outcome()).state == "unconfirmed"


def test_a_list_that_was_asked_for_before_the_answer_proves_no_absence() -> None:
    watch = ChargeTracker(KNOWN)
    watch.saw(Snapshot(0, [charge(OURS)]))
    watch.sent()
    watch.answered(outcome(), 1.0)
    watch.saw(Snapshot(0.5, []))
    watch.saw(Snapshot(1.0, []))
    assert watch.state is None
    watch.saw(Snapshot(1.1, []))
    assert watch.state is None
    watch.saw(Snapshot(1.2, []))
    assert watch.state == "stopped"


def test_what_is_proven_stays() -> None:
    watch = ChargeTracker(KNOWN)
    watch.sent()
    watch.answered(outcome(), 0)
    watch.told(ended(OURS))
    watch.told(refused())
    watch.saw(Snapshot(1, [charge(OURS)]))
    assert watch.conclude(outcome()).state == "stopped"


WATCHED: list[Callable[[], ThorError]] = [
    NotInTransaction,
    WrongTransaction,
    ServerError,
    ConnectionLost,
]


@pytest.mark.parametrize("error", WATCHED)
def test_what_may_have_worked_is_watched(error: Callable[[], ThorError]) -> None:
    said = outcome(error())
    assert is_watched(said)
    assert play([OURS], *PAST, [], [], answer=said).state == "stopped"


@pytest.mark.parametrize("error", [ChargeboxNotFound, NotSentError])
def test_what_thor_did_not_take_is_not(error: Callable[[], ThorError]) -> None:
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
        (PAST, ConnectionLost(), "check"),
        ((), ChargeboxNotFound(), "fix"),
        ((), NotSentError(), "resend"),
    ],
)
def test_only_what_is_proven_is_done(
    facts: tuple[Fact, ...], answer: ThorError | None, step: str
) -> None:
    confirmation = play(*facts, answer=outcome(answer))
    assert confirmation.next_step == confirmation.record().next_step == step
