"""Stops that are watched to their end, against an emulator, under virtual time."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from tests import virtual_time
from tests.conftest import KEY, TAG
from thor_async import (
    ChargeboxNotFound,
    Confirmation,
    NotInTransaction,
    NotSentError,
    RetryPolicy,
    StopCharge,
    ThorClient,
    WrongTransaction,
)
from thor_async._confirm.poller import RunningChargePoller
from thor_async._confirm.tracker import GONE, LATER_CHARGE, NOTIFIED, REFUSAL, RUNS
from thor_async.emulator import (
    Behaviour,
    Charge,
    Faults,
    Lists,
    Notifications,
    ScriptedAnswer,
    ThorEmulator,
)

IS_SOAK = os.environ.get("HYPOTHESIS_PROFILE") == "soak"

Scene = Callable[["World"], Awaitable[None]]


class World:
    """One Thor and one client of it."""

    def __init__(self, thor: ThorEmulator, client: ThorClient) -> None:
        self.thor, self.client = thor, client
        self.loop = asyncio.get_running_loop()

    def charge(
        self, chargebox: str = "A", *, known: bool = True, age: float = 3600.0
    ) -> tuple[Charge, StopCharge]:
        """A charge that began `age` seconds ago, and the stop of it."""
        started = datetime.now(UTC) - timedelta(seconds=age)
        charge = self.thor.start_charge(chargebox, 1, TAG, date_started=started)
        transaction = charge.transaction if known else None
        return charge, StopCharge(chargebox, 1, TAG, transaction)

    def looks(self) -> list[float]:
        return [read.at for read in self.thor.ledger.reads if read.path == "charges/running"]

    def stops(self) -> int:
        return len(self.thor.ledger.requests)

    async def timed(self, work: Awaitable[Confirmation]) -> tuple[Confirmation, float]:
        started = self.loop.time()
        confirmation = await work
        return confirmation, self.loop.time() - started

    def poller(self) -> RunningChargePoller:
        assert self.client._runtime is not None
        return self.client._runtime.poller

    def check_nothing_waits(self) -> None:
        poller = self.poller()
        assert not poller._waiters
        assert poller._poll is None
        assert poller._users == 0


@asynccontextmanager
async def world(**settings: Any) -> AsyncIterator[World]:
    async with ThorEmulator(api_key=KEY, sock=virtual_time.listener()) as thor:
        async with ThorClient(KEY, base_url=thor.base_url, **settings) as client:
            here = World(thor, client)
            yield here
            here.check_nothing_waits()
        await asyncio.sleep(20)  # what is kept alive ends


def under_virtual_time(scene: Scene) -> Callable[[], None]:
    async def run() -> None:
        async with world() as here:
            await scene(here)

    def test() -> None:
        virtual_time.run(run)

    test.__doc__ = scene.__doc__
    return test


@under_virtual_time
async def test_the_list_alone_proves_it(here: World) -> None:
    charge, command = here.charge()
    here.thor.behaviours[None] = Behaviour(delay=(3.0, 3.0))
    confirmation, seconds = await here.timed(here.client.stop_and_confirm(command))
    assert (confirmation.state, confirmation.evidence) == ("stopped", GONE)
    assert confirmation.outcome.verdict == "relayed"
    assert here.thor.ledger.ended[charge.transaction] == pytest.approx(3.0)
    assert 3.0 < seconds < 3.0 + 2 * 4.5
    assert here.stops() == 1


@under_virtual_time
async def test_a_charge_that_is_gone_at_once_was_seen_before(here: World) -> None:
    for known in (True, False):
        _, command = here.charge(known=known)
        await asyncio.sleep(0.1)
        confirmation = await here.client.stop_and_confirm(command)
        assert (confirmation.state, confirmation.evidence) == ("stopped", GONE)


@pytest.mark.parametrize("jitter", [min, max])
def test_looks_come_every_2_to_10_seconds_and_once_more_at_the_end(
    jitter: Callable[[float, float], float],
) -> None:
    async def run() -> None:
        async with world() as here:
            here.poller()._jitter = jitter
            here.thor.behaviours[None] = Behaviour(refuses=1.0)
            _, command = here.charge()
            stop = here.client.stop_and_confirm(command, within=60.0)
            confirmation, seconds = await here.timed(stop)
            assert (confirmation.state, confirmation.evidence) == ("still_running", RUNS)
            looks = here.looks()
            gaps = [after - before for before, after in itertools.pairwise(looks)]
            assert looks[0] == 0.0
            assert all(2.0 <= gap <= 12.0 for gap in gaps)
            assert gaps[0] == pytest.approx(jitter(2.0, 2.4))
            assert max(gaps) == pytest.approx(jitter(10.0, 12.0))
            assert looks[-1] == seconds == pytest.approx(60.0)
            assert here.stops() == 1

    virtual_time.run(run)


@under_virtual_time
async def test_a_list_of_the_last_2_seconds_is_the_last_look(here: World) -> None:
    here.thor.behaviours[None] = Behaviour(refuses=1.0)
    _, command = here.charge()
    _, seconds = await here.timed(here.client.stop_and_confirm(command, within=60.0))
    assert 58.0 <= here.looks()[-1] <= seconds == pytest.approx(60.0)


@under_virtual_time
async def test_a_refusal_is_told_within_a_second(here: World) -> None:
    here.thor.behaviours[None] = Behaviour(delay=(7.3, 7.3), refuses=1.0)
    here.thor.notifications = Notifications(here.client.notify, delay=(0.4, 0.4))
    _, command = here.charge()
    confirmation, seconds = await here.timed(here.client.stop_and_confirm(command))
    assert (confirmation.state, confirmation.evidence) == ("refused", REFUSAL)
    assert seconds == pytest.approx(7.7, abs=0.1)


@under_virtual_time
async def test_a_notification_is_heard_before_the_200(here: World) -> None:
    here.thor.notifications = Notifications(here.client.notify)
    here.thor.script(ScriptedAnswer(200, effect=True, delay=1.5))
    _, command = here.charge()
    confirmation, seconds = await here.timed(here.client.stop_and_confirm(command))
    assert (confirmation.state, confirmation.evidence) == ("stopped", NOTIFIED)
    assert seconds == pytest.approx(1.5, abs=0.1)


@under_virtual_time
async def test_a_notification_is_heard_while_a_list_hangs(here: World) -> None:
    here.thor.notifications = Notifications(here.client.notify, delay=(0.2, 0.2))
    _, command = here.charge()
    here.thor.faults = Faults(latency=(100.0, 100.0))
    here.thor.script(200)
    work = asyncio.ensure_future(here.timed(here.client.stop_and_confirm(command)))
    await asyncio.sleep(0.1)
    assert here.stops() == 0  # a list is asked for first ...
    here.thor.faults = Faults()
    await asyncio.sleep(2.0)
    assert here.stops() == 1  # ... but it does not hold up the stop for more than 2 s
    here.thor.end_charge("A", 1)
    confirmation, seconds = await work
    assert (confirmation.state, confirmation.evidence) == ("stopped", NOTIFIED)
    assert seconds < 3.0


@under_virtual_time
async def test_a_list_that_hangs_holds_up_a_batch_only_once(here: World) -> None:
    commands = [here.charge(f"box-{n}")[1] for n in range(500)]
    here.thor.faults = Faults(latency=(100.0, 100.0))
    async with here.client.stop_and_confirm_stream(commands, within=8.0) as stream:
        work = asyncio.ensure_future(_drain(stream))
        await asyncio.sleep(0.01)
        assert len(here.looks()) == 1
        here.thor.faults = Faults()
        await work
    assert max(request.at for request in here.thor.ledger.requests) < 2.5


async def _drain(stream: Any) -> list[Confirmation]:
    return [confirmation async for confirmation in stream]


@under_virtual_time
async def test_what_thor_does_not_take_is_raised(here: World) -> None:
    with pytest.raises(ChargeboxNotFound):
        await here.client.stop_and_confirm(StopCharge("nowhere", 1, TAG))
    await here.thor.refuse()
    with pytest.raises(NotSentError) as raised:
        await here.client.stop_and_confirm(StopCharge("A", 1, TAG))
    assert raised.value.reason == "connect"
    await here.thor.accept()
    here.check_nothing_waits()


@under_virtual_time
async def test_what_may_be_over_is_watched(here: World) -> None:
    charge, command = here.charge()
    await here.client.running_charges()
    here.thor.script("NotInTransaction", chargebox="A")
    here.loop.call_later(5, here.thor.end_charge, "A", 1)
    confirmation = await here.client.stop_and_confirm(command)
    assert isinstance(confirmation.outcome.error, NotInTransaction)
    assert confirmation.state == "stopped"
    assert here.thor.ledger.ended[charge.transaction] == pytest.approx(5.0)


@under_virtual_time
async def test_a_lost_answer_is_watched(here: World) -> None:
    _, command = here.charge()
    here.thor.script(ScriptedAnswer(drop=True, effect=True))
    confirmation = await here.client.stop_and_confirm(command)
    assert confirmation.outcome.verdict == "indeterminate"
    assert confirmation.state == "stopped"
    assert here.stops() == 1


@under_virtual_time
async def test_the_next_driver_is_another_transaction(here: World) -> None:
    here.thor.behaviours[None] = Behaviour(next_driver=0.0)
    for known, end in ((True, ("stopped", GONE)), (False, ("unconfirmed", LATER_CHARGE))):
        charge, command = here.charge(f"known-{known}", known=known)
        await asyncio.sleep(0.1)
        confirmation = await here.client.stop_and_confirm(command)
        assert (confirmation.state, confirmation.evidence) == end
        assert charge.transaction in here.thor.ledger.ended
        assert (command.chargebox, 1) in here.thor.charges


LIES = {
    "empty": Lists(empty=1.0),
    "foreign": Lists(foreign=1.0),
    "cut": Lists(cut=1.0),
    "broken": Lists(broken=1.0),
    "down": Lists(error=1.0),
    "far behind": Lists(lag=(900.0, 900.0)),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("known", [True, False])
def test_a_list_that_lies_proves_nothing(lie: str, known: bool) -> None:
    async def run() -> None:
        async with world() as here:
            here.thor.lists = LIES[lie]
            _, command = here.charge(known=known, age=0.0)
            confirmation, seconds = await here.timed(
                here.client.stop_and_confirm(command, within=30.0)
            )
            assert confirmation.state == "unconfirmed"
            assert confirmation.outcome.verdict == "relayed"
            assert 30.0 <= seconds <= 31.1

    virtual_time.run(run)


@under_virtual_time
async def test_now_and_then_no_list_costs_only_time(here: World) -> None:
    here.thor.lists = Lists(cut=0.3, broken=0.1, error=0.2)
    here.thor.behaviours[None] = Behaviour(delay=(20.0, 40.0))
    commands = [here.charge(f"box-{n}")[1] for n in range(100)]
    async with here.client.stop_and_confirm_stream(commands, within=150.0) as stream:
        states = Counter([confirmation.state async for confirmation in stream])
    assert states == {"stopped": 100}


@under_virtual_time
async def test_one_poll_serves_all_who_wait(here: World) -> None:
    here.thor.behaviours[None] = Behaviour(delay=(5.0, 20.0))
    commands = [here.charge(f"box-{n}")[1] for n in range(300)]
    work = [here.client.stop_and_confirm(command) for command in commands]
    states = Counter(c.state for c in await asyncio.gather(*work))
    assert states == {"stopped": 300}
    looks = here.looks()
    assert len(looks) <= here.loop.time() / 2.0 + 1


@under_virtual_time
async def test_somebody_new_makes_the_looks_frequent_again(here: World) -> None:
    here.thor.behaviours["A"] = Behaviour(refuses=1.0)
    waiting = asyncio.ensure_future(here.client.stop_and_confirm(here.charge("A")[1]))
    await asyncio.sleep(35)
    here.thor.ledger.reads.clear()
    confirmation, seconds = await here.timed(here.client.stop_and_confirm(here.charge("B")[1]))
    assert confirmation.state == "stopped"
    assert seconds < 3 * 2.4 + 2.4
    await waiting


@under_virtual_time
async def test_cancelling_leaves_no_waiter_and_no_poll(here: World) -> None:
    here.thor.behaviours[None] = Behaviour(refuses=1.0)
    works = [
        asyncio.ensure_future(here.client.stop_and_confirm(here.charge(f"box-{n}")[1]))
        for n in range(10)
    ]
    for n, work in enumerate(works):
        await asyncio.sleep(n * 0.7)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
    here.check_nothing_waits()
    here.thor.ledger.reads.clear()
    await asyncio.sleep(100)
    assert here.thor.ledger.reads == []


@under_virtual_time
async def test_a_look_that_was_broken_off_is_not_waited_for(here: World) -> None:
    for pause in (0.0, 60.0):
        here.thor.faults = Faults(latency=(100.0, 100.0))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await here.client.stop_and_confirm(here.charge("B")[1])
        here.thor.faults = Faults(latency=(0.1, 0.1))
        await asyncio.sleep(pause)
        _, command = here.charge(known=False)
        asked = here.loop.time()
        confirmation = await here.client.stop_and_confirm(command)
        assert (confirmation.state, confirmation.evidence) == ("stopped", GONE)
        assert here.thor.ledger.requests[-1].at - asked > 0.05  # it looked before the stop
        here.thor.end_charge("B", 1)


@under_virtual_time
async def test_the_callers_own_limit_passes_through(here: World) -> None:
    here.thor.behaviours[None] = Behaviour(refuses=1.0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(7.0):
            await here.client.stop_and_confirm(here.charge()[1])
    here.check_nothing_waits()


@under_virtual_time
async def test_closing_ends_the_watch(here: World) -> None:
    here.thor.behaviours[None] = Behaviour(refuses=1.0)
    work = asyncio.ensure_future(here.timed(here.client.stop_and_confirm(here.charge()[1])))
    await asyncio.sleep(3.0)
    await here.client.aclose()
    confirmation, seconds = await work
    assert confirmation.outcome.verdict == "relayed"
    assert confirmation.state in ("unconfirmed", "still_running")
    assert seconds == pytest.approx(3.0)


@under_virtual_time
async def test_a_batch_goes_on_while_others_wait_for_their_proof(here: World) -> None:
    """Thousands would else take as many times a chargebox's slowness as they are to one permit."""
    here.thor.behaviours[None] = Behaviour(delay=(20.0, 20.0))
    commands = [here.charge(f"box-{n}")[1] for n in range(1000)]
    async with here.client.stop_and_confirm_stream(commands) as stream:
        confirmations = [confirmation async for confirmation in stream]
    assert Counter(c.state for c in confirmations) == {"stopped": 1000}
    assert sorted(c.outcome.index for c in confirmations) == list(range(1000))
    assert here.loop.time() < 20.0 + 30.0
    assert len(here.looks()) <= here.loop.time() / 2.0 + 1


