"""What proves that a charge has stopped, and what does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

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
from thor_async._confirm.snapshot import Snapshot
from thor_async._confirm.tracker import (
    GONE,
    LATER_CHARGE,
    NOT_WATCHED,
    NOTIFIED,
    REFUSAL,
    REPLACED,
    RUNS,
    ChargeTracker,
    is_worth_watching,
)
from thor_async._errors import Verdict

OURS, NEXT, EARLIER = 52, 53, 51
STEP = 20.0
"""Seconds between two facts: more than a list may lag."""

KNOWN = StopCharge("A", 1, TAG, OURS)
UNKNOWN = StopCharge("A", 1, TAG)


def outcome(error: ThorError | None = None, command: StopCharge = KNOWN) -> StopOutcome:
    verdict = Verdict.RELAYED if error is None else error.verdict
    maybe_applied = verdict is Verdict.INDETERMINATE
    return StopOutcome(command, 0, verdict, error, 1, 0.1, maybe_applied)


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
"""A complete list, as the transactions at (A, 1); a notification; or "sent" and "answered".

A negative transaction is that of a charge of A whose connector the list does not tell.
"""


def play(
    *facts: Fact, command: StopCharge = KNOWN, answer: StopOutcome | None = None
) -> Confirmation:
    """A list is asked for when it comes in."""
    tracker, said = ChargeTracker(command, 0.0), answer or outcome(command=command)
    for step, fact in enumerate(facts):
        now = STEP * step
        match fact:
            case "sent":
                tracker.mark_sent()
            case "answered":
                tracker.watch_from(now)
            case StopNotification():
                tracker.notify(fact)
            case _:
                listed = [
                    charge(abs(number), connector=int(number > 0))
                    for number in fact
                    if isinstance(number, int)
                ]
                tracker.observe(Snapshot(now, [charge(1, "elsewhere"), *listed]))
    return tracker.conclude(said)


PAST = ("sent", "answered")


def energies(*lists: dict[int, float | None], command: StopCharge = KNOWN) -> float | None:
    """Returns the energy that is told after these lists, each with the charges at (A, 1)."""
    tracker = ChargeTracker(command, 0.0)
    for step, there in enumerate(lists):
        charges = [
            RunningCharge(chargebox="A", connector=1, transaction=number, energy=energy)
            for number, energy in there.items()
        ]
        tracker.observe(Snapshot(STEP * step, charges))
    return tracker.conclude(outcome(command=command)).energy


def test_the_energy_is_that_of_the_last_list_that_told_it() -> None:
    assert energies() is None
    assert energies({OURS: None}) is None
    assert energies({OURS: 10.5}, {OURS: 12.5}, {OURS: None}, {}) == 12.5
    assert energies({OURS: 10.5, NEXT: 99.0}, {NEXT: 99.0}) == 10.5
    assert energies({NEXT: 99.0}) is None


def test_the_energy_is_that_of_the_charge_that_is_meant() -> None:
    assert energies({EARLIER: 99.0}, {OURS: None}, command=UNKNOWN) is None
    assert energies({EARLIER: 99.0}, {OURS: 3.5}, command=UNKNOWN) == 3.5
    assert energies({EARLIER: 99.0}, {EARLIER: 99.5, OURS: 3.5}, command=UNKNOWN) is None


def test_the_record_has_the_energy() -> None:
    confirmation = Confirmation("stopped", GONE, outcome(), energy=12.5)
    assert confirmation.record().energy == confirmation.to_dict()["energy"] == 12.5


@pytest.mark.parametrize(
    ("facts", "state", "evidence"),
    [
        (([OURS], *PAST, [], []), "stopped", GONE),
        ((*PAST, [OURS], [], []), "stopped", GONE),
        (([OURS], "sent", [OURS], "answered", [], []), "stopped", GONE),
        (([OURS], *PAST, [], [OURS], [], []), "stopped", GONE),
        (([OURS], *PAST, [NEXT], [NEXT]), "stopped", GONE),
        ((*PAST, [NEXT], [NEXT]), "stopped", REPLACED),
        # Numbers need not grow.
        ((*PAST, [EARLIER], [EARLIER]), "stopped", REPLACED),
        ((*PAST, [NEXT], [EARLIER]), "stopped", REPLACED),
        (([OURS], *PAST, [EARLIER], []), "stopped", GONE),
        (([OURS], *PAST, [-NEXT], [-NEXT]), "stopped", GONE),
        (([-OURS], *PAST, [], []), "stopped", GONE),
        ((*PAST, [-OURS]), "still_running", RUNS),
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
        # A charge of A on whatever connector replaces none.
        ((*PAST, [-NEXT], [-NEXT], [-NEXT]), "no complete running list"),
        (([OURS], *PAST, []), "absent from a single one"),
        (([OURS], *PAST, [], [OURS], []), "absent from a single one"),
        (([OURS], [], [], *PAST), "no complete running list"),
        (([OURS], "sent", [], [], "answered"), "no complete running list"),
        (([OURS], "sent", [], "answered", []), "absent from a single one"),
        ((*PAST, [NEXT]), "never seen"),
        ((*PAST, [NEXT], [], [NEXT]), "never seen"),
        (([OURS], *PAST, [NEXT]), "absent from a single one"),
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
        (([OURS], *PAST, [], []), "stopped"),
        # A notification may be late, and about the charge before it: one list must agree.
        (([OURS], *PAST, ended(OURS)), "unconfirmed"),
        (([OURS], *PAST, ended(OURS), []), "stopped"),
        (([OURS], *PAST, [], ended(OURS)), "stopped"),
        # A later charge proves nothing: the stop may have gone to it.
        (([OURS], *PAST, [NEXT], [NEXT], []), "unconfirmed"),
        (([OURS], *PAST, [NEXT], [], [], ended(OURS)), "unconfirmed"),
        (([OURS], *PAST, [], [NEXT], [], []), "unconfirmed"),
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
        (([-OURS], *PAST, [], []), "unconfirmed"),
        (([OURS, -NEXT], *PAST, [-NEXT], [-NEXT]), "unconfirmed"),
    ],
)
def test_without_a_transaction(facts: tuple[Fact, ...], state: str) -> None:
    assert play(*facts, command=UNKNOWN).state == state


def test_a_transaction_is_one_of_its_chargebox() -> None:
    tracker = ChargeTracker(KNOWN, 0.0)
    tracker.mark_sent()
    tracker.watch_from(0)
    for now in (20, 40, 60):
        tracker.observe(Snapshot(now, [charge(OURS, "B")]))
    assert tracker.conclude(outcome()).state == "unconfirmed"


def test_a_list_that_was_asked_for_before_the_answer_proves_no_absence() -> None:
    tracker = ChargeTracker(KNOWN, 0.0)
    tracker.observe(Snapshot(0, [charge(OURS)]))
    tracker.mark_sent()
    tracker.watch_from(100.0)
    tracker.observe(Snapshot(99.5, []))
    tracker.observe(Snapshot(100.0, []))
    assert tracker.state is None
    tracker.observe(Snapshot(100.1, []))
    assert tracker.state is None
    tracker.observe(Snapshot(100.2, []))
    assert tracker.state == "stopped"


def test_a_proven_state_stays() -> None:
    tracker = ChargeTracker(KNOWN, 0.0)
    tracker.mark_sent()
    tracker.watch_from(0)
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
    assert is_worth_watching(said)
    assert play([OURS], *PAST, [], [], answer=said).state == "stopped"


@pytest.mark.parametrize("error", [ChargeboxNotFound, NotSentError])
def test_a_stop_that_thor_did_not_take_is_not_watched(error: Callable[[], ThorError]) -> None:
    said = outcome(error())
    assert not is_worth_watching(said)
    confirmation = ChargeTracker(KNOWN, 0.0).conclude(said)
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
    tracker = ChargeTracker(command, 0.0)
    tracker.observe(Snapshot(0, [charge(OURS)]))
    tracker.mark_sent()
    tracker.watch_from(1.0)
    return tracker


@pytest.mark.parametrize("command", [KNOWN, UNKNOWN])
@pytest.mark.parametrize("others", [(), (NEXT,)])
def test_a_charge_without_a_number_may_be_ours(
    command: StopCharge, others: tuple[int, ...]
) -> None:
    """Such a list shows neither that ours runs nor that it is over."""
    tracker = watched(command)
    for now in (20, 40, 60):
        tracker.observe(without_a_number(now, *others))
    assert tracker.conclude(outcome()).state == "unconfirmed"
    tracker.observe(without_a_number(80, OURS))
    assert tracker.conclude(outcome()).state == "still_running"
    tracker.observe(without_a_number(100, *others))
    assert tracker.conclude(outcome()).state == "unconfirmed"


def test_absences_around_a_charge_without_a_number_are_not_in_a_row() -> None:
    tracker = watched()
    tracker.observe(Snapshot(20, []))
    tracker.observe(without_a_number(40))
    tracker.observe(Snapshot(60, []))
    assert tracker.state is None
    tracker.observe(Snapshot(80, []))
    assert tracker.state == "stopped"


def listed(
    transaction: int, *, age: float | None = None, tag: str | None = None, now: float = 0.0
) -> RunningCharge:
    """A charge that began `age` seconds before `now`, a loop time; the wall clock is 1e9 ahead."""
    started = None if age is None else datetime.fromtimestamp(1e9 + now - age, UTC)
    return RunningCharge(
        chargebox="A", connector=1, transaction=transaction, id_tag=tag, date_started=started
    )


def snapshot(now: float, *charges: RunningCharge) -> Snapshot:
    return Snapshot(now, [charge(1, "elsewhere"), *charges], wall_time=1e9 + now)


@pytest.mark.parametrize(
    ("age", "absences", "state"),
    [
        # Absence counts from 15 s after the begin of the charge; clocks may differ by 2 s.
        (3600.0, (11.0, 13.0), "stopped"),
        (20.0, (11.0, 13.0), "stopped"),
        (5.0, (11.0, 13.0, 22.5), None),
        (5.0, (11.0, 22.6, 24.6), "stopped"),
        # At the latest from 15 s after the begin of the call, at 10.
        (0.0, (23.0, 25.0), None),
        (0.0, (25.1, 27.1), "stopped"),
        (None, (23.0, 25.0), None),
        (None, (25.1, 27.1), "stopped"),
    ],
)
def test_a_list_that_may_be_from_before_the_charge_proves_no_absence(
    age: float | None, absences: tuple[float, ...], state: str | None
) -> None:
    tracker = ChargeTracker(KNOWN, 10.0)
    tracker.mark_sent()
    tracker.watch_from(10.0)
    tracker.observe(snapshot(10.5, listed(OURS, age=age, now=10.5)))
    for begun in absences:
        tracker.observe(snapshot(begun))
    assert tracker.state == state


def test_a_charge_that_was_meant_had_begun_when_the_call_began() -> None:
    """Whatever date a list tells: numbers are used again, and clocks are wrong."""
    tracker = ChargeTracker(KNOWN, 0.0)
    tracker.mark_sent()
    tracker.watch_from(1.0)
    tracker.observe(snapshot(2.0, listed(OURS, age=-60.0, now=2.0)))
    for begun in (16.0, 18.0):
        tracker.observe(snapshot(begun))
    assert tracker.state == "stopped"


@pytest.mark.parametrize(
    ("tag", "is_taken"),
    [(None, True), (TAG, True), (TAG.upper(), True), ("another", False)],
)
def test_only_a_charge_of_the_same_tag_is_taken_for_the_one_that_is_meant(
    tag: str | None, is_taken: bool
) -> None:
    tracker = ChargeTracker(UNKNOWN, 0.0)
    tracker.observe(snapshot(0.0, listed(OURS, tag=tag)))
    tracker.mark_sent()
    tracker.watch_from(1.0)
    tracker.notify(ended(OURS))
    tracker.observe(snapshot(20.0))
    assert (tracker.state == "stopped") is is_taken


def test_without_a_transaction_only_lists_from_after_the_stop_prove_absence() -> None:
    tracker = ChargeTracker(UNKNOWN, 0.0)
    tracker.observe(snapshot(0.0, listed(OURS, age=3600.0)))
    tracker.mark_sent()
    tracker.watch_from(1.0)
    for begun in (3.0, 9.0, 16.0):
        tracker.observe(snapshot(begun))
    assert tracker.state is None
    for begun in (16.5, 18.5):
        tracker.observe(snapshot(begun))
    assert tracker.state == "stopped"


def test_a_later_charge_is_named_in_the_evidence() -> None:
    confirmation = play([OURS], *PAST, [NEXT], [NEXT], command=UNKNOWN)
    assert confirmation.evidence == LATER_CHARGE


def test_a_refusal_of_another_case_counts() -> None:
    assert play(*PAST, refused(tag=TAG.upper())).state == "refused"


def test_absence_is_trusted_without_a_sight_only_when_the_list_is_the_right_one() -> None:
    for is_trusted, state in ((False, None), (True, "stopped")):
        tracker = ChargeTracker(KNOWN, 0.0, is_repeated=True)
        tracker.pin(OURS, 0.0)
        if is_trusted:
            tracker.trust_absence()
        for begun in (2.0, 16.0, 18.0):
            tracker.observe(snapshot(begun))
        assert tracker.state == state


def test_a_refusal_settles_nothing_while_the_stop_is_repeated() -> None:
    tracker = ChargeTracker(KNOWN, 0.0, is_repeated=True)
    tracker.pin(OURS, 0.0)
    tracker.mark_sent()
    tracker.watch_from(1.0)
    tracker.notify(refused())
    assert (tracker.state, tracker.was_refused) == (None, True)
    assert tracker.conclude(outcome()).state == "refused"
    tracker.observe(snapshot(3.0, listed(OURS)))
    assert tracker.is_shown
    tracker.mark_sent()
    assert not tracker.was_refused
    tracker.watch_from(4.0)
    assert tracker.is_shown is None
    tracker.notify(ended(OURS))
    assert tracker.state == "stopped"


def test_a_notification_of_a_pinned_transaction_that_thor_relayed_is_proof() -> None:
    tracker = ChargeTracker(UNKNOWN, 0.0)
    tracker.pin(OURS, 0.0)
    tracker.mark_sent()
    tracker.trust_transaction()
    tracker.watch_from(1.0)
    tracker.notify(ended(OURS))
    assert tracker.state == "stopped"
