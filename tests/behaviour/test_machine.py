"""Everything at once, by chance, under virtual time: no verdict may claim more than the truth.

A real client and a real server (aiohttp at both ends) in memory, on a clock that jumps. Hypothesis
chooses what users and Thor do; a failing run is printed, shrunk, and replays exactly.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests import virtual_time
from tests.conftest import KEY, TAG, shown
from thor_async import (
    BatchGaveUp,
    NotSentError,
    RetryPolicy,
    ServerError,
    StopCharge,
    StopOutcome,
    ThorClient,
    ThorError,
    Verdict,
)
from thor_async.emulator import Faults, ScriptedAnswer, ThorEmulator

IS_SOAK = os.environ.get("HYPOTHESIS_PROFILE") == "soak"

MAX_IN_FLIGHT = 8
TIMEOUT = 12.0
CHANCE = st.floats(0, 0.25)
CODES = st.sampled_from(
    ["NotInTransaction", "WrongTransaction", "ChargeboxNotFound", "ConnectorNotValid"]
)
STRANGE = [
    ScriptedAnswer(500, effect=True),
    ScriptedAnswer(500, b'{"message": "InternalServerError"}'),
    ScriptedAnswer(503, headers={"Retry-After": "3"}),
    ScriptedAnswer(503, headers={"Retry-After": "900"}),
    ScriptedAnswer(429, headers={"Retry-After": "1"}),
    ScriptedAnswer(drop=True),
    ScriptedAnswer(drop=True, effect=True),
    ScriptedAnswer(200, b"{}", effect=True, delay=5.0),
    ScriptedAnswer(200, b"<html>"),
    ScriptedAnswer(204),
    ScriptedAnswer(302, headers={"Location": "/elsewhere"}),
    ScriptedAnswer(403, b"who are you?"),
    ScriptedAnswer(999),
]
"""Answers of Thor, or of a proxy or firewall before it."""


class Calls:
    """Makes calls, and keeps what came of each command that was pulled."""

    def __init__(self) -> None:
        self.outcomes: list[StopOutcome] = []
        self.pulled: set[StopCharge] = set()
        self.tasks: dict[asyncio.Task[None], list[StopCharge]] = {}

    def start(self, work: Coroutine[Any, Any, None], commands: list[StopCharge]) -> None:
        self.tasks[asyncio.create_task(work)] = commands

    async def stop_one(
        self, client: ThorClient, command: StopCharge, timeout: float | None
    ) -> None:
        self.pulled.add(command)
        try:
            outcome = await client.stop_charge(command, timeout=timeout)
        except ThorError as error:
            self.check_is_safe(error)
            outcome = StopOutcome(
                command, 0, error.verdict, error, error.attempts, 0.0, error.maybe_applied
            )
        except asyncio.CancelledError:
            self.pulled.discard(command)
            raise
        self.outcomes.append(outcome)

    async def stop_list(
        self, client: ThorClient, commands: list[StopCharge], within: float | None
    ) -> None:
        try:
            outcomes = await client.stop_many(commands, within=within, give_up_after=20.0)
        except asyncio.CancelledError:
            return
        assert [outcome.command for outcome in outcomes] == commands
        self.pulled.update(commands)
        self.outcomes += outcomes

    async def stop_stream(
        self, client: ThorClient, commands: list[StopCharge], leave_after: int
    ) -> None:
        read: list[StopOutcome] = []
        batch = client.stop_stream(self.note_pulls(commands), give_up_after=20.0)
        try:
            async with batch as stream:
                async for outcome in stream:
                    read.append(outcome)
                    if len(read) == leave_after:
                        break
        except (BatchGaveUp, asyncio.CancelledError):
            pass  # both leave the outcomes of all that was pulled
        self.outcomes += read + stream.unread

    def note_pulls(self, commands: list[StopCharge]) -> Iterator[StopCharge]:
        for command in commands:
            self.pulled.add(command)
            yield command

    @staticmethod
    def check_is_safe(error: ThorError) -> None:
        assert KEY not in shown(error)
        assert TAG not in shown(error)

    def check_counts(self) -> None:
        counted = Counter(outcome.command for outcome in self.outcomes)
        assert set(counted) == self.pulled, "I1: one outcome for each that was pulled"
        assert set(counted.values()) <= {1}, "I1"


class World(Calls):
    """An emulated Thor, its client, all commands, and all outcomes."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.dice = random.Random(seed)
        self.key = KEY
        self.thor = ThorEmulator(api_key=KEY, sock=virtual_time.listener(), seed=seed)
        self.rests: list[float] = []
        self.made: list[StopCharge] = []
        self.cut: dict[StopCharge, int] = {}

    async def open(self) -> None:
        await self.thor.__aenter__()
        await self.open_client()

    async def open_client(self) -> None:
        policy = RetryPolicy(sleep=self.rest, random=self.dice.uniform)
        self.client = ThorClient(
            lambda: self.key,
            base_url=self.thor.base_url,
            retry=policy,
            timeout=TIMEOUT,
            attempt_timeout=2.0,
            max_in_flight=MAX_IN_FLIGHT,
        )
        await self.client.__aenter__()

    async def rest(self, seconds: float) -> None:
        self.rests.append(seconds)
        await asyncio.sleep(seconds)

    def commands(self, count: int, *, plugged: bool = True) -> list[StopCharge]:
        start = len(self.made)
        made = [
            StopCharge(f"box-{n}", 1, TAG, self.dice.choice([None, n + 1]))
            for n in range(start, start + count)
        ]
        if plugged:
            for n, command in enumerate(made, start + 1):
                self.thor.start_charge(command.chargebox, 1, TAG, n)
        self.made += made
        return made

    def received(self, command: StopCharge) -> list[Any]:
        requests = self.thor.ledger.requests
        return [r for r in requests if r.command and r.command.chargebox == command.chargebox]

    async def close(self) -> None:
        """Ends all faults, then waits for the end of every call."""
        self.thor.faults = Faults()
        self.thor.always(None)
        self.key = KEY
        await self.thor.accept()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.client.aclose()
        await asyncio.sleep(10)
        await self.thor.__aexit__()

    def check(self) -> None:
        """Checks the invariants of the fault matrix that need all outcomes."""
        self.check_counts()
        for outcome in self.outcomes:
            self.check_one(outcome)
        for command, requests in self.cut.items():
            assert len(self.received(command)) <= requests + 1, "I8: none after a cancel"
        assert all(0 <= seconds <= max(8.0, 3.0) for seconds in self.rests), "I7"
        assert self.thor.ledger.overclaims(self.outcomes) == [], "I5"

    def check_one(self, outcome: StopOutcome) -> None:
        requests = self.received(outcome.command)
        statuses = [request.status for request in requests]
        assert len(requests) <= 3, "I2"
        assert len(requests) <= outcome.attempts, "attempts are counted"
        if any(status and 400 <= status < 500 for status in statuses[:-1]):
            raise AssertionError("I4: a 4xx is followed by nothing")
        match outcome.verdict:
            case Verdict.NOT_SENT:
                assert requests == [], "I5"
            case Verdict.RELAYED:
                assert 200 in statuses, "I5"
            case Verdict.REJECTED:
                effects = [request for request in requests if request.effect]
                assert outcome.maybe_applied or not effects, "I5"
        assert outcome.elapsed <= TIMEOUT + 0.01, "the timeout bounds a call"
        assert TAG not in repr(outcome), "I9"
        assert (outcome.error is None) == (outcome.verdict is Verdict.RELAYED)
        if isinstance(outcome.error, ServerError):
            assert any(status is not None and status >= 500 for status in statuses)
        if outcome.attempts == 0:
            assert isinstance(outcome.error, NotSentError)


