"""Reading lists: a budget of their own, whole lists in turns, and what a look returns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tests.conftest import KEY, Rests
from thor_async import NotSentError, RetryPolicy, RunningCharge, ServerError, UnexpectedResponse
from thor_async._config import ApiKey, check_key, resolve_key
from thor_async._dispatch.dispatcher import Dispatcher
from thor_async._dispatch.limiter import PriorityLimiter
from thor_async._list_reader import ListReader
from thor_async._protocol.http_messages import Answer, Request
from thor_async._retry import RetryBudget
from thor_async._stop import RequestContext
from thor_async._transport.deadlines import Deadlines


class ScriptedTransport:
    """Answers each request by the next of `answers`; the last one stays."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.urls: list[str] = []

    async def send(
        self, request: Request, key: str, seconds: float, deadlines: Deadlines
    ) -> Answer:
        self.urls.append(request.url)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def running(count: int) -> Answer:
    items = [{"id": n + 1, "chargebox": f"box-{n}", "connector": 1} for n in range(count)]
    return Answer(200, msgspec.json.encode({"count": count, "items": items}))


@pytest.fixture
def budget() -> RetryBudget:
    return RetryBudget()


Make = Callable[..., ListReader]


@pytest.fixture
def make(budget: RetryBudget, rests: Rests) -> Make:
    def make(
        transport: Any, policy: RetryPolicy | None = None, key: ApiKey | None = None
    ) -> ListReader:
        context = RequestContext(
            transport, key or check_key(KEY), policy or rests.policy(), budget, 10.0
        )
        return ListReader(context, Dispatcher(PriorityLimiter(2)), "http://thor.example", 30.0)

    return make


async def test_a_list_is_retried_and_paid_for_by_its_own_budget(
    make: Make, budget: RetryBudget
) -> None:
    transport = ScriptedTransport(Answer(503), running(2))
    charges = await make(transport).running_charges()
    assert isinstance(charges, list)
    assert [charge.chargebox for charge in charges] == ["box-0", "box-1"]
    assert len(transport.urls) == 2
    assert budget.tokens == 100  # one taken, one given back


async def test_one_chargebox_is_requested_by_its_name(make: Make) -> None:
    transport = ScriptedTransport(running(0))
    assert await make(transport).running_charges("a b") == []
    assert transport.urls == ["http://thor.example/charges/running?chargebox=a%20b"]


async def test_a_look_is_tried_once(make: Make, budget: RetryBudget) -> None:
    transport = ScriptedTransport(Answer(503, retry_after="7"))
    error = await make(transport).running_charges_once()
    assert isinstance(error, ServerError)
    assert (error.retry_after, len(transport.urls), budget.tokens) == (7.0, 1, 100)


def closed_vault() -> str:
    raise OSError("the vault is closed")


async def test_a_key_function_that_fails_is_an_error_of_a_look_and_raised_by_a_call(
    make: Make,
) -> None:
    reader = make(ScriptedTransport(running(1)), key=resolve_key(closed_vault))
    error = await reader.running_charges_once()
    assert isinstance(error, NotSentError)
    assert "OSError" in error.message
    with pytest.raises(OSError, match="vault"):
        await reader.running_charges()


async def test_a_list_that_is_not_whole_is_an_error(make: Make) -> None:
    body = b'{"count": 2, "items": [{"id": 1, "chargebox": "A", "connector": 1}]}'
    error = await make(ScriptedTransport(Answer(200, body))).running_charges()
    assert isinstance(error, UnexpectedResponse)
    rows = b'[{"id": "box-1", "alias": "North"}]'
    boxes = await make(ScriptedTransport(Answer(200, rows))).chargeboxes()
    assert isinstance(boxes, list)
    assert boxes[0].alias == "North"


async def test_other_tasks_run_while_a_long_list_is_decoded(make: Make) -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count_turns())
    charges = await make(ScriptedTransport(running(20_000))).running_charges()
    counting.cancel()
    assert isinstance(charges, list)
    assert len(charges) == 20_000
    assert all(isinstance(charge, RunningCharge) for charge in charges)
    assert turns >= 20
