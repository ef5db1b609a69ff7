"""Emulated chargeboxes: slow, refusing, offline."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from tests import virtual_time
from tests.emulator.harness import (
    Client,
    collect_notifications,
    error_body,
    ignore,
    now,
    running_emulator,
    seconds_ago,
    seconds_since_end,
    under_virtual_time,
)
from thor_async.emulator import Behaviour, Faults, Notifications, ScriptedAnswer, ThorEmulator


def command(connector: int, transaction: int | None = None, id_tag: str = "T") -> Any:
    return SimpleNamespace(
        chargebox="A", connector=connector, id_tag=id_tag, transaction=transaction
    )


def test_fill_starts_what_each_command_would_stop() -> None:
    thor = ThorEmulator()
    thor.fill([command(1, 40), command(2), command(1, 40), command(2)])
    running = [(c.connector, c.id_tag, c.transaction) for c in thor.charges.values()]
    assert running == [(1, "T", 40), (2, "T", 41)]
    for other in (command(1, 41), command(2, id_tag="X")):
        with pytest.raises(ValueError, match="stop it first"):
            thor.fill([other])


@under_virtual_time
async def test_fill_starts_charges_that_are_one_hour_old(
    thor: ThorEmulator, client: Client
) -> None:
    thor.clock_offset = 60.0
    thor.fill([command(1)])
    age = thor.start_charge("A", 2).date_started - thor.charges["A", 1].date_started
    assert age == pytest.approx(3_600_000, abs=10)


def test_start_charge_chooses_transaction_and_tag() -> None:
    thor, twin = ThorEmulator(seed=3), ThorEmulator(seed=3)
    first, second = thor.start_charge("A", 1), thor.start_charge("B", 1)
    assert (first.transaction, second.transaction) == (1, 2)
    assert first.id_tag != second.id_tag
    assert twin.start_charge("A", 1).id_tag == first.id_tag
    assert set(thor.chargeboxes) == {"A", "B"}
    assert thor.charges["A", 1] is first


@pytest.mark.parametrize(("connector", "mode"), [(0, "local"), (2, "RFID")])
def test_start_charge_refuses_bad_values(connector: int, mode: str) -> None:
    with pytest.raises(ValueError, match="give"):
        ThorEmulator().start_charge("A", connector, mode=mode)


@under_virtual_time
async def test_start_charge_makes_an_older_charge(thor: ThorEmulator, client: Client) -> None:
    received = collect_notifications(thor)
    began = seconds_ago(thor, 90)
    charge = thor.start_charge("A", 1, "T", date_started=began)
    assert charge.date_started == round(began.timestamp() * 1000)
    _, content = await client.ask("GET", "charges/running")
    assert content["items"][0]["date_started"] == charge.date_started
    await client.stop()
    await asyncio.sleep(1)
    assert received[-1]["time"] == pytest.approx(90, abs=1)


def test_start_charge_refuses_a_date_without_a_time_zone() -> None:
    thor = ThorEmulator()
    with pytest.raises(ValueError, match=r"date_started 2030-01-01 .* has no time zone"):
        thor.start_charge("A", 1, date_started=datetime(2030, 1, 1))  # noqa: DTZ001
    assert thor.charges == {}


def test_transactions_fall_or_repeat_by_next_transaction() -> None:
    thor = ThorEmulator()

    def start_two(next_transaction: int) -> list[int]:
        thor.next_transaction = next_transaction
        thor.charges.clear()
        return [thor.start_charge("A", connector).transaction for connector in (1, 2)]

    assert start_two(50) == [50, 51]
    assert start_two(10) == [10, 11]
    assert start_two(50) == [50, 51]


@under_virtual_time
async def test_dates_are_by_the_clock_of_thor(thor: ThorEmulator, client: Client) -> None:
    received = collect_notifications(thor)
    first = thor.start_charge("A", 1, "T")
    for offset in (-120.0, 60.0):
        thor.clock_offset = offset
        charge = thor.start_charge("B", 1)
        assert charge.date_started - first.date_started == pytest.approx(offset * 1000, abs=10)
        _, box = await client.ask("GET", "chargeboxes/B")
        assert box["last_heartbeat"] == pytest.approx(charge.date_started, abs=1000)
        thor.end_charge("B", 1)
    await client.stop()
    await asyncio.sleep(1)
    assert received[-1]["time"] == pytest.approx(60, abs=1)


@under_virtual_time
async def test_by_default_the_charge_ends_before_the_answer(
    thor: ThorEmulator, client: Client
) -> None:
    thor.start_charge("A", 1, "T", 7)
    thor.script(ScriptedAnswer(200, effect=True, delay=60))
    task = asyncio.create_task(client.stop())
    await asyncio.sleep(1)
    assert not task.done()
    assert thor.charges == {}
    assert seconds_since_end(thor) == {7: 1}
    await task


@under_virtual_time
async def test_a_slow_chargebox_ends_the_charge_by_itself(
    thor: ThorEmulator, client: Client
) -> None:
    thor.behaviours[None] = Behaviour(delay=(20.0, 40.0))
    thor.start_charge("A", 1, "T", 7)
    started = now()
    assert await client.stop() == (200, {})
    assert now() - started < 1
    await asyncio.sleep(19)
    assert thor.charges
    assert thor.ledger.ended == {}
    await asyncio.sleep(22)
    assert thor.charges == {}
    assert 20 <= thor.ledger.ended[7] - started < 41
    assert thor.ledger.refused == {}


@under_virtual_time
async def test_each_stop_is_relayed_while_the_charge_runs(
    thor: ThorEmulator, client: Client
) -> None:
    thor.behaviours[None] = Behaviour(delay=(30.0, 30.0))
    thor.start_charge("A", 1, "T", 7)
    received = collect_notifications(thor)
    assert [(await client.stop())[0] for _ in range(2)] == [200, 200]
    assert [request.effect for request in thor.ledger.effects] == [7, 7]
    await asyncio.sleep(31)
    assert await client.stop() == (400, error_body("NotInTransaction"))
    await asyncio.sleep(31)
    assert [message["transaction_id"] for message in received] == [7]
    assert thor.ledger.refused == {}


@under_virtual_time
async def test_a_late_stop_does_not_end_the_next_charge(thor: ThorEmulator, client: Client) -> None:
    thor.behaviours[None] = Behaviour(delay=(30.0, 30.0))
    thor.start_charge("A", 1, "T", 7)
    await client.stop()
    thor.end_charge("A", 1)
    following = thor.start_charge("A", 1, "T")
    await asyncio.sleep(60)
    assert thor.charges == {("A", 1): following}
    assert thor.ledger.ended.keys() == {7}


@under_virtual_time
async def test_a_chargebox_that_refuses(thor: ThorEmulator, client: Client) -> None:
    thor.behaviours["A"] = Behaviour(delay=(5.0, 5.0), refuses=1.0)
    charge = thor.start_charge("A", 1, "T", 7)
    assert await client.stop() == (200, {})
    assert thor.ledger.effects[0].effect == 7
    assert thor.ledger.refused == {}
    await asyncio.sleep(6)
    first = thor.ledger.refused[7]
    assert thor.charges == {("A", 1): charge}
    await client.stop()
    await asyncio.sleep(6)
    assert thor.ledger.refused[7] > first + 5
    assert thor.ledger.ended == {}


@under_virtual_time
async def test_a_chargebox_that_ignores_the_first_stops_of_each_charge(
    thor: ThorEmulator, client: Client
) -> None:
    thor.behaviours[None] = Behaviour(ignores=2)
    received = collect_notifications(thor)
    for transaction in (7, 8):
        charge = thor.start_charge("A", 1, "T", transaction)
        for _ in range(2):
            assert await client.stop() == (200, {})
            await asyncio.sleep(60)
        assert thor.charges == {("A", 1): charge}
        assert [request.effect for request in thor.ledger.effects][-2:] == [transaction] * 2
        assert transaction not in thor.ledger.ended
        assert received.pop()["type"] == "start"
        assert received == []
        await client.stop()
        await asyncio.sleep(1)
        assert thor.charges == {}
        assert received.pop()["type"] == "stop_transaction"


@under_virtual_time
async def test_an_ignored_stop_is_not_refused(thor: ThorEmulator, client: Client) -> None:
    thor.behaviours[None] = Behaviour(ignores=1, refuses=1.0)
    thor.start_charge("A", 1, "T", 7)
    await client.stop()
    assert thor.ledger.refused == {}
    await client.stop()
    assert thor.ledger.refused.keys() == {7}


@under_virtual_time
async def test_a_chargebox_that_never_stops_a_charge(thor: ThorEmulator, client: Client) -> None:
    thor.behaviours["A"] = Behaviour(ignores=math.inf)
    thor.start_charge("A", 1, "T", 7)
    for _ in range(20):
        assert await client.stop() == (200, {})
    assert len(thor.ledger.effects) == 20
    assert thor.ledger.ended == {}
    thor.behaviours.clear()
    await client.stop()
    assert thor.ledger.ended.keys() == {7}


@under_virtual_time
async def test_each_chargebox_has_a_behaviour_that_may_change(
    thor: ThorEmulator, client: Client
) -> None:
    thor.behaviours = {"A": Behaviour(refuses=1.0), None: Behaviour(delay=(9.0, 9.0))}
    for chargebox in "AB":
        thor.start_charge(chargebox, 1, "T")
        await client.stop(chargebox=chargebox)
    assert (len(thor.ledger.refused), len(thor.charges)) == (1, 2)
    thor.behaviours[None] = Behaviour(refuses=1.0)
    await asyncio.sleep(10)
    assert (len(thor.ledger.refused), len(thor.charges)) == (2, 2)
    thor.behaviours.clear()
    await client.stop(chargebox="A")
    assert thor.charges.keys() == {("B", 1)}


async def refusals(seed: int) -> list[int]:
    async with running_emulator(seed=seed) as (thor, client):
        thor.behaviours[None] = Behaviour(refuses=0.5)
        for connector in range(1, 101):
            thor.start_charge("A", connector, "T")
            await client.stop(connector=connector)
        return list(thor.ledger.refused)


def test_refusals_are_drawn_by_the_seed() -> None:
    first = virtual_time.run(partial(refusals, 1))
    assert 30 < len(first) < 70
    assert virtual_time.run(partial(refusals, 1)) == first
    assert virtual_time.run(partial(refusals, 2)) != first


async def statuses(behaviour: Behaviour, gets: int) -> list[int | None]:
    async with running_emulator(faults=Faults(error_before=0.5, latency=(0.0, 1.0))) as (
        thor,
        client,
    ):
        thor.behaviours[None] = behaviour
        thor.notifications = Notifications(ignore, delay=(0.0, 1.0))
        for connector in range(1, 31):
            thor.start_charge("A", connector, "T")
            await client.stop(connector=connector)
            for _ in range(gets):
                await client.ask("GET", "charges/running")
        return [request.status for request in thor.ledger.requests]


def test_the_faults_of_stops_are_independent_of_everything_else() -> None:
    slow = Behaviour(delay=(0.0, 1.0), refuses=0.5)
    assert virtual_time.run(partial(statuses, slow, 2)) == virtual_time.run(
        partial(statuses, Behaviour(), 0)
    )


@under_virtual_time
async def test_the_next_driver_comes_after_every_end(thor: ThorEmulator, client: Client) -> None:
    thor.behaviours[None] = Behaviour(next_driver=30.0)
    thor.start_charge("A", 1, "T", 7, mode="remote")
    await client.stop()
    await asyncio.sleep(29)
    assert thor.charges == {}
    await asyncio.sleep(2)
    charge = thor.charges["A", 1]
    assert (charge.id_tag, charge.transaction, charge.mode) == ("T", 8, "remote")
    for end in (thor.end_charge, thor.unlock):
        end("A", 1)
        await asyncio.sleep(31)
    assert thor.charges["A", 1].transaction == 10


@under_virtual_time
async def test_no_next_driver_starts_at_an_occupied_connector(
    thor: ThorEmulator, client: Client
) -> None:
    thor.behaviours[None] = Behaviour(next_driver=30.0)
    thor.start_charge("A", 1, "T")
    thor.end_charge("A", 1)
    other = thor.start_charge("A", 1, "X")
    await asyncio.sleep(60)
    assert thor.charges == {("A", 1): other}


@under_virtual_time
async def test_an_offline_chargebox_stops_late(thor: ThorEmulator, client: Client) -> None:
    thor.start_charge("A", 1, "T", 7)
    thor.behaviours["A"] = Behaviour(delay=(5.0, 5.0))
    received = collect_notifications(thor)
    thor.go_offline("A")
    assert thor.offline == {"A"}
    assert (await client.ask("GET", "chargeboxes/A"))[1]["connected"] is False
    assert await client.stop() == (200, {})
    assert thor.ledger.effects[0].effect == 7
    await asyncio.sleep(3600)
    assert (await client.ask("GET", "charges/running"))[1]["count"] == 1
    thor.come_back("A")
    assert (await client.ask("GET", "chargeboxes/A"))[1]["connected"] is True
    await asyncio.sleep(4)
    assert (thor.ledger.ended, received) == ({}, [])
    await asyncio.sleep(2)
    assert seconds_since_end(thor) == {7: 1}
    assert [message["type"] for message in received] == ["stop_transaction"]


@under_virtual_time
async def test_a_stop_in_its_delay_waits_while_offline(thor: ThorEmulator, client: Client) -> None:
    thor.start_charge("A", 1, "T", 7)
    thor.behaviours["A"] = Behaviour(delay=(5.0, 5.0))
    await client.stop()
    thor.go_offline("A")
    await asyncio.sleep(60)
    assert thor.ledger.ended == {}
    thor.come_back("A")
    assert seconds_since_end(thor) == {7: 0}


@under_virtual_time
async def test_an_end_while_offline_is_reported_on_reconnection(
    thor: ThorEmulator, client: Client
) -> None:
    thor.behaviours["A"] = Behaviour(next_driver=10.0)
    thor.start_charge("A", 1, "T", 7)
    received = collect_notifications(thor)
    thor.go_offline("A")
    thor.end_charge("A", 1)
    await asyncio.sleep(60)
    assert seconds_since_end(thor) == {7: 60}
    with pytest.raises(ValueError, match="no charge runs"):
        thor.end_charge("A", 1)
    assert (await client.ask("GET", "charges/running"))[1]["items"][0]["id"] == 7
    assert await client.stop() == (200, {})
    assert received == []
    thor.come_back("A")
    await asyncio.sleep(1)
    assert [(m["type"], m["transaction_id"]) for m in received] == [
        ("stop_transaction", 7),
        ("start", 8),
    ]
    assert thor.charges["A", 1].transaction == 8
    assert seconds_since_end(thor) == {7: 61}


@under_virtual_time
async def test_a_waiting_stop_ignores_a_charge_that_ended_offline(
    thor: ThorEmulator, client: Client
) -> None:
    thor.start_charge("A", 1, "T", 7)
    received = collect_notifications(thor)
    thor.go_offline("A")
    await client.stop()
    await asyncio.sleep(60)
    thor.end_charge("A", 1)
    await asyncio.sleep(60)
    thor.come_back("A")
    await asyncio.sleep(1)
    assert seconds_since_end(thor) == {7: 61}
    assert [message["type"] for message in received] == ["stop_transaction"]


@under_virtual_time
async def test_offline_notifications_wait_and_are_sent_once(
    thor: ThorEmulator, client: Client
) -> None:
    received = collect_notifications(thor)
    thor.go_offline("A")
    thor.start_charge("A", 1, "T", 7)
    thor.refuse_start("A", 2, "X")
    await asyncio.sleep(60)
    assert received == []
    for _ in range(2):
        thor.come_back("A")
        await asyncio.sleep(60)
        assert [message["transaction_id"] for message in received] == [7, 0]
        thor.go_offline("A")


@under_virtual_time
async def test_go_offline_and_come_back_may_be_repeated(thor: ThorEmulator, client: Client) -> None:
    thor.come_back("A")
    thor.go_offline("A")
    thor.go_offline("A")
    thor.come_back("A")
    thor.come_back("A")
    assert thor.offline == set()
    assert (await client.ask("GET", "chargeboxes/A"))[0] == 200


@under_virtual_time
async def test_a_replaced_charge_with_the_same_transaction_is_stopped(
    thor: ThorEmulator, client: Client
) -> None:
    received = collect_notifications(thor)
    thor.behaviours[None] = Behaviour(delay=(5.0, 5.0))
    charge = thor.start_charge("A", 1, "T", 7)
    await client.stop()
    thor.charges["A", 1] = msgspec.structs.replace(charge, energy=12_400.0)
    await asyncio.sleep(6)
    assert thor.charges == {}
    assert received[-1]["kwh"] == 12


@under_virtual_time
async def test_a_removed_charge_does_not_end(thor: ThorEmulator, client: Client) -> None:
    thor.behaviours[None] = Behaviour(delay=(5.0, 5.0))
    thor.start_charge("A", 1, "T", 7)
    await client.stop()
    del thor.charges["A", 1]
    await asyncio.sleep(6)
    assert thor.ledger.ended == {}


@under_virtual_time
async def test_a_late_report_of_an_end_keeps_the_next_charge(
    thor: ThorEmulator, client: Client
) -> None:
    thor.start_charge("A", 1, "T", 7)
    thor.go_offline("A")
    thor.end_charge("A", 1)
    del thor.charges["A", 1]
    other = thor.start_charge("A", 1, "T", 8)
    thor.come_back("A")
    assert thor.charges == {("A", 1): other}
    thor.end_charge("A", 1)
    assert thor.ledger.ended.keys() == {7, 8}


@pytest.mark.parametrize("end", ["end_charge", "unlock"])
async def test_an_end_needs_a_charge(end: str) -> None:
    thor = ThorEmulator()
    with pytest.raises(ValueError, match="no charge runs at 'A', 1"):
        getattr(thor, end)("A", 1)
    thor.start_charge("A", 1, "T", 7)
    getattr(thor, end)("A", 1)
    assert thor.charges == {}
    assert thor.ledger.ended == {7: -math.inf}


@under_virtual_time
async def test_a_crash_of_thor_does_not_stop_the_chargeboxes(
    thor: ThorEmulator, client: Client
) -> None:
    received = collect_notifications(thor, delay=(1.0, 1.0))
    thor.behaviours[None] = Behaviour(delay=(30.0, 30.0), next_driver=30.0)
    thor.start_charge("A", 1, "T", 7)
    await client.stop()
    await thor.refuse()
    await asyncio.sleep(62)
    assert thor.charges["A", 1].transaction == 8
    assert [message["type"] for message in received] == ["start", "stop_transaction", "start"]


def test_timers_are_cancelled_at_the_end() -> None:
    async def scenario() -> None:
        async with running_emulator() as (thor, client):
            received = collect_notifications(thor, delay=(5.0, 5.0))
            thor.behaviours = {
                "A": Behaviour(delay=(5.0, 5.0)),
                "B": Behaviour(next_driver=5.0),
            }
            for chargebox in "AB":
                thor.start_charge(chargebox, 1, "T")
                await client.stop(chargebox=chargebox)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await asyncio.sleep(60)
        assert thor.charges.keys() == {("A", 1)}
        assert received == []

    virtual_time.run(scenario)


def seconds_of_timers(count: int) -> float:
    """Returns the CPU time of `count` notifications that are due at the same time."""

    async def scenario() -> None:
        async with running_emulator() as (thor, _):
            received = collect_notifications(thor, delay=(60.0, 60.0))
            for number in range(count):
                thor.start_charge(f"box-{number}", 1, "T")
            await asyncio.sleep(61)
            assert len(received) == count
            assert not thor._clock._timers

    started = time.process_time()
    virtual_time.run(scenario)
    return time.process_time() - started


def test_timers_for_the_same_time_take_linear_time() -> None:
    seconds_of_timers(1)  # the first run imports and compiles
    assert seconds_of_timers(10_000) < 50 * seconds_of_timers(1_000)  # quadratic: over 100 times


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: Behaviour(delay=(2.0, 1.0)), "delay"),
        (lambda: Behaviour(refuses=1.1), "refuses=1.1"),
        (lambda: Behaviour(next_driver=-1.0), "next_driver -1"),
        (lambda: Behaviour(next_driver=math.nan), "next_driver nan"),
        (lambda: Behaviour(ignores=-1), "ignores -1"),
        (lambda: Behaviour(ignores=math.nan), "ignores nan"),
        (lambda: Notifications("box.example"), "box.example"),
        (lambda: Notifications(ignore, delay=(0.0, math.inf)), "delay"),
        (lambda: Notifications(ignore, lost=-0.1), "lost=-0.1"),
        (lambda: Notifications(ignore, doubled=2), "doubled=2"),
    ],
)
def test_bad_values(build: Callable[[], object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        build()


def test_the_random_generators_of_a_seed_differ() -> None:
    thor = ThorEmulator(seed=5)
    generators = (thor._rng, thor._charger_rng, thor._get_rng, thor._webhook_sender._rng)
    assert len({generator.random() for generator in generators}) == 4
    assert random.Random(5).random() == ThorEmulator(seed=5)._rng.random()