@under_virtual_time
async def test_a_batch_pulls_no_more_than_its_window(here: World) -> None:
    here.thor.behaviours[None] = Behaviour(refuses=1.0)
    pulled = 0

    async def source() -> AsyncIterator[StopCharge]:
        nonlocal pulled
        while True:
            pulled += 1
            yield here.charge(f"box-{pulled}")[1]

    async with here.client.stop_and_confirm_stream(source()) as stream:
        await asyncio.wait_for(anext(stream), 100)
    assert pulled <= 32 * 32 + 1
    left = stream.unread
    assert len(left) == pulled - 1
    assert {c.state for c in left} <= {"still_running", "unconfirmed"}


@under_virtual_time
async def test_in_a_batch_what_thor_does_not_take_is_a_value(here: World) -> None:
    commands = [StopCharge("nowhere", 1, TAG), here.charge()[1]]
    async with here.client.stop_and_confirm_stream(commands) as stream:
        confirmations = {c.outcome.index: c async for c in stream}
    assert confirmations[0].state == "unconfirmed"
    assert isinstance(confirmations[0].outcome.error, ChargeboxNotFound)
    assert confirmations[1].state == "stopped"
    assert here.loop.time() < 20.0  # nothing is watched that Thor did not take


@under_virtual_time
async def test_a_pinned_stop_is_watched_by_its_transaction(here: World) -> None:
    charge, command = here.charge(known=False)
    here.thor.behaviours[None] = Behaviour(next_driver=0.0)
    confirmation = await here.client.stop_and_confirm(command, pin=True)
    assert confirmation.outcome.command.transaction == charge.transaction
    assert (confirmation.state, confirmation.evidence) == ("unconfirmed", LATER_CHARGE)
    with pytest.raises(NotSentError) as raised:
        await here.client.stop_and_confirm(StopCharge("nowhere", 1, TAG), pin=True)
    assert raised.value.reason == "pin"


