"""A hook that ends the program costs no outcome, and the program ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop

from tests.fake_transport import OK, FakeTransport, fleet
from thor_async import (
    AttemptFinished,
    AttemptStarted,
    BatchPaused,
    CallFinished,
    CallStarted,
    Event,
    RetryPolicy,
    RetryScheduled,
    StopCharge,
    StopOutcome,
    Verdict,
)
from thor_async._protocol.http_messages import Answer

ends = pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
loops = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
LOOP = Callable[[], asyncio.AbstractEventLoop]


class Program:
    """Reads a stream, and keeps what it read and, at the end, what was unread."""

    def __init__(self, thor: FakeTransport) -> None:
        self.thor = thor
        self.pulled: list[StopCharge] = []
        self.outcomes: list[StopOutcome] = []

    def commands(self) -> Iterator[StopCharge]:
        for command in fleet(200):
            self.pulled.append(command)
            yield command

    async def main(self, settings: dict[str, Any]) -> None:
        async with self.thor.client(max_in_flight=4, **settings) as client:
            batch = client.stop_stream(self.commands())
            try:
                async with batch as stream:
                    async for outcome in stream:
                        self.outcomes.append(outcome)
            finally:
                self.outcomes += stream.unread

    def run(self, new_loop: LOOP, **settings: Any) -> None:
        with self.thor.installed(), asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(self.main(settings))

    def check(self) -> None:
        assert sorted(o.index for o in self.outcomes) == list(range(len(self.pulled)))
        for outcome in self.outcomes:
            sent = self.thor.sent[outcome.command.chargebox]
            assert (outcome.verdict is Verdict.NOT_SENT) == (sent == 0)


@loops
@ends
@pytest.mark.parametrize("is_once", [True, False])
@pytest.mark.parametrize(
    "kind",
    [CallStarted, AttemptStarted, AttemptFinished, CallFinished, RetryScheduled, BatchPaused],
)
def test_a_listener_that_ends_the_program_costs_no_outcome(
    kind: type[Event], is_once: bool, end: type[BaseException], new_loop: LOOP
) -> None:
    raised: list[None] = []

    def listener(event: Event) -> None:
        if isinstance(event, kind) and not (is_once and raised):
            raised.append(None)
            raise end("by a listener")

    is_down = kind in (RetryScheduled, BatchPaused)
    program = Program(FakeTransport(lambda *_: Answer(503) if is_down else OK, 0.0001))
    retry = RetryPolicy(initial_delay=0.0001, max_attempts=1 if kind is BatchPaused else 3)
    with pytest.raises(end, match="by a listener"):
        program.run(new_loop, on_event=listener, retry=retry)
    assert raised
    program.check()


@loops
@ends
def test_a_hook_that_ends_the_program_costs_no_outcome(
    end: type[BaseException], new_loop: LOOP
) -> None:
    def random(low: float, high: float) -> float:
        raise end("by a hook")

    program = Program(FakeTransport(lambda *_: Answer(503), 0.0001))
    with pytest.raises(end, match="by a hook"):
        program.run(new_loop, retry=RetryPolicy(random=random))
    assert program.outcomes
    program.check()


@ends
def test_a_single_stop_still_ends_the_program(end: type[BaseException]) -> None:
    def listener(event: Event) -> None:
        raise end("by a listener")

    thor = FakeTransport(lambda *_: OK)
    outcomes: list[StopOutcome] = []

    async def main() -> None:
        async with thor.client(on_event=listener) as client:
            outcomes.append(await client.stop_charge(next(fleet(1))))
            await asyncio.sleep(1)
            outcomes.clear()

    with thor.installed(), pytest.raises(end, match="by a listener"):
        asyncio.run(main())
    assert [outcome.verdict for outcome in outcomes] == [Verdict.RELAYED]
