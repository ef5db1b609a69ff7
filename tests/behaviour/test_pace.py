"""What a limit of requests a second does to a batch, from end to end."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import statistics
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from tests import virtual_time
from tests.fake_transport import OK, FakeTransport, fleet, thor_says
from thor_async import (
    NotSentError,
    RejectedError,
    RetryPolicy,
    StopCharge,
    StopOutcome,
    ThorClient,
    ThorError,
    TooManyRequests,
    Verdict,
)
from thor_async._protocol.http_messages import Answer
from thor_async.emulator import RateLimits, ThorEmulator

THROTTLED = thor_says("TooManyRequests", 429)
QUOTA = thor_says("Limit Exceeded", 429)
OUTLASTS = RetryPolicy(retry_throttled=True)


class Account:
    """A Thor whose account has a token bucket, which starts full.

    With `jitter`, latencies are drawn within 20 % of the given one.
    """

    def __init__(self, rate: float, burst: float, latency: float = 0.05) -> None:
        self.rate, self.burst, self._tokens, self._at = rate, burst, burst, 0.0
        self.answers: Counter[int] = Counter()
        self.thor, self.latency = FakeTransport(self.reply, latency), latency
        self.jitter: Callable[[float, float], float] | None = None

    def reply(self, command: StopCharge, now: float) -> Answer:
        if self.jitter is not None:
            self.thor.latency = self.latency * self.jitter(0.8, 1.2)
        self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
        self._at = now
        answer = OK if self._tokens >= 1 else THROTTLED
        self._tokens -= answer is OK
        self.answers[answer.status] += 1
        return answer

    def run(self, *batches: int, retry_throttled: bool = True, **settings: Any) -> Run:
        """Stops so many charges with a client for each batch, at the same time."""
        retry = RetryPolicy(retry_throttled=retry_throttled, random=random.Random(2).uniform)

        async def stop(count: int) -> tuple[list[StopOutcome], float]:
            async with self.thor.client(retry=retry, **settings) as client:
                outcomes = await client.stop_many(fleet(count))
                return outcomes, asyncio.get_running_loop().time()

        async def main() -> Run:
            ends = await asyncio.gather(*(stop(count) for count in batches))
            return Run([outcome for many, _ in ends for outcome in many], [end for _, end in ends])

        with self.thor.installed():
            return virtual_time.run(main)

    @property
    def throttled(self) -> float:
        return self.answers[429] / self.answers.total()


class Run:
    def __init__(self, outcomes: list[StopOutcome], ends: list[float]) -> None:
        self.outcomes, self.ends = outcomes, ends
        self.relayed = sum(outcome.verdict is Verdict.RELAYED for outcome in outcomes)


@pytest.mark.parametrize(
    ("rate", "burst", "latency"), [(5, 5, 0.05), (20, 200, 0.05), (50, 50, 0.3), (100, 400, 0.05)]
)
def test_a_batch_finds_the_pace_and_loses_nothing(
    rate: float, burst: float, latency: float
) -> None:
    account = Account(rate, burst, latency)
    run = account.run(2000)
    assert run.relayed == 2000
    assert run.ends[0] <= (2000 - burst) / rate * 1.05
    assert account.throttled <= (0.1 if rate == 5 else 0.035)


def test_several_clients_share_an_account() -> None:
    unfairness = []
    for seed in range(5):
        account = Account(50, 50)
        account.jitter = random.Random(seed).uniform
        run = account.run(2000, 2000, 2000, 2000)
        assert run.relayed == 8000
        assert max(run.ends) <= (8000 - 50) / 50 * 1.08
        assert account.throttled <= 0.05
        unfairness.append(max(run.ends) / min(run.ends))
    # The shares differ by chance: `benchmarks.throttle` has the figures over many accounts.
    assert statistics.median(unfairness) <= 1.6


@pytest.mark.parametrize(("rate", "burst", "count"), [(50, 5, 500), (100, 3, 1000), (20, 2, 300)])
def test_a_small_burst_is_soon_outgrown(rate: float, burst: float, count: int) -> None:
    """Of it the first guess of the limit knows hardly anything."""
    account = Account(rate, burst)
    run = account.run(count)
    assert run.relayed == count
    assert run.ends[0] <= (count - burst) / rate * 1.75
    assert account.answers[429] <= 40


@pytest.mark.parametrize("latency", [0.05, 0.3])
def test_without_retries_only_what_met_the_limit_is_lost(latency: float) -> None:
    account = Account(50, 50, latency)
    run = account.run(2000, retry_throttled=False)
    assert run.relayed >= 0.95 * 2000
    lost = [outcome for outcome in run.outcomes if outcome.error is not None]
    assert all(type(outcome.error) is TooManyRequests for outcome in lost)
    assert all((outcome.next_step, outcome.attempts) == ("resend", 1) for outcome in lost)


def test_below_a_known_limit_there_is_no_429() -> None:
    account = Account(50, 50)
    run = account.run(2000, max_rate=47.5)
    assert run.relayed == 2000
    assert account.answers[429] == 0
    assert run.ends[0] == pytest.approx(2000 / 47.5, rel=0.01)


def test_a_single_stop_goes_before_a_paced_batch() -> None:
    account = Account(1e9, 1e9)

    async def main() -> float:
        loop = asyncio.get_running_loop()
        async with (
            account.thor.client(max_rate=10.0) as client,
            client.stop_stream(fleet(1000)) as stream,
        ):
            async for outcome in stream:
                if outcome.index == 20:
                    break
            began = loop.time()
            await client.stop_charge(StopCharge("urgent", 1, "tag"))
            return loop.time() - began

    with account.thor.installed():
        assert virtual_time.run(main) <= 0.1 + 0.05


def test_a_single_stop_waits_for_no_permit_of_a_paced_batch() -> None:
    account = Account(1e9, 1e9, latency=1.0)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with account.thor.client(max_rate=100.0, max_in_flight=32) as client:
            batch = asyncio.ensure_future(client.stop_many(fleet(1000)))
            for _ in range(10):
                await asyncio.sleep(0.73)
                began = loop.time()
                await client.stop_charge(StopCharge("single", 1, "tag"))
                assert loop.time() - began <= 1.0 + 0.01 + 0.001
            batch.cancel()
            await asyncio.gather(batch, return_exceptions=True)

    with account.thor.installed():
        virtual_time.run(main)


def test_a_paced_command_of_a_batch_is_sent_past_its_timeout() -> None:
    account = Account(1e9, 1e9)
    run = account.run(200, max_rate=1.0, timeout=5.0)
    assert run.relayed == 200
    assert run.ends[0] == pytest.approx(199, abs=1)


@pytest.mark.parametrize("max_rate", [None, 50.0])
def test_an_outage_in_a_paced_batch_is_probed_and_holds_no_single_stop(
    max_rate: float | None,
) -> None:
    account = Account(50, 50)

    def reply(command: StopCharge, now: float) -> Answer:
        is_away = 3 <= now < 60 and command.chargebox != "single"
        return Answer(500) if is_away else account.reply(command, now)

    thor = FakeTransport(reply, 0.05)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with thor.client(retry=OUTLASTS, max_rate=max_rate) as client:
            batch = asyncio.ensure_future(client.stop_many(fleet(1000), give_up_after=None))
            await asyncio.sleep(40)
            began = loop.time()
            await client.stop_charge(StopCharge("single", 1, "tag"))
            assert loop.time() - began < 1
            outcomes = await batch
        relayed = sum(outcome.verdict is Verdict.RELAYED for outcome in outcomes)
        assert relayed >= 850
        assert loop.time() < 60 + 15 + 1000 / 50 * 1.3

    with thor.installed():
        virtual_time.run(main)
    probes = [at for at, command in thor.requests if 10 < at < 60 and command.chargebox != "single"]
    assert len(probes) >= 3
    assert max(after - before for before, after in itertools.pairwise(probes)) <= 20


def test_a_single_call_waits_for_the_pace_no_longer_than_its_timeout() -> None:
    account = Account(1e9, 1e9)

    async def main() -> None:
        async with account.thor.client(max_rate=0.1, timeout=5.0) as client:
            await client.stop_charge(StopCharge("first", 1, "tag"))
            with pytest.raises(NotSentError) as caught:
                await client.stop_charge(StopCharge("second", 1, "tag"))
            assert caught.value.reason == "timeout"
            assert asyncio.get_running_loop().time() == pytest.approx(5.05, abs=0.1)

    with account.thor.installed():
        virtual_time.run(main)


def test_a_single_call_ends_with_the_429_at_its_timeout() -> None:
    thor = FakeTransport(lambda *_: THROTTLED, 0.05)

    async def main() -> None:
        async with thor.client(retry=OUTLASTS, timeout=20.0) as client:
            with pytest.raises(TooManyRequests) as caught:
                await client.stop_charge(StopCharge("box", 1, "tag"))
            assert caught.value.attempts >= 3
            assert not caught.value.maybe_applied
            assert re.search(
                r"sent again (?:once|\d+ times) at the pace that Thor allows", str(caught.value)
            )
            assert 10 < asyncio.get_running_loop().time() <= 20

    with thor.installed():
        virtual_time.run(main)


@pytest.mark.parametrize("is_retried", [True, False])
def test_a_chargebox_that_is_always_throttled_ends_and_holds_no_other(is_retried: bool) -> None:
    def reply(command: StopCharge, now: float) -> Answer:
        return THROTTLED if command.chargebox == "box-7" else OK

    thor = FakeTransport(reply, 0.05)
    free = FakeTransport(lambda *_: OK, 0.05)
    ends: dict[FakeTransport, list[float]] = {thor: [], free: []}
    policy = RetryPolicy(retry_throttled=is_retried, random=random.Random(1).uniform)
    commands = [StopCharge(f"box-{n % 100}", 1, "tag", n + 1) for n in range(2000)]

    for each, times in ends.items():

        async def main(each: FakeTransport = each, times: list[float] = times) -> None:
            async with (
                each.client(retry=policy) as client,
                client.stop_stream(commands) as stream,
            ):
                async for outcome in stream:
                    if outcome.error is None:
                        times.append(asyncio.get_running_loop().time())
                    else:
                        assert outcome.next_step == "resend"

        with each.installed():
            virtual_time.run(main)
    assert len(ends[thor]) == 1980
    # Without its twenty commands, the others would have been done a little earlier.
    assert ends[thor][-1] <= ends[free][-1] * 1.05


@pytest.mark.parametrize("is_retried", [True, False])
def test_a_spent_quota_ends_a_batch_at_once(is_retried: bool) -> None:
    thor = FakeTransport(lambda *_: QUOTA, 0.05)

    async def main() -> list[StopOutcome]:
        async with thor.client(retry=RetryPolicy(retry_throttled=is_retried)) as client:
            return await client.stop_many(fleet(1000))

    with thor.installed():
        outcomes = virtual_time.run(main)
    assert len(thor.requests) <= 32
    assert {outcome.next_step for outcome in outcomes} == {"resend"}
    unsent = [outcome.error for outcome in outcomes if outcome.verdict is Verdict.NOT_SENT]
    assert len(unsent) >= 968
    assert all(isinstance(error, NotSentError) and error.reason == "gave_up" for error in unsent)
    assert all("Limit Exceeded" in str(error) for error in unsent)


@pytest.mark.parametrize("within", [None, 100.0])
def test_a_batch_waits_longer_than_its_timeout_for_what_thor_asks(within: float | None) -> None:
    def reply(command: StopCharge, now: float) -> Answer:
        return OK if now >= 130 else msgspec.structs.replace(THROTTLED, retry_after="60")

    thor = FakeTransport(reply, 0.05)

    async def main() -> list[StopOutcome]:
        async with thor.client(retry=OUTLASTS, timeout=30.0) as client:
            return await client.stop_many(fleet(50), within=within)

    with thor.installed():
        outcomes = virtual_time.run(main)
    expected = {Verdict.RELAYED} if within is None else {Verdict.REJECTED, Verdict.NOT_SENT}
    assert {outcome.verdict for outcome in outcomes} == expected
    assert len(thor.requests) <= 200


async def test_a_spent_quota_is_not_asked_again() -> None:
    thor = FakeTransport(lambda *_: QUOTA)
    with thor.installed():
        async with thor.client(retry=OUTLASTS) as client:
            with pytest.raises(TooManyRequests) as caught:
                await client.stop_charge(StopCharge("box", 1, "tag"))
    assert caught.value.is_quota
    assert len(thor.requests) == 1


def test_a_429_is_no_outage() -> None:
    thor = FakeTransport(lambda *_: Answer(429, b"Too Many Requests"), 0.01)

    async def main() -> list[StopOutcome]:
        async with thor.client() as client:
            return await client.stop_many(fleet(200), give_up_after=0)

    with thor.installed():
        outcomes = virtual_time.run(main)
    assert {type(outcome.error) for outcome in outcomes} == {TooManyRequests}


def test_a_500_before_a_429_may_still_have_worked() -> None:
    answers = iter([Answer(500), THROTTLED, THROTTLED, thor_says("NotInTransaction", 400)])
    thor = FakeTransport(lambda *_: next(answers))

    async def main() -> None:
        async with thor.client(retry=OUTLASTS) as client:
            with pytest.raises(RejectedError) as caught:
                await client.stop_charge(StopCharge("box", 1, "tag", 7))
            assert caught.value.maybe_applied
            assert caught.value.attempts == 4

    with thor.installed():
        virtual_time.run(main)


@pytest.mark.parametrize(("is_batch", "expected"), [(True, 2.0), (False, 1.0)])
def test_a_throttled_command_of_a_batch_is_sent_again_after_a_round_trip(
    is_batch: bool, expected: float
) -> None:
    """By then it is known how Thor answers at the lowered pace."""
    answers = iter([THROTTLED, OK])
    thor = FakeTransport(lambda *_: next(answers), latency=1.0)

    async def main() -> None:
        async with thor.client(retry=OUTLASTS) as client:
            if is_batch:
                await client.stop_many(fleet(1))
            else:
                await client.stop_charge(next(fleet(1)))

    with thor.installed():
        virtual_time.run(main)
    first, second = (at for at, _ in thor.requests)
    assert second - first == pytest.approx(expected)


def test_a_call_that_met_only_429_is_never_indeterminate() -> None:
    thor = FakeTransport(lambda *_: THROTTLED, 0.5)
    policy = RetryPolicy(retry_throttled=True, random=random.Random(3).uniform)

    async def main() -> None:
        async with thor.client(retry=policy, timeout=5.0) as client:
            ends = await asyncio.gather(
                *(client.stop_charge(command) for command in fleet(300)),
                return_exceptions=True,
            )
        errors = [end for end in ends if isinstance(end, ThorError)]
        assert len(errors) == 300
        # A first try may have begun too late for its answer.
        assert not any(error.maybe_applied for error in errors if error.attempts > 1)
        assert any(error.attempts > 1 for error in errors)

    with thor.installed():
        virtual_time.run(main)


def test_commands_that_have_expired_wait_for_no_slot() -> None:
    account = Account(1e9, 1e9)
    past = datetime.now(UTC) - timedelta(seconds=1)
    commands = [
        StopCharge(f"box-{n}", 1, "tag", n + 1, not_after=None if n % 10 == 0 else past)
        for n in range(100)
    ]

    async def main() -> None:
        async with account.thor.client(max_rate=1.0) as client:
            await client.stop_many(commands)
        assert asyncio.get_running_loop().time() <= 12

    with account.thor.installed():
        virtual_time.run(main)


def test_leaving_a_paced_batch_leaves_nothing_behind() -> None:
    account = Account(20, 20)

    async def main() -> None:
        async with account.thor.client(retry=OUTLASTS) as client:
            async with client.stop_stream(fleet(1000)) as stream:
                async for outcome in stream:
                    if outcome.index > 100:
                        break
            task = asyncio.ensure_future(client.stop_many(fleet(1000)))
            await asyncio.sleep(3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            # The turn that one of them had is free again.
            await client.stop_charge(StopCharge("box", 1, "tag"))

    with account.thor.installed():
        virtual_time.run(main)


@pytest.mark.parametrize(("rate", "burst", "count"), [(100, 20, 120), (200, 50, 250)])
async def test_over_real_sockets_all_are_stopped_with_few_429s(
    rate: float, burst: int, count: int
) -> None:
    async with ThorEmulator(limits=RateLimits(rate=rate, burst=burst)) as emulator:
        for command in fleet(count):
            emulator.start_charge(command.chargebox, 1, "tag", command.transaction)
        key = emulator.api_key
        async with ThorClient(key, base_url=emulator.base_url, retry=OUTLASTS) as client:
            outcomes = await client.stop_many(fleet(count))
        throttled = len(emulator.ledger.throttled)
    assert {outcome.verdict for outcome in outcomes} == {Verdict.RELAYED}
    assert throttled <= 60
