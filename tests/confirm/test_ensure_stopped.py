"""`ensure_stopped`: a stop is repeated until it is proven, and never hits another charge."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from tests import virtual_time
from tests.conftest import KEY, TAG
from thor_async import (
    AccountError,
    ChargeboxNotFound,
    NotSentError,
    RetryPolicy,
    StopCharge,
    ThorClient,
)
from thor_async._confirm.tracker import NOTHING_RUNS
from thor_async.emulator import (
    Behaviour,
    Charge,
    Lists,
    Notifications,
    ScriptedAnswer,
    ThorEmulator,
)


class World:
    """One Thor, one client, and a wall clock that goes with the loop's."""

    def __init__(self, thor: ThorEmulator, client: ThorClient) -> None:
        self.thor, self.client = thor, client
        self.loop = asyncio.get_running_loop()

    def charge(
        self, chargebox: str = "A", tag: str = TAG, *, age: float = 3600.0, known: bool = True
    ) -> tuple[Charge, StopCharge]:
        started = datetime.fromtimestamp(self.wall_time() - age, UTC)
        charge = self.thor.start_charge(chargebox, 1, tag, date_started=started)
        return charge, StopCharge(chargebox, 1, tag, charge.transaction if known else None)

    def wall_time(self) -> float:
        return BEGAN + self.loop.time()

    def at(self, seconds: float) -> datetime:
        return datetime.fromtimestamp(self.wall_time() + seconds, UTC)

    def stops(self) -> list[float]:
        return [request.at for request in self.thor.ledger.requests]


BEGAN = datetime.now(UTC).timestamp()


@asynccontextmanager
async def world(**settings: Any) -> Any:
    loop = asyncio.get_running_loop()
    policy = RetryPolicy(now=lambda: BEGAN + loop.time())
    async with (
        ThorEmulator(api_key=KEY, sock=virtual_time.listener()) as thor,
        ThorClient(KEY, base_url=thor.base_url, retry=policy, **settings) as client,
    ):
        yield World(thor, client)