class Machine(RuleBasedStateMachine):
    """What users do, what Thor does, and time."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = virtual_time.connecting()
        self.patch.__enter__()
        self.runner = asyncio.Runner(loop_factory=virtual_time.new_loop)

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.world = World(seed)
        self.do(self.world.open)

    def do(self, work: Callable[[], Awaitable[None]]) -> None:
        async def run() -> None:
            await work()

        self.runner.run(run())

    @rule(timeout=st.sampled_from([None, 0.5, 3.0]), plugged=st.booleans())
    def stop_one(self, timeout: float | None, plugged: bool) -> None:
        async def work() -> None:
            (command,) = self.world.commands(1, plugged=plugged)
            self.world.start(self.world.stop_one(self.world.client, command, timeout), [command])

        self.do(work)

    @rule(count=st.integers(0, 120), within=st.sampled_from([None, 1.0, 10.0]))
    def stop_list(self, count: int, within: float | None) -> None:
        async def work() -> None:
            commands = self.world.commands(count)
            self.world.start(self.world.stop_list(self.world.client, commands, within), commands)

        self.do(work)

    @rule(count=st.integers(1, 120), leave_after=st.sampled_from([0, 1, 30, 999]))
    def stop_stream(self, count: int, leave_after: int) -> None:
        async def work() -> None:
            commands = self.world.commands(count)
            self.world.start(
                self.world.stop_stream(self.world.client, commands, leave_after), commands
            )

        self.do(work)

    @rule(seconds=st.sampled_from([0.001, 0.05, 1.0, 30.0, 3600.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.do(lambda: asyncio.sleep(seconds))

    @rule(which=st.integers(0, 1000))
    def cancel(self, which: int) -> None:
        running = [task for task in self.world.tasks if not task.done()]
        if not running:
            return

        async def work() -> None:
            task = running[which % len(running)]
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            for command in self.world.tasks[task]:
                self.world.cut[command] = len(self.world.received(command))

        self.do(work)

    @rule(chances=st.tuples(CHANCE, CHANCE, CHANCE, CHANCE), slow=st.sampled_from([0, 0.2, 3.0]))
    def thor_falls_ill(self, chances: tuple[float, ...], slow: float) -> None:
        error_before, error_after, drop_before, drop_after = (chance * 0.9 for chance in chances)
        self.world.thor.faults = Faults(
            error_before, error_after, drop_before, drop_after, 0.1, (0.0, slow)
        )

    @rule(answers=st.lists(st.sampled_from(STRANGE) | CODES, min_size=1, max_size=90))
    def thor_answers(self, answers: list[ScriptedAnswer | str]) -> None:
        self.world.thor.script(*answers)

    @rule(answer=st.sampled_from([None, 503, 403, "InternalServerError", "ChargeboxNotFound"]))
    def thor_always_answers(self, answer: int | str | None) -> None:
        self.world.thor.always(answer)

    @rule(seconds=st.sampled_from([0.01, 2.0, 40.0]))
    def thor_restarts(self, seconds: float) -> None:
        async def work() -> None:
            await self.world.thor.refuse()
            await asyncio.sleep(seconds)
            await self.world.thor.accept()

        self.do(work)

    @rule(right=st.booleans())
    def the_key_changes(self, right: bool) -> None:
        self.world.key = KEY if right else "another-key"

    @rule()
    def the_client_is_closed_and_a_new_one_built(self) -> None:
        async def work() -> None:
            await self.world.client.aclose()
            before = len(self.world.thor.ledger.requests)
            await asyncio.sleep(20)
            assert len(self.world.thor.ledger.requests) == before, "I8: none after closing"
            await self.world.open_client()

        self.do(work)

    @invariant()
    def nothing_is_over_its_limits(self) -> None:
        client = self.world.client
        assert 0 <= client._shared.limiter.in_flight <= MAX_IN_FLIGHT, "I3"
        assert client._runtime is not None
        assert 0 <= client._runtime.stops.context.budget.tokens <= 100, "I11"

    def teardown(self) -> None:
        try:
            self.do(self.world.close)
            self.world.check()
            assert self.world.client._shared.limiter.in_flight == 0, "I3"
        finally:
            self.runner.close()
            self.patch.__exit__(None, None, None)
            note_stops(len(self.world.outcomes))


stops = 0


def note_stops(count: int) -> None:
    global stops  # noqa: PLW0603 - the soak prints the number
    stops += count


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=3000 if IS_SOAK else 25,
    stateful_step_count=60 if IS_SOAK else 30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


async def test_without_a_fault_nothing_is_indeterminate() -> None:
    """I6, with refusals, slow answers and more commands than may be in flight."""
    commands = [StopCharge(f"box-{n}", 1, TAG) for n in range(300)]
    async with ThorEmulator(api_key=KEY, faults=Faults(latency=(0.0, 0.02))) as emulator:
        emulator.fill(commands[:100])
        for command in commands[100:200]:
            emulator.add_chargebox(command.chargebox)
        async with ThorClient(KEY, base_url=emulator.base_url) as thor:
            outcomes = await thor.stop_many(commands)
    codes = Counter(outcome.error.code if outcome.error else None for outcome in outcomes)
    assert codes == {None: 100, "NotInTransaction": 100, "ChargeboxNotFound": 100}
    assert not any(outcome.maybe_applied for outcome in outcomes)


if IS_SOAK:

    def test_the_soak_was_long_enough() -> None:
        print(f"{stops:,} simulated stops")
        assert stops >= 1_000_000