# A7 of the fault matrix, and its cure.


async def _stop_with_a_500_and_a_next_driver(here: World, *, pin: bool) -> Any:
    """The stop works but is answered 500, and the next driver plugs in before the retry."""
    _, command = here.charge(known=False)
    here.thor.behaviours[None] = Behaviour(next_driver=0.1)
    here.thor.script(ScriptedAnswer(500, effect=True), chargebox="A")
    here.loop.call_later(0.4, here.thor.behaviours.clear)
    try:
        return await here.client.stop_charge(command, pin=pin)
    except WrongTransaction as error:
        return error


def test_without_a_transaction_a_retry_can_stop_the_next_driver() -> None:
    async def run() -> None:
        async with world(retry=RetryPolicy(random=lambda low, high: high)) as here:
            outcome = await _stop_with_a_500_and_a_next_driver(here, pin=False)
            assert outcome.verdict == "relayed"
            assert outcome.maybe_applied
            assert here.thor.charges == {}  # the documented hazard

    virtual_time.run(run)


def test_pinned_no_retry_can() -> None:
    async def run() -> None:
        async with world(retry=RetryPolicy(random=lambda low, high: high)) as here:
            error = await _stop_with_a_500_and_a_next_driver(here, pin=True)
            assert error.maybe_applied
            assert error.command.transaction == 1
            assert [charge.transaction for charge in here.thor.charges.values()] == [2]

    virtual_time.run(run)


