"""The transaction to which a stop is pinned, and the reasons why none is known."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests import virtual_time
from tests.confirm.test_poller import Thor, no_jitter, now
from tests.conftest import TAG
from thor_async import Chargebox, NotSentError, RunningCharge, ServerError, StopCharge, ThorError
from thor_async._confirm.pinning import TransactionResolver
from thor_async._confirm.poller import RunningChargePoller
from thor_async._confirm.tracker import ChargeTracker

COMMAND = StopCharge("A", 1, TAG, ref="ours")


def charge(transaction: int | None, chargebox: str = "A", connector: int = 1) -> RunningCharge:
    return RunningCharge(chargebox=chargebox, connector=connector, transaction=transaction)


class World:
    """A running list that gives the answers in turn, and a list of chargeboxes."""

    def __init__(self, *answers: Any) -> None:
        self.thor = Thor(*answers)
        self.chargeboxes: list[Chargebox] | ThorError = []
        self.asked = 0
        self.latency = 0.1
        self.poller = RunningChargePoller(self.thor.look, no_jitter)
        self.resolver = TransactionResolver(self.poller, self._list_chargeboxes)

    async def _list_chargeboxes(self) -> list[Chargebox] | ThorError:
        self.asked += 1
        await asyncio.sleep(self.latency)
        return self.chargeboxes

    async def find(self, command: StopCharge = COMMAND) -> StopCharge | NotSentError:
        return await self.resolver.find(command, now())

    async def reason(self, command: StopCharge = COMMAND) -> str:
        found = await self.find(command)
        assert isinstance(found, NotSentError)
        return found.reason


Scene = Callable[[], Awaitable[None]]


def under_virtual_time(scene: Scene) -> Callable[[], None]:
    def test() -> None:
        virtual_time.run(scene)

    test.__doc__ = scene.__doc__
    return test


@under_virtual_time
async def test_the_only_charge_there_is_pinned() -> None:
    world = World([charge(7), charge(8, "B"), charge(9, connector=2)])
    assert await world.find() == StopCharge("A", 1, TAG, 7, ref="ours")
    assert world.asked == 0


@pytest.mark.parametrize(
    ("charges", "message"),
    [
        ([charge(7), charge(8)], "several charges"),
        ([charge(7), charge(None)], "several charges"),
        ([charge(None), charge(8, "B")], "no transaction number"),
    ],
)
def test_no_charge_is_chosen_by_chance(charges: list[RunningCharge], message: str) -> None:
    async def run() -> None:
        found = await World(charges).find()
        assert isinstance(found, NotSentError)
        assert found.reason == "pin"
        assert message in found.message

    virtual_time.run(run)


@under_virtual_time
async def test_a_charge_without_a_number_does_not_hide_others() -> None:
    world = World([charge(None, "B"), charge(None, connector=2), charge(7)])
    found = await world.find()
    assert isinstance(found, StopCharge)
    assert found.transaction == 7
    assert await world.reason(StopCharge("B", 1, TAG)) == "pin"


@under_virtual_time
async def test_a_charge_without_a_connector_is_not_pinned_and_hides_no_other() -> None:
    world = World([charge(9, connector=0), charge(7), charge(8, "B")])
    world.chargeboxes = [Chargebox(id="C")]
    assert await world.find() == StopCharge("A", 1, TAG, 7, ref="ours")
    assert await world.find(StopCharge("B", 1, TAG)) == StopCharge("B", 1, TAG, 8)
    assert await world.reason(StopCharge("C", 1, TAG)) == "not_running"
    found = await world.find(StopCharge("A", 2, TAG))
    assert isinstance(found, NotSentError)
    assert (found.reason, found.message) == (
        "pin", "the running list does not tell on which connector of it a charge runs"
    )  # fmt: skip


@under_virtual_time
async def test_a_charge_without_a_number_shows_that_the_chargebox_is_known() -> None:
    world = World([charge(None, "A", 2)])
    assert await world.reason() == "not_running"
    assert world.asked == 0


@under_virtual_time
async def test_a_list_that_failed_pins_nothing() -> None:
    found = await World(ServerError("it is down", status=500)).find()
    assert isinstance(found, NotSentError)
    assert found.reason == "pin"
    assert "it is down" in found.message


@under_virtual_time
async def test_absence_counts_where_the_chargebox_is_known() -> None:
    world = World([charge(8, "B")])
    assert await world.reason() == "pin"
    world.chargeboxes = [Chargebox(id="A")]
    assert await world.reason() == "pin"  # asked for less than 60 s ago
    await asyncio.sleep(60)
    assert await world.reason() == "not_running"
    assert world.asked == 2


@under_virtual_time
async def test_a_chargebox_of_an_earlier_list_stays_known() -> None:
    world = World([charge(7)], [])
    assert isinstance(await world.find(), StopCharge)
    await asyncio.sleep(5)
    assert await world.reason() == "not_running"
    assert world.asked == 0


@under_virtual_time
async def test_many_commands_share_one_list_of_each_kind() -> None:
    world = World([charge(8, "B")])
    commands = [StopCharge(f"box-{n}", 1, TAG) for n in range(100)]
    assert set(await asyncio.gather(*map(world.reason, commands))) == {"pin"}
    assert (len(world.thor.looks), world.asked) == (1, 1)


@under_virtual_time
async def test_after_a_cancelled_request_the_next_command_asks_again() -> None:
    world = World([charge(8, "B")])
    world.chargeboxes = [Chargebox(id="A")]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.15):
            await world.find()
    assert world.asked == 1
    assert await world.reason() == "not_running"


@under_virtual_time
async def test_a_list_of_chargeboxes_that_fails_is_told_and_asked_for_again() -> None:
    world = World([charge(8, "B")])
    world.chargeboxes = ServerError("Thor answered 503: busy", status=503)
    found = await world.find()
    assert isinstance(found, NotSentError)
    assert (found.reason, found.cause) == ("pin", world.chargeboxes)
    assert found.message == "the list of chargeboxes is not known: Thor answered 503: busy"
    assert (await world.reason(), world.asked) == ("pin", 1)
    world.chargeboxes = [Chargebox(id="A")]
    await asyncio.sleep(2.1)
    assert await world.reason() == "not_running"
    assert world.asked == 2


@pytest.mark.parametrize(
    ("retry_after", "expected"),
    [(None, [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]), (50.0, [50.0, 50.0, 50.0, 50.0, 50.0, 60.0])],
)
def test_a_list_of_chargeboxes_that_fails_is_asked_for_less_and_less_often(
    retry_after: float | None, expected: list[float]
) -> None:
    async def scene() -> None:
        world = World([charge(8, "B")])
        world.latency = 0.0
        world.chargeboxes = ServerError("down", status=503, retry_after=retry_after)
        asked: list[float] = []
        while len(asked) <= len(expected):
            before = world.asked
            await world.resolver.is_known("A")
            if world.asked > before:
                asked.append(now())
            await asyncio.sleep(0.25)
        assert [b - a for a, b in itertools.pairwise(asked)] == pytest.approx(expected, abs=0.3)

    virtual_time.run(scene)


@under_virtual_time
async def test_a_programming_error_in_a_look_is_raised() -> None:
    with pytest.raises(AttributeError):
        await World(AttributeError("a bug of ours")).find()


HOUR_AGO = datetime.now(UTC) - timedelta(hours=1)
OLD = StopCharge("A", 1, TAG, as_of=HOUR_AGO)


@under_virtual_time
async def test_one_list_without_the_charge_does_not_prove_that_it_is_over() -> None:
    world = World([], [charge(52)])
    world.chargeboxes = [Chargebox(id="A")]
    found = await world.find(StopCharge("A", 1, TAG, as_of=HOUR_AGO))
    assert isinstance(found, NotSentError)  # its begin is not told
    assert found.reason == "pin"


@under_virtual_time
async def test_two_lists_without_it_are_in_a_row_only_if_none_between_them_was_missed() -> None:
    """The list of chargeboxes takes so long that the list which shows the charge passes unseen."""
    elsewhere = charge(1, "elsewhere")
    world = World([elsewhere], [elsewhere, charge(52)], [elsewhere], [elsewhere, charge(52)])
    world.chargeboxes = [Chargebox(id="A")]
    world.latency = 6.0
    async with world.poller.track(ChargeTracker(StopCharge("B", 1, TAG, 7), now())):
        found = await world.find(OLD)
    assert isinstance(found, NotSentError)
    assert found.reason == "pin"
    assert len(world.thor.looks) == 4


@under_virtual_time
async def test_two_lists_in_a_row_without_it_prove_that_it_is_over() -> None:
    world = World([charge(1, "elsewhere")])
    world.chargeboxes = [Chargebox(id="A")]
    assert await world.reason(OLD) == "not_running"
    assert len(world.thor.looks) == 2


@under_virtual_time
async def test_a_charge_begun_after_the_call_is_not_meant() -> None:
    """The look before it hangs: meanwhile the driver leaves, and the next one comes."""
    called = datetime.now(UTC)

    def begun_after(seconds: float) -> RunningCharge:
        started = called + timedelta(seconds=seconds)
        return RunningCharge(
            chargebox="A", connector=1, transaction=8, id_tag=TAG, date_started=started
        )

    found = await World([begun_after(20.0)]).find()
    assert isinstance(found, NotSentError)
    assert found.reason == "pin"
    assert "began after the call" in found.message
    found = await World([begun_after(-60.0)]).find()
    assert isinstance(found, StopCharge)
