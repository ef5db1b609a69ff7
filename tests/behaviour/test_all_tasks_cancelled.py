"""Every task of the loop is cancelled, as some frameworks do at their end: no stop is lost."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import msgspec
import pytest

import thor_async._client
from tests import virtual_time
from thor_async import (
    BatchGaveUp,
    Confirmation,
    ResponseTimeout,
    StopCharge,
    StopOutcome,
    ThorClient,
    Verdict,
)
from thor_async._protocol.http_messages import Answer, Request
from thor_async._transport.deadlines import Deadlines

ROW = {"id": 9, "chargebox": "box", "connector": 1, "id_tag": "tag"}
RUNNING = Answer(200, msgspec.json.encode({"count": 1, "items": [ROW]}))
NOTHING = Answer(200, b'{"count":0,"items":[]}')
MOMENTS = (0.0, 0.01, 0.02, 2.0, 2.02, 2.03, 5.0, 5.01, 6.0)


class Transport:
    """Answers after 10 ms; the charge runs until it was stopped, or for ever."""

    session = SimpleNamespace(closed=False)

    def __init__(self, answer: Answer, *, ends: bool) -> None:
        self.answer = answer
        self.ends = ends
        self.posts = 0

    def __call__(self, *_: Any) -> Transport:
        return self

    async def close(self) -> None: ...

    async def send(
        self, request: Request, key: str, seconds: float, deadlines: Deadlines
    ) -> Answer | ResponseTimeout:
        self.posts += request.method == "POST"
        is_over = self.ends and self.posts > 0
        try:
            with deadlines.limit(seconds):
                await asyncio.sleep(0.01)
        except TimeoutError:
            return ResponseTimeout("no answer in time")
        if request.method == "POST":
            return self.answer
        return NOTHING if is_over else RUNNING


def pull(pulled: list[StopCharge]) -> Iterator[StopCharge]:
    for transaction in (None, 9):
        pulled.append(StopCharge("box", 1, "tag", transaction))
        yield pulled[-1]


def open_stream(client: ThorClient, call: str, commands: Iterator[StopCharge]) -> Any:
    if call == "confirm":
        return client.stop_and_confirm_stream(commands, within=5.0)
    if call == "ensure":
        return client.ensure_stopped_stream(commands, within=5.0)
    return client.stop_stream(commands, pin=call == "pin")


async def cancel_all(but: set[Any], moment: float, rounds: int, times: int) -> None:
    await asyncio.sleep(moment)
    for _ in range(rounds):
        await asyncio.sleep(0)
    for _ in range(times):
        for task in asyncio.all_tasks() - but - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)


async def run(transport: Transport, call: str, moment: float, rounds: int, times: int) -> None:
    with mock.patch.object(thor_async._client, "Transport", transport):
        async with ThorClient("key", base_url="http://127.0.0.1:1") as client:
            reader = {asyncio.current_task()}
            killer = asyncio.create_task(cancel_all(reader, moment, rounds, times))
            pulled: list[StopCharge] = []
            found: list[StopOutcome | Confirmation] = []
            stream = open_stream(client, call, pull(pulled))
            async with stream:
                try:
                    async for outcome in stream:
                        found.append(outcome)
                except BatchGaveUp:
                    assert moment < 1
            found += stream.unread
            await killer
    outcomes = [each.outcome if isinstance(each, Confirmation) else each for each in found]
    assert len(outcomes) == len(pulled)
    sent = [outcome for outcome in outcomes if outcome.verdict is not Verdict.NOT_SENT]
    assert (len(sent) > 0) == (transport.posts > 0)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("answer", [Answer(200, b"{}"), Answer(400, b"ChargeboxNotFound")])
@pytest.mark.parametrize("call", ["stop", "pin", "confirm", "ensure"])
def test_no_stop_is_lost_when_every_task_is_cancelled(
    call: str, answer: Answer, ends: bool, times: int
) -> None:
    for moment, rounds in itertools.product(MOMENTS, range(8)):
        transport = Transport(answer, ends=ends)
        virtual_time.run(lambda: run(transport, call, moment, rounds, times))  # noqa: B023