@under_virtual_time
async def test_a_pinned_stop_has_the_running_transaction(here: World) -> None:
    charge, command = here.charge(known=False)
    outcome = await here.client.stop_charge(command, pin=True)
    assert outcome.command == msgspec.structs.replace(command, transaction=charge.transaction)
    (request,) = here.thor.ledger.requests
    assert request.command is not None
    assert request.command.transaction == charge.transaction


@under_virtual_time
async def test_a_given_transaction_needs_no_look(here: World) -> None:
    await here.client.stop_charge(here.charge()[1], pin=True)
    assert here.thor.ledger.reads == []


async def _refused_pin(here: World, chargebox: str = "A") -> NotSentError:
    with pytest.raises(NotSentError) as raised:
        await here.client.stop_charge(StopCharge(chargebox, 1, TAG), pin=True)
    assert here.stops() == 0
    assert (raised.value.attempts, raised.value.maybe_applied) == (0, False)
    return raised.value


@under_virtual_time
async def test_nothing_runs_there(here: World) -> None:
    here.thor.add_chargebox("A")
    here.charge("B")
    error = await _refused_pin(here)
    assert error.reason == "not_running"
    assert error.command == StopCharge("A", 1, TAG)


@pytest.mark.parametrize("lie", LIES)
def test_a_list_that_lies_pins_nothing(lie: str) -> None:
    async def run() -> None:
        async with world() as here:
            here.thor.lists = LIES[lie]
            here.charge("A", age=0.0)
            del here.thor.chargeboxes["A"]
            assert (await _refused_pin(here)).reason == "pin"

    virtual_time.run(run)


