"""The ledger records what happened, and finds every overclaim of a client."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.conftest import wait_until
from tests.emulator.harness import Client, logged, outcome, under_virtual_time
from thor_async.emulator import (
    Behaviour,
    Faults,
    Ledger,
    LoggedRequest,
    ScriptedAnswer,
    StopBody,
    ThorEmulator,
)


@under_virtual_time
async def test_an_entry_has_the_command_and_the_time(thor: ThorEmulator, client: Client) -> None:
    started = asyncio.get_running_loop().time()
    thor.faults = Faults(latency=(60.0, 60.0))
    await client.stop(transaction=7)
    await client.stop()
    first, second = thor.ledger.requests
    assert first.command == StopBody("A", 1, "T", 7)
    assert second.command == StopBody("A", 1, "T", None)
    assert [round(r.at - started) for r in (first, second)] == [0, 60]


@under_virtual_time
async def test_a_client_that_leaves_during_the_delay(thor: ThorEmulator, client: Client) -> None:
    charge = thor.start_charge("A", 1, "T")
    thor.script(ScriptedAnswer(200, effect=True, delay=60))
    await client.abandoned_stop(lambda: thor.ledger.effects)
    await asyncio.sleep(61)
    assert logged(thor) == [(None, None, charge.transaction)]


@under_virtual_time
async def test_a_client_that_leaves_does_not_stop_the_work(
    thor: ThorEmulator, client: Client
) -> None:
    charge = thor.start_charge("A", 1, "T")
    thor.faults = Faults(latency=(60.0, 60.0))
    await client.abandoned_stop(lambda: thor.ledger.requests)
    assert logged(thor) == [(None, None, None)]
    await asyncio.sleep(61)
    assert not thor.charges
    assert logged(thor) == [(None, None, charge.transaction)]


async def test_an_incomplete_request_is_not_recorded(thor: ThorEmulator) -> None:
    port = int(thor.base_url.split(":")[2].split("/")[0])
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /latest/integration/charges/stop HTTP/1.1\r\nHost: x\r\n")
    writer.write(b"Content-Length: 90\r\n\r\n{")
    await wait_until(lambda: thor._handlers)
    writer.close()
    await writer.wait_closed()
    await wait_until(lambda: not thor._handlers)
    assert thor.ledger.requests == []


def ledger(*answers: tuple[int | None, int | None], id_tag: str = "T") -> Ledger:
    """Returns the ledger of requests with equal fields, given as (status, effect)."""
    record = Ledger()
    for status, effect in answers:
        command = StopBody("A", 1, id_tag)
        record.requests.append(LoggedRequest(command, True, 0.0, status, None, effect))
    return record


RELAYED, NOT_SENT, REJECTED = outcome("relayed"), outcome("not_sent"), outcome("rejected")

MAYBE_REJECTED, LOST = outcome("rejected", True), outcome("indeterminate", True)

MAYBE_TWICE = outcome("relayed", True)


@pytest.mark.parametrize(
    ("answers", "outcomes"),
    [
        ([], [NOT_SENT, LOST]),
        ([], [NOT_SENT, NOT_SENT]),
        ([(200, 1)], [RELAYED]),
        ([(200, None)], [RELAYED]),
        ([(429, None), (200, 1)], [RELAYED]),
        ([(500, 1), (200, 2)], [MAYBE_TWICE]),
        ([(500, None)], [outcome("indeterminate"), NOT_SENT]),
        ([(500, 1), (400, None)], [MAYBE_REJECTED]),
        ([(None, 1)], [LOST]),
        ([(400, None)], [REJECTED]),
        ([(429, None), (429, None)], [REJECTED]),
        ([(200, 1), (200, 2)], [RELAYED, RELAYED]),
        ([(200, 1), (400, None)], [RELAYED, REJECTED]),
        ([(200, 1)], [RELAYED, NOT_SENT]),
        ([(500, None), (200, 1)], [MAYBE_TWICE, NOT_SENT]),
        ([(400, None)], [REJECTED, NOT_SENT]),
        ([(None, 1), (400, None)], [LOST, REJECTED]),
    ],
)
def test_honest_outcomes_are_no_overclaims(
    answers: list[tuple[int | None, int | None]], outcomes: list[Any]
) -> None:
    assert ledger(*answers).overclaims(outcomes) == []


@pytest.mark.parametrize(
    ("answers", "outcomes", "overclaims"),
    [
        ([], [RELAYED], [RELAYED]),
        ([(400, None)], [RELAYED], [RELAYED]),
        ([(None, 1)], [RELAYED], [RELAYED]),
        ([(204, 1)], [RELAYED], [RELAYED]),
        ([(500, 1)], [MAYBE_TWICE], [MAYBE_TWICE]),
        ([(None, None)], [NOT_SENT], [NOT_SENT]),
        ([(400, None)], [NOT_SENT], [NOT_SENT]),
        ([(500, 1)], [REJECTED], [REJECTED]),
        ([(None, 1), (400, None)], [REJECTED], [REJECTED]),
        ([(200, 1)], [RELAYED, RELAYED], [RELAYED]),
        ([(200, 1), (None, 2)], [RELAYED, RELAYED, RELAYED], [RELAYED, RELAYED]),
        ([(200, 1), (None, None)], [RELAYED, NOT_SENT], [NOT_SENT]),
        ([(200, 1), (500, 2)], [RELAYED, REJECTED], [REJECTED]),
        ([(400, None), (500, None)], [REJECTED, NOT_SENT], [NOT_SENT]),
        ([(None, None)], [NOT_SENT, NOT_SENT], [NOT_SENT]),
        ([(400, None)], [RELAYED, LOST], [RELAYED]),
    ],
)
def test_every_kind_of_overclaim_is_found(
    answers: list[tuple[int | None, int | None]], outcomes: list[Any], overclaims: list[Any]
) -> None:
    assert ledger(*answers).overclaims(outcomes) == overclaims


def test_commands_with_other_fields_are_counted_apart() -> None:
    overclaim = outcome("relayed", id_tag="X")
    assert ledger((200, 1)).overclaims([RELAYED, overclaim]) == [overclaim]
    assert ledger((200, 1)).overclaims([outcome("not_sent", id_tag="X")]) == []


def seconds_to_compare(count: int) -> float:
    """Returns the CPU time of `overclaims` for `count` outcomes, of which one is an overclaim."""
    record, outcomes = Ledger(), []
    for number in range(count):
        record.requests += ledger((500, None), (200, number), id_tag=f"T{number}").requests
        outcomes.append(outcome("relayed", id_tag=f"T{number}"))
    overclaim = outcome("not_sent", id_tag="T5")
    outcomes[5] = overclaim
    started = time.process_time()
    assert record.overclaims(outcomes) == [overclaim]
    return time.process_time() - started


def test_the_time_of_overclaims_grows_with_the_number_of_outcomes() -> None:
    assert seconds_to_compare(20_000) < 150 * seconds_to_compare(1_000)  # quadratic: 400 times


async def test_overclaims_after_a_real_request(thor: ThorEmulator, client: Client) -> None:
    thor.start_charge("A", 1, "T")
    await client.stop()
    assert thor.ledger.overclaims([RELAYED]) == []
    assert thor.ledger.overclaims([NOT_SENT, REJECTED])


@under_virtual_time
async def test_a_stop_that_the_chargebox_refused_has_an_effect(
    thor: ThorEmulator, client: Client
) -> None:
    thor.behaviours[None] = Behaviour(refuses=1.0)
    thor.start_charge("A", 1, "T")
    thor.script(ScriptedAnswer(500, effect=True), "NotInTransaction")
    await client.stop()
    await client.stop()
    assert thor.ledger.overclaims([outcome("rejected", True)]) == []
    overclaim = outcome("rejected")
    assert thor.ledger.overclaims([overclaim]) == [overclaim]
