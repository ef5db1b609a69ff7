"""Retries of the worker and the command line: none stops the charge of the next driver.

After a try that may have been applied, a command without a transaction is only sent again with the
transaction that ran at the first try, by the running list.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from tests import virtual_time
from tests.confirm.test_stop_and_confirm import World, break_looks, world
from thor_async import (
    AttemptStarted,
    BatchGaveUp,
    CallFinished,
    Event,
    RetryPolicy,
    ServerError,
    StopCharge,
    StopOutcome,
    _calls,
)
from thor_async.emulator import Behaviour, Faults, Lists, ScriptedAnswer

Scene = Callable[[World], Awaitable[None]]
APPLIED = ScriptedAnswer(500, b'{"message": "InternalServerError"}', effect=True)


def with_client(**settings: Any) -> Callable[[Scene], Callable[[], None]]:
    """Runs a scene with a client whose waits before retries are the longest, 0.5 and 1 s."""

    def decorate(scene: Scene) -> Callable[[], None]:
        async def run() -> None:
            loop, epoch = asyncio.get_running_loop(), time.time()
            policy = {"now": lambda: epoch + loop.time(), "random": lambda low, high: high}
            retry = RetryPolicy(**policy | settings.pop("retry", {}))
            async with world(retry=retry, **settings) as here:
                await scene(here)

        def test() -> None:
            virtual_time.run(run)

        test.__doc__ = scene.__doc__
        return test

    return decorate


under_virtual_time = with_client()


async def single(here: World, command: StopCharge) -> StopOutcome:
    return await _calls.stop(here.client._check_open(), command, pins_retries=True)


async def watched(here: World, command: StopCharge) -> StopOutcome:
    return (
        await _calls.confirm(here.client._check_open(), command, 25.0, pins_retries=True)
    ).outcome


def open_stream(
    here: World, commands: list[StopCharge], within: float | None = None
) -> _calls.StopStream:
    runtime = here.client._check_open()
    return _calls.stop_stream(runtime, commands, within=within, pins_retries=True)


def open_watch(here: World, command: StopCharge) -> _calls.ConfirmationStream:
    runtime = here.client._check_open()
    return _calls.confirm_stream(runtime, [command], within=25.0, pins_retries=True)


async def streamed(here: World, command: StopCharge) -> StopOutcome:
    async with _calls.stop_stream(
        here.client._check_open(), [command], within=None, pins_retries=True
    ) as stream:
        [outcome] = [outcome async for outcome in stream]
    return outcome


async def streamed_and_watched(here: World, command: StopCharge) -> StopOutcome:
    async with _calls.confirm_stream(
        here.client._check_open(), [command], within=25.0, pins_retries=True
    ) as stream:
        [confirmation] = [confirmation async for confirmation in stream]
    return confirmation.outcome


CALLS = [single, watched, streamed, streamed_and_watched]


def check_is_the_500(outcome: StopOutcome, command: StopCharge) -> None:
    assert isinstance(outcome.error, ServerError)
    assert outcome.command == outcome.error.command == command
    assert (outcome.attempts, outcome.error.attempts) == (1, 1)
    assert outcome.maybe_applied
    assert outcome.next_step == "check"


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("next_driver", [0.0, 0.3, 2.0, 5.0])
def test_the_next_driver_is_not_stopped(call: Any, next_driver: float) -> None:
    @with_client(retry={"random": lambda low, high: 2.5})
    async def scene(here: World) -> None:
        charge, command = here.charge(known=False)
        here.charge("B")
        here.thor.behaviours[None] = Behaviour(next_driver=next_driver)
        here.thor.script(APPLIED, chargebox="A")
        outcome = await call(here, command)
        await asyncio.sleep(10)
        assert [request.effect for request in here.thor.ledger.effects] == [charge.transaction]
        assert here.thor.charges["A", 1].transaction != charge.transaction
        assert outcome.maybe_applied
        if outcome.command.transaction is None:
            check_is_the_500(outcome, command)
        else:
            # A list of before the stop has told which charge is meant.
            assert outcome.command.transaction == charge.transaction
            assert outcome.error is not None
            assert outcome.error.code in ("WrongTransaction", "NotInTransaction")

    scene()


@pytest.mark.parametrize("call", CALLS)
def test_the_charge_that_goes_on_is_stopped_by_its_transaction(call: Any) -> None:
    @under_virtual_time
    async def scene(here: World) -> None:
        charge, command = here.charge(known=False)
        here.thor.script(500, 500, chargebox="A")
        outcome = await call(here, command)
        pinned = msgspec.structs.replace(command, transaction=charge.transaction)
        assert outcome.command == pinned
        assert (outcome.verdict, outcome.attempts, outcome.maybe_applied) == ("relayed", 3, True)
        sent = [request.command and request.command.transaction for request in requests(here)]
        assert sent == [None, charge.transaction, charge.transaction]
        # Not one more for the second retry.
        until = here.thor.ledger.requests[-1].at
        assert len([look for look in here.looks() if look < until]) == 1

    scene()


def requests(here: World) -> Any:
    return here.thor.ledger.requests


@under_virtual_time
async def test_what_is_still_unknown_after_a_pinned_retry_can_be_sent_again(here: World) -> None:
    charge, command = here.charge(known=False)
    here.thor.script(500, 500, 500, chargebox="A")
    outcome = await single(here, command)
    assert isinstance(outcome.error, ServerError)
    assert outcome.error.command == outcome.command
    assert (outcome.command.transaction, outcome.attempts) == (charge.transaction, 3)
    assert (outcome.maybe_applied, outcome.next_step) == (True, "resend")


def test_the_events_have_the_transaction_of_each_try() -> None:
    events: list[Event] = []

    @with_client(on_event=events.append)
    async def scene(here: World) -> None:
        charge, command = here.charge(known=False)
        here.thor.script(500, chargebox="A")
        await single(here, command)
        numbers = [event.transaction for event in events if isinstance(event, AttemptStarted)]
        assert numbers == [None, charge.transaction]
        end = events[-1]
        assert isinstance(end, CallFinished)
        assert (end.transaction, end.attempts) == (charge.transaction, 2)

    scene()


@pytest.mark.parametrize("call", [single, streamed])
@pytest.mark.parametrize("lists", [Lists(error=1.0), Lists(foreign=1.0), Lists(cut=1.0)])
def test_no_retry_is_sent_where_the_list_cannot_tell(call: Any, lists: Lists) -> None:
    @under_virtual_time
    async def scene(here: World) -> None:
        here.thor.lists = lists
        _, command = here.charge(known=False)
        here.thor.script(500, chargebox="A")
        del here.thor.chargeboxes["A"]
        check_is_the_500(await call(here, command), command)
        assert here.stops() == 1

    scene()


@under_virtual_time
async def test_no_retry_is_sent_where_nothing_runs(here: World) -> None:
    """The call does not wait until it is proven that it is over."""
    _, command = here.charge(known=False)
    here.thor.script(APPLIED, chargebox="A")
    outcome = await single(here, command)
    check_is_the_500(outcome, command)
    assert here.stops() == 1
    assert outcome.elapsed < 2.5


@pytest.mark.parametrize(
    ("age", "is_sent"), [(5.0, True), (2.2, True), (1.8, False), (-1.8, False), (-5.0, False)]
)
def test_the_charge_must_have_begun_before_the_first_try(age: float, is_sent: bool) -> None:
    """By Thor's clock, which may differ from this one's by 2 s."""

    @under_virtual_time
    async def scene(here: World) -> None:
        _, command = here.charge(known=False, age=age)
        here.thor.script(500, chargebox="A")
        outcome = await single(here, command)
        assert here.stops() == (2 if is_sent else 1)
        if not is_sent:
            check_is_the_500(outcome, command)

    scene()


@pytest.mark.parametrize("call", [single, streamed])
def test_a_first_try_needs_no_list(call: Any) -> None:
    @under_virtual_time
    async def scene(here: World) -> None:
        here.thor.lists = Lists(error=1.0)
        _, command = here.charge(known=False)
        outcome = await call(here, command)
        assert (outcome.verdict, outcome.command) == ("relayed", command)
        assert here.thor.ledger.reads == []

    scene()


@with_client(retry={"retry_not_sent": True})
async def test_after_a_try_that_had_no_effect_a_retry_needs_no_list(here: World) -> None:
    _, command = here.charge(known=False)
    await here.thor.refuse()
    here.loop.call_later(0.2, lambda: asyncio.ensure_future(here.thor.accept()))
    outcome = await single(here, command)
    assert (outcome.verdict, outcome.command, outcome.attempts) == ("relayed", command, 2)
    assert here.thor.ledger.reads == []


@pytest.mark.parametrize("call", [single, streamed])
def test_with_a_transaction_nothing_changes(call: Any) -> None:
    @under_virtual_time
    async def scene(here: World) -> None:
        _, command = here.charge()
        here.thor.script(500, 500, chargebox="A")
        outcome = await call(here, command)
        assert (outcome.verdict, outcome.command, outcome.attempts) == ("relayed", command, 3)
        assert here.thor.ledger.reads == []

    scene()


@under_virtual_time
async def test_a_command_as_of_a_time_is_pinned_by_that_time(here: World) -> None:
    charge, command = here.charge(known=False)
    as_of = datetime.now(UTC) - timedelta(minutes=5)
    here.thor.script(500, chargebox="A")
    outcome = await single(here, msgspec.structs.replace(command, as_of=as_of))
    assert (outcome.command.transaction, outcome.command.as_of) == (charge.transaction, as_of)
    assert here.looks() == [0.0]


def hide_the_list(here: World, command: StopCharge) -> None:
    """The first try is answered 500 after its effect, and the list hangs for 100 s."""
    here.thor.script(APPLIED, chargebox=command.chargebox)
    here.loop.call_later(0.1, setattr, here.thor, "faults", Faults(latency=(100.0, 100.0)))


@with_client(timeout=8.0)
async def test_the_list_is_waited_for_within_the_timeout(here: World) -> None:
    _, command = here.charge(known=False)
    hide_the_list(here, command)
    outcome = await single(here, command)
    check_is_the_500(outcome, command)
    assert outcome.elapsed == pytest.approx(8.0)


@under_virtual_time
async def test_the_list_is_waited_for_until_the_end_of_the_batch(here: World) -> None:
    _, command = here.charge(known=False)
    hide_the_list(here, command)
    async with _calls.stop_stream(
        here.client._check_open(), [command], within=5.0, pins_retries=True
    ) as stream:
        [outcome] = [outcome async for outcome in stream]
    check_is_the_500(outcome, command)
    assert outcome.elapsed == pytest.approx(5.0)


@under_virtual_time
async def test_the_wait_ends_when_sending_stops(here: World) -> None:
    _, command = here.charge(known=False)
    hide_the_list(here, command)
    async with _calls.stop_stream(
        here.client._check_open(), [command], within=None, pins_retries=True
    ) as stream:
        here.loop.call_later(3.0, stream.stop_sending)
        [outcome] = [outcome async for outcome in stream]
    check_is_the_500(outcome, command)
    assert outcome.elapsed == pytest.approx(3.0)


@with_client(max_in_flight=1)
async def test_the_wait_holds_no_permit(here: World) -> None:
    """Lists that come late do not hold up the others of a batch."""
    commands = [here.charge(f"box-{n}", known=False)[1] for n in range(40)]
    lists = asyncio.Event()
    poller = here.poller()
    look = poller._look

    async def late_look() -> Any:
        await lists.wait()
        return await look()

    poller._look = late_look
    for command in commands[::20]:
        here.thor.script(APPLIED, chargebox=command.chargebox)
    async with _calls.stop_stream(
        here.client._check_open(), commands, within=None, pins_retries=True
    ) as stream:
        first = [await anext(stream) for _ in range(38)]
        assert {outcome.verdict for outcome in first} == {"relayed"}
        lists.set()
        assert [outcome.next_step async for outcome in stream] == ["check"] * 2


@under_virtual_time
async def test_a_cancelled_wait_leaves_nothing_behind(here: World) -> None:
    _, command = here.charge(known=False)
    hide_the_list(here, command)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3.0):
            await single(here, command)
    here.check_nothing_waits()


@under_virtual_time
async def test_a_broken_list_of_a_batch_is_no_lost_outcome(here: World) -> None:
    break_looks(here)
    _, command = here.charge(known=False)
    here.thor.script(APPLIED, chargebox="A")
    async with _calls.stop_stream(
        here.client._check_open(), [command], within=None, pins_retries=True
    ) as stream:
        check_is_the_500(await anext(stream), command)
        with pytest.raises(BatchGaveUp, match="Bug"):
            await anext(stream)


@under_virtual_time
async def test_many_retries_share_one_list(here: World) -> None:
    commands = [here.charge(f"box-{n}", known=False)[1] for n in range(60)]
    for command in commands:
        here.thor.script(500, chargebox=command.chargebox)
    outcomes = await asyncio.gather(*[single(here, command) for command in commands])
    assert Counter(outcome.verdict for outcome in outcomes) == {"relayed": 60}
    assert len(here.looks()) == 1