@under_virtual_time
async def test_a_list_that_has_shown_the_chargebox_is_trusted(here: World) -> None:
    here.charge("A", known=False)
    await here.client.stop_charge(StopCharge("A", 1, TAG), pin=True)
    here.thor.ledger.requests.clear()
    here.thor.chargeboxes.clear()
    await asyncio.sleep(5)
    assert (await _refused_pin(here)).reason == "not_running"
    assert {read.path for read in here.thor.ledger.reads} == {"charges/running"}
    assert (await _refused_pin(here, "B")).reason == "pin"


@under_virtual_time
async def test_what_has_just_started_is_looked_for_again(here: World) -> None:
    here.charge("A", known=False)
    await here.client.stop_charge(StopCharge("A", 1, TAG), pin=True)
    await asyncio.sleep(1)
    charge, command = here.charge("B", known=False)
    outcome = await here.client.stop_charge(command, pin=True)
    assert outcome.command.transaction == charge.transaction


@under_virtual_time
async def test_several_charges_on_one_connector_pin_nothing(here: World) -> None:
    charge, command = here.charge(known=False)
    here.thor.charges["A", 2] = msgspec.structs.replace(charge, transaction=99)
    assert (await _refused_pin(here)).reason == "pin"
    assert command


@under_virtual_time
async def test_a_batch_looks_once_for_many(here: World) -> None:
    commands = [here.charge(f"box-{n}", known=False)[1] for n in range(500)]
    outcomes = await here.client.stop_many(commands, pin=True)
    assert Counter(outcome.verdict for outcome in outcomes) == {"relayed": 500}
    assert all(outcome.command.transaction for outcome in outcomes)
    assert len(here.looks()) == 1