def under_virtual_time(test: Callable[[World], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        async def main() -> None:
            async with world() as here:
                await test(here)

        virtual_time.run(main)

    run.__doc__ = test.__doc__
    return run


@under_virtual_time
async def test_one_stop_is_enough_where_the_chargebox_obeys(here: World) -> None:
    for known in (True, False):
        charge, command = here.charge(known=known)
        confirmation = await here.client.ensure_stopped(command)
        assert (confirmation.state, confirmation.stops_sent) == ("stopped", 1)
        assert confirmation.outcome.command.transaction == charge.transaction
        assert confirmation.record().stops_sent == 1
    assert len(here.stops()) == 2


@under_virtual_time
async def test_a_chargebox_that_ignores_it_gets_it_again(here: World) -> None:
    here.thor.behaviours["A"] = Behaviour(ignores=4)
    _, command = here.charge()
    confirmation = await here.client.ensure_stopped(command)
    assert (confirmation.state, confirmation.stops_sent) == ("stopped", 5)
    stops = here.stops()
    waits = [after - before for before, after in pairwise(stops)]
    # Each at the first list that shows it after that time.
    for wait, least in zip(waits, (10.0, 20.0, 40.0, 60.0), strict=True):
        assert least <= wait <= least + 12.5


@under_virtual_time
async def test_a_refusal_brings_the_next_stop_forward(here: World) -> None:
    here.thor.notifications = Notifications(here.client.notify)
    here.thor.behaviours["A"] = Behaviour(refuses=1.0)
    here.loop.call_later(15.0, here.thor.behaviours.clear)
    _, command = here.charge()
    confirmation = await here.client.ensure_stopped(command)
    assert confirmation.state == "stopped"
    stops = here.stops()
    assert 2 <= len(stops) <= 8
    assert stops[1] - stops[0] <= 4.0


@under_virtual_time
async def test_it_says_what_is_known_when_the_time_is_over(here: World) -> None:
    here.thor.behaviours["A"] = Behaviour(ignores=99)
    _, command = here.charge()
    confirmation = await here.client.ensure_stopped(command, within=100.0)
    assert confirmation.state == "still_running"
    assert confirmation.next_step == "check"
    assert 100.0 <= here.loop.time() <= 102.0
    assert confirmation.stops_sent == len(here.stops()) == 4


@under_virtual_time
async def test_the_next_driver_is_never_stopped(here: World) -> None:
    """The first stop works, the answer is lost, and the next driver has the same tag."""
    here.thor.behaviours["A"] = Behaviour(next_driver=1.0)
    charge, command = here.charge(known=False)
    here.thor.script(500, chargebox="A")
    await here.client.ensure_stopped(command, within=120.0)
    assert set(here.thor.ledger.ended) == {charge.transaction}
    assert here.thor.charges["A", 1].transaction != charge.transaction


@under_virtual_time
async def test_where_nothing_runs_no_stop_is_sent(here: World) -> None:
    here.thor.add_chargebox("A")
    here.charge("B")
    for transaction in (None, 4711):
        confirmation = await here.client.ensure_stopped(StopCharge("A", 1, TAG, transaction))
        assert (confirmation.state, confirmation.next_step) == ("stopped", "done")
        assert confirmation.stops_sent == 0
    assert confirmation.evidence == NOTHING_RUNS


@under_virtual_time
async def test_without_any_list_a_given_transaction_is_sent_once(here: World) -> None:
    here.thor.lists = Lists(error=1.0)
    _, command = here.charge()
    confirmation = await here.client.ensure_stopped(command, within=60.0)
    assert (confirmation.state, confirmation.stops_sent) == ("unconfirmed", 1)


@under_virtual_time
async def test_a_list_of_another_account_stops_nothing_twice(here: World) -> None:
    here.charge("elsewhere")
    _, command = here.charge()
    here.thor.lists = Lists(foreign=1.0)
    del here.thor.chargeboxes["A"]
    here.thor.always(200)
    confirmation = await here.client.ensure_stopped(command, within=60.0)
    assert (confirmation.state, confirmation.stops_sent) == ("unconfirmed", 1)


@under_virtual_time
async def test_a_stop_just_before_the_end_does_not_hide_that_it_runs(here: World) -> None:
    here.thor.behaviours["A"] = Behaviour(ignores=99)
    _, command = here.charge()
    for within in (10.5, 12.0, 13.0, 30.5):
        confirmation = await here.client.ensure_stopped(command, within=within)
        assert confirmation.state == "still_running"


@under_virtual_time
async def test_a_given_transaction_that_the_list_does_not_show_gets_no_second_stop(
    here: World,
) -> None:
    here.thor.lists = Lists(lag=(8.0, 8.0))
    here.thor.behaviours["A"] = Behaviour(ignores=1)
    here.charge("B")
    _, command = here.charge(age=0.0)
    confirmation = await here.client.ensure_stopped(command, within=120.0)
    assert confirmation.state == "stopped"
    stops = here.stops()
    assert len(stops) == 2
    assert stops[1] >= 10.0


@under_virtual_time
async def test_a_list_that_fails_for_a_while_costs_time_only(here: World) -> None:
    here.thor.lists = Lists(error=1.0)
    here.loop.call_later(30.0, setattr, here.thor, "lists", Lists())
    _, command = here.charge(known=False)
    confirmation = await here.client.ensure_stopped(command)
    assert (confirmation.state, confirmation.stops_sent) == ("stopped", 1)


@under_virtual_time
async def test_without_any_list_it_is_unconfirmed_and_not_sent(here: World) -> None:
    here.thor.lists = Lists(error=1.0)
    _, command = here.charge(known=False)
    confirmation = await here.client.ensure_stopped(command, within=60.0)
    assert (confirmation.state, confirmation.stops_sent) == ("unconfirmed", 0)
    assert confirmation.next_step == "resend"
    assert here.stops() == []


@under_virtual_time
async def test_what_thor_rejects_for_good_is_raised(here: World) -> None:
    with pytest.raises(ChargeboxNotFound):
        await here.client.ensure_stopped(StopCharge("nowhere", 1, TAG, 5))
    assert len(here.stops()) == 1


@under_virtual_time
async def test_an_account_error_is_raised(here: World) -> None:
    here.thor.api_key = "another"
    with pytest.raises(AccountError):
        await here.client.ensure_stopped(StopCharge("A", 1, TAG, 5))
    assert len(here.stops()) == 1


@under_virtual_time
async def test_an_account_error_of_the_list_is_final(here: World) -> None:
    _, command = here.charge(known=False)
    here.thor.api_key = "another"
    confirmation = await here.client.ensure_stopped(command, within=600.0)
    assert (confirmation.state, confirmation.stops_sent) == ("unconfirmed", 0)
    assert isinstance(confirmation.outcome.error, NotSentError)
    assert isinstance(confirmation.outcome.error.cause, AccountError)
    assert here.loop.time() < 10.0


@under_virtual_time
async def test_a_key_function_that_fails_later_does_not_hide_the_stop_before(here: World) -> None:
    is_closed = False

    def key() -> str:
        if is_closed:
            raise OSError("the vault is closed")
        return KEY

    here.thor.behaviours["A"] = Behaviour(ignores=99)
    _, command = here.charge()
    async with ThorClient(key, base_url=here.thor.base_url) as client:
        asking = asyncio.create_task(client.ensure_stopped(command, within=60.0))
        await asyncio.sleep(5.0)
        is_closed = True
        confirmation = await asking
    assert (confirmation.state, confirmation.stops_sent) == ("still_running", 1)
    assert confirmation.outcome.verdict == "relayed"


@under_virtual_time
async def test_a_stop_that_was_not_written_does_not_count(here: World) -> None:
    _, command = here.charge()
    nobody = virtual_time.listener()
    address = nobody.getsockname()[1]
    nobody.close()
    base_url = f"http://127.0.0.1:{address}"
    async with ThorClient(KEY, base_url=base_url, read_url=here.thor.base_url) as client:
        confirmation = await client.ensure_stopped(command, within=30.0)
    assert (confirmation.state, confirmation.stops_sent) == ("still_running", 0)
    assert here.stops() == []


@under_virtual_time
async def test_retry_after_is_kept_between_two_stops(here: World) -> None:
    headers = {"Retry-After": "40", "Content-Type": "application/json"}
    here.thor.script(ScriptedAnswer(429, b'{"message": "TooManyRequests"}', headers))
    _, command = here.charge()
    assert (await here.client.ensure_stopped(command, within=300.0)).state == "stopped"
    before, after = here.stops()
    assert after - before >= 40.0


@under_virtual_time
async def test_closing_ends_it(here: World) -> None:
    here.thor.behaviours["A"] = Behaviour(ignores=99)
    _, command = here.charge()
    client = ThorClient(KEY, base_url=here.thor.base_url)
    await client.__aenter__()
    asking = asyncio.create_task(client.ensure_stopped(command, within=600.0))
    await asyncio.sleep(5.0)
    await client.aclose()
    confirmation = await asking
    assert (confirmation.state, confirmation.stops_sent) == ("still_running", 1)
    assert here.loop.time() < 8.0


@under_virtual_time
async def test_stop_sending_ends_the_repeats(here: World) -> None:
    here.thor.behaviours["A"] = Behaviour(ignores=99)
    _, command = here.charge()
    async with here.client.ensure_stopped_stream([command], within=600.0) as stream:
        here.loop.call_later(5.0, stream.stop_sending)
        confirmations = [confirmation async for confirmation in stream]
    assert [(c.state, c.stops_sent) for c in confirmations] == [("still_running", 1)]
    assert here.loop.time() < 30.0


@under_virtual_time
async def test_as_of_is_kept(here: World) -> None:
    here.charge("A")
    early = StopCharge("A", 1, TAG, as_of=here.at(-7200.0))
    confirmation = await here.client.ensure_stopped(early)
    assert (confirmation.state, confirmation.stops_sent) == ("stopped", 0)
    assert "began after as_of" in confirmation.evidence
    assert here.thor.charges
    late = StopCharge("A", 1, TAG, as_of=here.at(0.0))
    assert (await here.client.ensure_stopped(late)).state == "stopped"
    assert not here.thor.charges


@under_virtual_time
async def test_a_batch_shares_one_poll_and_repeats_only_where_it_must(here: World) -> None:
    commands = [here.charge(f"box-{n}", known=n % 2 == 0)[1] for n in range(1000)]
    for n in range(0, 1000, 10):
        here.thor.behaviours[f"box-{n}"] = Behaviour(ignores=2)
    confirmations = []
    async with here.client.ensure_stopped_stream(commands, within=300.0) as stream:
        async for confirmation in stream:
            confirmations.append(confirmation)
    assert {c.state for c in confirmations} == {"stopped"}
    assert sorted(c.outcome.index for c in confirmations) == list(range(1000))
    assert len(here.stops()) <= 1250
    looks = [read.at for read in here.thor.ledger.reads if read.path == "charges/running"]
    assert len(looks) <= here.loop.time() / 2.0 + 1
    assert not here.thor.charges


@under_virtual_time
async def test_an_account_error_ends_a_batch(here: World) -> None:
    commands = [here.charge(f"box-{n}")[1] for n in range(100)]
    here.thor.api_key = "another"
    confirmations = []
    with pytest.raises(Exception, match="gave up") as raised:
        async with here.client.ensure_stopped_stream(commands, within=30.0) as stream:
            async for confirmation in stream:
                confirmations.append(confirmation)
    assert type(raised.value).__name__ == "BatchGaveUp"
    assert all(c.state == "unconfirmed" for c in confirmations)
    assert here.thor.charges


def test_a_cancelled_call_leaves_no_poll() -> None:
    async def main() -> None:
        async with world() as here:
            here.thor.behaviours["A"] = Behaviour(ignores=99)
            work = asyncio.ensure_future(here.client.ensure_stopped(here.charge()[1]))
            await asyncio.sleep(33.0)
            work.cancel()
            with pytest.raises(asyncio.CancelledError):
                await work
            here.thor.ledger.reads.clear()
            await asyncio.sleep(100.0)
            assert not here.thor.ledger.reads

    virtual_time.run(main)


def test_old_and_new_charges_by_as_of() -> None:
    async def main() -> None:
        async with world() as here:
            for number, (age, as_of, verdict) in enumerate(
                [
                    (3600.0, 0.0, "relayed"),
                    (2.5, 0.0, "relayed"),
                    (1.5, 0.0, "pin"),
                    (0.0, -1.5, "pin"),
                    (0.0, -2.5, "not_running"),
                    (10.0, -3600.0, "not_running"),
                ]
            ):
                box = f"box-{number}"
                await asyncio.sleep(5.0)
                here.charge(box, age=age)
                command = StopCharge(box, 1, TAG, as_of=here.at(as_of))
                (outcome,) = await here.client.stop_many([command])
                said = getattr(outcome.error, "reason", outcome.verdict)
                assert said == verdict, (age, as_of)
                assert ((box, 1) in here.thor.charges) is (verdict != "relayed")

    virtual_time.run(main)
