"""Who may be sent while Thor refuses the account or seems down; under virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests import virtual_time
from tests.worker.test_settlement import outcome
from thor_async import APIKeyNotFound, InternalServerError, NotSentError, ServerError, ThorError
from thor_async.worker.gate import Gate

REFUSED = outcome(APIKeyNotFound("no", status=403, code="APIKeyNotFound"))
RELAYED = outcome(None)


def silent() -> ThorError:
    return NotSentError("no", reason="connect")


async def is_held(gate: Gate) -> bool:
    try:
        async with asyncio.timeout(0.5):
            await gate.enter()
    except TimeoutError:
        return True
    return False


def in_virtual_time(test: Callable[[Gate], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        async def main() -> None:
            gate = Gate()
            await test(gate)
            gate.shut()

        virtual_time.run(main)

    return run


@in_virtual_time
async def test_one_account_error_holds_all_but_probes(gate: Gate) -> None:
    loop = asyncio.get_running_loop()
    assert await gate.enter() == "send"
    gate.learn(REFUSED, "send")
    gate.learn(REFUSED, "send")
    waits = []
    for _ in range(6):
        learnt = loop.time()
        assert await gate.enter() == "probe"
        waits.append(loop.time() - learnt)
        assert await is_held(gate)
        gate.learn(REFUSED, "probe")
    assert waits == pytest.approx([1, 2, 4, 8, 15, 15], abs=0.01)
    gate.learn(RELAYED, "send")  # from before
    assert gate.is_paused
    gate.learn(RELAYED, "probe")
    assert not gate.is_paused
    assert await gate.enter() == "send"


@in_virtual_time
async def test_a_thor_that_seems_down_holds_after_64(gate: Gate) -> None:
    for _ in range(63):
        gate.learn(outcome(silent()), "send")
    gate.learn(RELAYED, "send")
    for _ in range(63):
        gate.learn(outcome(ServerError("no", status=503)), "send")
    own = InternalServerError("no", status=500, code="InternalServerError")
    gate.learn(outcome(own), "send")
    for _ in range(64):
        assert not gate.is_paused
        gate.learn(outcome(silent()), "send")
    assert gate.is_paused
    assert await gate.enter() == "probe"
    gate.learn(outcome(own), "probe")
    assert await gate.enter() == "send"


@in_virtual_time
async def test_a_probe_that_came_to_nothing_passes_its_turn_on(gate: Gate) -> None:
    gate.learn(REFUSED, "send")
    assert await gate.enter() == "probe"
    gate.learn(outcome(NotSentError("no", reason="expired")), "probe")
    assert await gate.enter() == "probe"
    gate.pass_on("probe")
    assert not await is_held(gate)


@pytest.mark.parametrize("is_paused", [False, True])
def test_a_shut_gate_lets_nobody_through(is_paused: bool) -> None:
    async def main() -> None:
        gate = Gate()
        if is_paused:
            gate.learn(REFUSED, "send")
        waiting = asyncio.create_task(gate.enter())
        await asyncio.sleep(0.1)
        gate.shut()
        assert await waiting == (None if is_paused else "send")
        assert await gate.enter() is None

    virtual_time.run(main)