@under_virtual_time
async def test_a_batch_looks_again_when_what_it_knows_is_old(here: World) -> None:
    commands = [here.charge(f"box-{n}", known=False)[1] for n in range(20)]

    async def slowly() -> AsyncIterator[StopCharge]:
        for command in commands:
            yield command
            await asyncio.sleep(1.0)

    async with here.client.stop_stream(slowly(), pin=True) as stream:
        assert {outcome.verdict async for outcome in stream} == {"relayed"}
    looks = here.looks()
    assert len(looks) == 5
    assert all(after - before > 3.0 for before, after in itertools.pairwise(looks))


@under_virtual_time
async def test_a_list_that_fails_slowly_is_waited_for_once(here: World) -> None:
    here.thor.faults = Faults(latency=(100.0, 100.0))
    commands = [here.charge(f"box-{n}", known=False)[1] for n in range(200)]
    outcomes = await here.client.stop_many(commands, pin=True)
    assert {getattr(outcome.error, "reason", None) for outcome in outcomes} == {"pin"}
    assert here.loop.time() == pytest.approx(10.0, abs=0.1)


@under_virtual_time
async def test_no_list_no_pinned_stop(here: World) -> None:
    here.thor.lists = Lists(error=1.0)
    commands = [here.charge(f"box-{n}", known=False)[1] for n in range(200)]
    outcomes = await here.client.stop_many(commands, pin=True)
    assert {getattr(outcome.error, "reason", None) for outcome in outcomes} == {"pin"}
    assert here.stops() == 0
    assert len(here.looks()) == 1


# Many set-ups by chance: no claim may be better than the ledger.

SET_UPS: dict[str, tuple[Behaviour, Lists, bool]] = {
    "slow": (Behaviour(delay=(0.0, 25.0)), Lists(), False),
    "refusing": (Behaviour(delay=(0.0, 5.0), refuses=0.5), Lists(), False),
    "refusing, told": (Behaviour(delay=(0.0, 5.0), refuses=0.5), Lists(), True),
    "next driver": (Behaviour(delay=(0.0, 9.0), refuses=0.2, next_driver=0.5), Lists(), True),
    "lagging": (Behaviour(delay=(0.0, 9.0), refuses=0.3), Lists(lag=(12.0, 13.0)), False),
    "cut and broken": (
        Behaviour(delay=(0.0, 9.0), refuses=0.3),
        Lists(cut=0.3, broken=0.2, error=0.1),
        False,
    ),
    "empty": (Behaviour(delay=(0.0, 9.0), refuses=0.3), Lists(empty=1.0), False),
    "wrong host": (Behaviour(delay=(0.0, 9.0), refuses=0.3), Lists(foreign=1.0), True),
}


