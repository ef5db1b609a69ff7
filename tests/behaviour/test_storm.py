"""Many calls of several accounts at once, by chance, under virtual time and without a socket.

Unlike the rule-based machine, its listeners end the program, its accounts have rate limits, and its
clients share connections. A failing seed replays exactly. `HYPOTHESIS_PROFILE=soak` runs thousands.
"""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Coroutine
from typing import Any

import pytest

from tests import virtual_time
from tests.behaviour.test_machine import IS_SOAK, Calls
from tests.fake_transport import OK, FakeTransport, fleet, refused, thor_says
from thor_async import (
    Event,
    NotSentError,
    RetryPolicy,
    StopCharge,
    StopOutcome,
    ThorClient,
    ThorError,
    Verdict,
)
from thor_async._protocol.http_messages import Answer, Request
from thor_async._transport.deadlines import Deadlines

MAX_IN_FLIGHT = 8
RATES = [None, 5.0, 40.0]
"""The max_rate of each account."""
SLOT = 1 / 40
"""Most happens at multiples of it, so that much happens at the same time."""


class Thor(FakeTransport):
    """Accounts with token buckets and keys, outages, and faults; what each command met."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__(self.decide, 0.05)
        self.dice = dice
        self.key = ""
        self.tokens: defaultdict[str, tuple[float, float]] = defaultdict(lambda: (20.0, 0.0))
        self.begun: defaultdict[str, list[float]] = defaultdict(list)
        self.met: defaultdict[str, list[int | None]] = defaultdict(list)
        self.faults = 0.0
        self.outage: Answer | ThorError | None = OK

    async def send(
        self, request: Request, key: str, seconds: float, deadlines: Deadlines
    ) -> Answer | ThorError:
        self.key = key
        self.begun[key.removeprefix("wrong-")].append(asyncio.get_running_loop().time())
        self.latency = SLOT * self.dice.randrange(9)
        return await super().send(request, key, seconds, deadlines)

    def decide(self, command: StopCharge, now: float) -> Answer | ThorError | None:
        answer = self._choose(now)
        if not isinstance(answer, NotSentError):
            self.met[command.chargebox].append(getattr(answer, "status", None))
        return answer

    def _choose(self, now: float) -> Answer | ThorError | None:
        if self.outage is not OK:
            return refused() if isinstance(self.outage, NotSentError) else self.outage
        if self.key.startswith("wrong-"):
            return thor_says("APIKeyNotFound", 403)
        tokens, at = self.tokens[self.key]
        tokens = min(20.0, tokens + 20.0 * (now - at))
        self.tokens[self.key] = max(0.0, tokens - 1), now
        if tokens < 1:
            wait = self.dice.choice([None, "1"])
            return Answer(429, b'{"message": "TooManyRequests"}', retry_after=wait)
        if self.dice.random() >= self.faults:
            return OK
        codes = [("InternalServerError", 500), ("ChargeboxNotFound", 404), ("Bad Gateway", 502)]
        return self.dice.choice([None, refused(), *(thor_says(*code) for code in codes)])


class Storm(Calls):
    """The clients of some accounts, and all that they go through."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.dice = random.Random(seed)
        self.thor = Thor(self.dice)
        self.wrong_keys: set[int] = set()
        self.made = self.interrupts = 0
        self.clients: list[ThorClient] = []

    def settings(self, account: int) -> dict[str, Any]:
        def key() -> str:
            return f"wrong-{account}" if account in self.wrong_keys else f"{account}"

        policy = RetryPolicy(
            retry_throttled=account != 1,
            retry_not_sent=account == 2,
            random=self.dice.uniform,
        )
        return {"api_key": key, "retry": policy, "max_rate": RATES[account]}

    def listen(self, event: Event) -> None:
        if self.dice.random() < 0.01:
            raise KeyboardInterrupt

    async def main(self) -> None:
        first = ThorClient(
            base_url="http://127.0.0.1:1/x",
            max_in_flight=MAX_IN_FLIGHT,
            attempt_timeout=3.0,
            on_event=self.listen,
            **self.settings(0),
        )
        async with first:
            self.clients = [first, self.new_client(first, 1), self.new_client(first, 2)]
            for _ in range(150):
                await asyncio.sleep(SLOT * self.dice.randrange(28))
                await self.dice.choice(self.DEEDS)(self)
                if self.dice.random() < 0.1:
                    await self.dice.choice([self.cancel, self.cancel_any_task])()
            self.calm_down()
            await self.wait_for_calls()
            for client in self.clients:
                [command] = self.commands(1)
                await self.stop_one(client, command, 300.0)
                assert self.outcomes[-1].verdict is Verdict.RELAYED, "no permit and no turn is lost"
            self.check_nothing_is_held()
            for client in self.clients:
                self.call(self.stop_list(client, self.commands(100), None))
            await asyncio.sleep(self.dice.uniform(0, 3))
        await self.wait_for_calls()
        assert self.thor.in_flight == 0

    async def wait_for_calls(self) -> None:
        ends = await asyncio.gather(*self.tasks, return_exceptions=True)
        assert [end for end in ends if isinstance(end, Exception)] == []

    def new_client(self, first: ThorClient, account: int) -> ThorClient:
        return first.with_options(on_event=self.listen, **self.settings(account))

    def commands(self, count: int) -> list[StopCharge]:
        self.made += count
        return list(fleet(count, start=self.made - count))

    def call(self, work: Coroutine[Any, Any, None]) -> None:
        self.start(work, [])

    async def call_one(self) -> None:
        client, [command] = self.dice.choice(self.clients), self.commands(1)
        self.call(self.stop_one(client, command, self.dice.choice([None, 0.5, 5.0])))

    async def call_list(self) -> None:
        commands = self.commands(self.dice.randrange(60))
        within = self.dice.choice([None, 2.0, 20.0])
        self.call(self.stop_list(self.dice.choice(self.clients), commands, within))

    async def call_stream(self) -> None:
        commands = self.commands(self.dice.randrange(1, 60))
        leave_after = self.dice.choice([0, 1, 20, 999])
        self.call(self.stop_stream(self.dice.choice(self.clients), commands, leave_after))

    async def cancel(self) -> None:
        running = [task for task in self.tasks if not task.done()]
        for task in self.dice.sample(running, min(2, len(running))):
            task.cancel()

    async def cancel_any_task(self) -> None:
        """Also a task of a batch, which may not have begun."""
        running = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        # In a fixed order: a set has none.
        running.sort(key=lambda task: int(task.get_name().rpartition("-")[2]))
        for task in self.dice.sample(running, min(2, len(running))):
            task.cancel()

    async def close_a_client(self) -> None:
        account = self.dice.choice([1, 2])
        await self.clients[account].aclose()
        self.clients[account] = self.new_client(self.clients[0], account)

    async def change_keys(self) -> None:
        self.wrong_keys = self.dice.choice([set(), set(), {0}, {1, 2}])

    async def change_weather(self) -> None:
        self.thor.faults = self.dice.choice([0.0, 0.1, 0.4])
        self.thor.outage = self.dice.choice([OK, OK, OK, Answer(503), refused(), None])

    def calm_down(self) -> None:
        self.wrong_keys, self.thor.faults, self.thor.outage = set(), 0.0, OK

    DEEDS = (
        *(call_one, call_list, call_stream) * 3,
        *(cancel, cancel_any_task) * 2,
        close_a_client,
        change_keys,
        change_weather,
    )

    def run(self) -> None:
        """Runs on after each KeyboardInterrupt, as a program that catches it would."""
        complaints: list[Any] = []
        with virtual_time.connecting(), self.thor.installed():
            loop = virtual_time.new_loop()
            loop.set_exception_handler(lambda _, context: complaints.append(context))
            main = loop.create_task(self.main())
            try:
                while not main.done():
                    try:
                        loop.run_until_complete(main)
                    except KeyboardInterrupt:
                        self.interrupts += 1
                main.result()
                assert asyncio.all_tasks(loop) == set()
            finally:
                loop.close()
        assert complaints == []

    def check_nothing_is_held(self) -> None:
        assert self.clients[0]._shared.limiter.in_flight == self.thor.in_flight == 0
        for client in self.clients:
            assert client._runtime is not None
            pace = client._runtime.pace
            assert not any(pace._taken.values())
            assert not any(pace._waiters.values())
            for dispatcher in client._runtime.dispatchers:
                assert (dispatcher.in_flight, dispatcher.unpermitted) == (0, 0)
                assert not dispatcher._waits

    def check(self) -> None:
        self.check_counts()
        for outcome in self.outcomes:
            self.check_one(outcome)
        assert self.thor.most_in_flight <= MAX_IN_FLIGHT
        for account, rate in enumerate(RATES):
            if rate is not None:
                self.check_rate(self.thor.begun[f"{account}"], rate)

    def check_one(self, outcome: StopOutcome) -> None:
        met = self.thor.met[outcome.command.chargebox]
        assert len(met) <= outcome.attempts
        assert len(met) - met.count(429) <= 3
        unsure = [status for status in met if status is None or status == 200 or status >= 500]
        match outcome.verdict:
            case Verdict.NOT_SENT:
                assert met == []
            case Verdict.RELAYED:
                assert met[-1] == 200
            case Verdict.REJECTED:
                assert outcome.maybe_applied == bool(unsure)

    @staticmethod
    def check_rate(begun: list[float], rate: float) -> None:
        """Checks each second. A late request may be followed by one that is a slot early."""
        for place, at in enumerate(begun):
            assert bisect_right(begun, at + 1 - 1e-9) - place <= rate + 2


@pytest.mark.parametrize("seed", range(2000 if IS_SOAK else 20))
def test_a_storm_loses_nothing_and_stays_within_its_limits(seed: int) -> None:
    storm = Storm(seed)
    storm.run()
    storm.check()
    assert storm.interrupts