class Truth:
    """Charges that are stopped in one batch, and whether what is claimed of them is true."""

    def __init__(self, here: World, name: str, seed: int) -> None:
        self.here, self.name = here, name
        self.dice = random.Random(f"{name} {seed}")
        self.charges: list[Charge] = []
        self.states: Counter[str] = Counter()

    def commands(self, count: int) -> list[StopCharge]:
        commands = []
        for n in range(count):
            charge, command = self.here.charge(f"{n}", known=self.dice.random() < 0.5)
            self.charges.append(charge)
            commands.append(command)
            if self.dice.random() < 0.1:
                self.here.thor.go_offline(command.chargebox)
                self.here.loop.call_later(
                    self.dice.uniform(0, 90), self.here.thor.come_back, command.chargebox
                )
        return commands

    def check(self, confirmation: Confirmation) -> None:
        charge = self.charges[confirmation.outcome.index]
        ledger, now = self.here.thor.ledger, self.here.loop.time()
        ended = ledger.ended.get(charge.transaction)
        self.states[confirmation.state] += 1
        match confirmation.state:
            case "stopped":
                assert ended is not None, f"{self.name}: a false stopped"
            case "refused":
                assert charge.transaction in ledger.refused, f"{self.name}: a false refused"
            case "still_running":
                # By the last complete list, which may be many looks old where lists are cut.
                old = self.here.thor.lists.lag[1] + (60.0 if self.here.thor.lists.cut else 2.5)
                assert ended is None or now - ended <= old, f"{self.name}: it had stopped"
            case "unconfirmed":
                is_honest = self.here.thor.lists == Lists()
                # Two looks, at most 12 s apart, are enough for an honest list to show it; without a
                # transaction they count from 15 s after the stop, and a next driver proves nothing.
                late = 2 * 12.0 + 0.5
                if confirmation.outcome.command.transaction is None:
                    late = math.inf if self.name == "next driver" else late + 15.0
                assert not is_honest or ended is None or now - ended < late, self.name


def simulate(name: str, seed: int, count: int) -> Counter[str]:
    states: Counter[str] = Counter()

    async def run() -> None:
        behaviour, lists, is_told = SET_UPS[name]
        async with world() as here:
            truth = Truth(here, name, seed)
            commands = truth.commands(count)
            await asyncio.sleep(20)
            here.thor.behaviours[None] = behaviour
            here.thor.lists = lists
            here.thor.faults = Faults(latency=(0.0, 0.3), error_after=0.02, drop_after=0.02)
            if is_told:
                here.thor.notifications = Notifications(
                    here.client.notify, delay=(0.0, 20.0), lost=0.2, doubled=0.2
                )
            started = here.loop.time()
            async with here.client.stop_and_confirm_stream(commands, within=60.0) as stream:
                async for confirmation in stream:
                    truth.check(confirmation)
            assert len(here.looks()) <= (here.loop.time() - started) / 2.0 + 1
            assert truth.states.total() == count
            states.update(truth.states)
            await asyncio.sleep(200)  # every chargebox has come back

    virtual_time.run(run)
    return states


@pytest.mark.parametrize("name", SET_UPS)
@pytest.mark.parametrize("seed", range(13 if IS_SOAK else 1))
def test_no_claim_is_better_than_the_ledger(name: str, seed: int) -> None:
    states = simulate(name, seed, 1000 if IS_SOAK else 200)
    if name in ("empty", "wrong host"):
        assert states["still_running"] == 0
    else:
        assert states["stopped"] > 0


# A list that fails, and a poller that is broken


@under_virtual_time
async def test_looks_of_empty_connectors_begin_2_seconds_apart(here: World) -> None:
    here.charge("full")
    here.thor.add_chargebox("A")
    # Without a latency no time would pass.
    here.thor.faults = Faults(latency=(0.01, 0.01))
    for _ in range(5):
        await _refused_pin(here)
    looks = here.looks()
    assert len(looks) <= here.loop.time() / 2
    # The clock of the tests has ticks, and adds them up.
    assert all(after - before >= 1.9999 for before, after in itertools.pairwise(looks))


@under_virtual_time
async def test_others_looks_do_not_make_two_absences_of_one_gap(here: World) -> None:
    """The list is empty for half a second, while pinned stops of empty connectors ask for it."""
    here.thor.behaviours["A"] = Behaviour(refuses=1.0)
    here.thor.add_chargebox("empty")
    _, command = here.charge()

    async def others() -> None:
        await asyncio.sleep(1.0)
        here.thor.lists = Lists(empty=1.0)
        here.loop.call_later(0.5, setattr, here.thor, "lists", Lists())
        for _ in range(3):
            with pytest.raises(NotSentError):
                await here.client.stop_charge(StopCharge("empty", 1, TAG), pin=True)

    asking = asyncio.ensure_future(others())
    confirmation = await here.client.stop_and_confirm(command, within=20.0)
    await asking
    assert confirmation.state == "still_running"


@under_virtual_time
async def test_a_key_function_that_raises_is_a_list_that_failed(here: World) -> None:
    def no_key() -> str:
        raise OSError("the vault is closed")

    async with ThorClient(no_key, base_url=here.thor.base_url) as client:
        with pytest.raises(NotSentError) as raised:
            await client.stop_charge(StopCharge("A", 1, TAG), pin=True)
    assert raised.value.reason == "pin"
    assert here.looks() == []


class Bug(AttributeError):
    pass


def break_looks(here: World, count: int = 1000) -> None:
    """The next `count` looks raise."""
    poller = here.poller()
    look, left = poller._look, iter(range(count))

    async def broken_look() -> Any:
        if next(left, None) is None:
            return await look()
        raise Bug

    poller._look = broken_look


@under_virtual_time
async def test_a_look_that_always_raises_is_not_an_unconfirmed_stop(here: World) -> None:
    break_looks(here)
    with pytest.raises(Bug):
        await here.client.stop_and_confirm(here.charge()[1], within=30.0)
    assert here.stops() == 1
    assert here.loop.time() == pytest.approx(30.0)


@under_virtual_time
async def test_a_look_that_raises_once_costs_no_proof(here: World) -> None:
    break_looks(here, count=1)
    here.thor.behaviours[None] = Behaviour(delay=(10.0, 10.0))
    confirmation = await here.client.stop_and_confirm(here.charge()[1])
    assert (confirmation.state, confirmation.evidence) == ("stopped", GONE)


@under_virtual_time
async def test_a_look_that_raises_sends_no_pinned_stop(here: World) -> None:
    break_looks(here)
    with pytest.raises(Bug):
        await here.client.stop_charge(here.charge(known=False)[1], pin=True)
    assert here.stops() == 0


# Lists that are behind


@pytest.mark.parametrize("lag", [0.0, 2.0, 5.0, 12.0])
@pytest.mark.parametrize("pin", [False, True])
@pytest.mark.parametrize("next_tag", [TAG, TAG.upper(), "another"])
@pytest.mark.parametrize("has_earlier_look", [False, True])
def test_the_next_drivers_charge_is_never_taken_for_the_one_before_it(
    lag: float, pin: bool, next_tag: str, has_earlier_look: bool
) -> None:
    """The chargebox refuses the stop of the next driver's charge, which therefore goes on."""

    async def run() -> None:
        async with world() as here:
            first, _ = here.charge(known=False)
            here.charge("B")
            await asyncio.sleep(60)
            here.thor.lists = Lists(lag=(lag, lag))
            if has_earlier_look:
                await here.client.stop_charge(StopCharge("B", 1, TAG), pin=True)
            del here.thor.charges["A", 1]
            await asyncio.sleep(1)
            here.thor.start_charge("A", 1, next_tag)
            here.thor.behaviours["A"] = Behaviour(refuses=1.0)
            await asyncio.sleep(1)
            command = StopCharge("A", 1, next_tag)
            async with here.client.stop_and_confirm_stream([command], pin=pin) as stream:
                [confirmation] = [confirmation async for confirmation in stream]
            assert confirmation.state != "stopped"
            assert confirmation.next_step != "done"
            assert first.transaction != here.thor.charges["A", 1].transaction

    virtual_time.run(run)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("age", [0.0, 5.0, 3600.0])
def test_a_lag_that_varies_proves_no_end_of_a_charge_that_goes_on(seed: int, age: float) -> None:
    async def run() -> None:
        async with world() as here:
            rng = random.Random(seed)
            here.thor.behaviours["A"] = Behaviour(refuses=1.0)
            here.charge("B")
            await asyncio.sleep(30)
            _, command = here.charge(age=age)
            await asyncio.sleep(rng.uniform(0.0, 3.0))
            here.thor.lists = Lists(lag=(0.0, 12.0))
            confirmation = await here.client.stop_and_confirm(command)
            assert confirmation.state in ("still_running", "unconfirmed")

    virtual_time.run(run)
