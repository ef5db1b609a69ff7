"""What `benchmarks.throttle` measures: one function for each kind of scene."""

from __future__ import annotations

import asyncio
import gc
import itertools
import math
import random
import time
import tracemalloc
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tests import virtual_time
from tests.fake_transport import fleet
from thor_async import RetryPolicy, StopCharge, StopOutcome, ThorClient, ThorError, Verdict
from thor_async._dispatch.dispatcher import Dispatcher
from thor_async._dispatch.limiter import PriorityLimiter
from thor_async._dispatch.pace import Pace
from thor_async._protocol.http_messages import Answer
from thor_async.emulator.rate_limits import TokenBucket

from .throttle_model import HttpDraws, JitteredTransport, LimitedThor, clock_moves_on, serving
from .throttle_peers import IN_FLIGHT, PEERS

STOPS = 2000
LATENCY = 0.05

SETTLED = 60.0
"""Seconds before a limit changes, and after it."""
USED = 0.9

OF_A_HUNDRED = 100
NOISY, FAILING = 0.05, 0.01
STOPS_OF_ACCOUNT = 10


class Scene(NamedTuple):
    """An account and its clients. `burst` is in seconds of the rate."""

    rate: int
    burst: int
    latency: float
    clients: int
    retry_after: str | None = None

    def ideal_seconds(self, stops: int) -> float:
        """Returns the time in which clients that know the limit would stop `stops` charges each."""
        total = stops * self.clients
        by_rate = (total - self.rate * self.burst) / self.rate
        return max(by_rate, stops * self.latency / IN_FLIGHT)


class Row(NamedTuple):
    """How a scene ended. `unfairness`: the time of the slowest client / that of the fastest."""

    scene: Scene
    relayed: float
    to_ideal: float
    throttled: float
    unfairness: float


class Change(NamedTuple):
    """The limit became `factor` times as much. `recovery`: seconds until 90 % of it were used.

    `unused`: seconds of the new limit that were not used in the minute after it.
    """

    rate: int
    factor: float
    latency: float
    recovery: float
    unused: float


class PeerRow(NamedTuple):
    rate: int
    name: str
    relayed: float
    to_ideal: float
    throttled: float


class Others(NamedTuple):
    """What chargeboxes with 429 of their own cost the others, in units of their time without."""

    relayed: float
    others_to_undisturbed: float
    throttled: float


def throttled_policy(seed: int = 0, *, retries: bool = True) -> RetryPolicy:
    return RetryPolicy(retry_throttled=retries, random=random.Random(seed).uniform)


def share_relayed(outcomes: Sequence[StopOutcome]) -> float:
    return sum(outcome.verdict is Verdict.RELAYED for outcome in outcomes) / len(outcomes)


def run_batches(
    thor: LimitedThor, batches: list[list[StopCharge]], latency: float, **settings: Any
) -> list[tuple[float, list[StopOutcome]]]:
    """Stops each batch by a client of its own; returns the seconds and the outcomes of each."""
    transport = JitteredTransport(thor.reply, latency)

    async def stop(number: int, batch: list[StopCharge]) -> tuple[float, list[StopOutcome]]:
        given = {"retry": throttled_policy(number), "max_in_flight": IN_FLIGHT, **settings}
        async with transport.client(**given) as client:
            outcomes = await client.stop_many(batch)
            return asyncio.get_running_loop().time(), outcomes

    async def main() -> list[tuple[float, list[StopOutcome]]]:
        with transport.installed():
            return await asyncio.gather(*itertools.starmap(stop, enumerate(batches)))

    return virtual_time.run(main)


def measure(scene: Scene, stops: int = STOPS, **settings: Any) -> Row:
    """Runs a scene, in which each client stops that many charges."""
    thor = LimitedThor(scene.rate, scene.burst, retry_after=scene.retry_after)
    batches = [list(fleet(stops, start=n * stops)) for n in range(scene.clients)]
    ends = run_batches(thor, batches, scene.latency, **settings)
    seconds = [end for end, _ in ends]
    return Row(
        scene,
        share_relayed([outcome for _, outcomes in ends for outcome in outcomes]),
        max(seconds) / scene.ideal_seconds(stops),
        thor.throttled_share,
        max(seconds) / min(seconds),
    )


def measure_change(rate: int, factor: float, latency: float, settled: float = SETTLED) -> Change:
    """Runs a batch without an end over a change of the limit.

    So many are in flight that the new limit can be used.
    """
    thor = LimitedThor(rate)
    transport = JitteredTransport(thor.reply, latency)
    in_flight = max(IN_FLIGHT, math.ceil(2 * rate * factor * latency))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.call_at(settled, thor.change, rate * factor, settled)
        endless = itertools.takewhile(lambda _: loop.time() < 2 * settled, fleet(10**9))
        with transport.installed():
            async with (
                transport.client(retry=throttled_policy(), max_in_flight=in_flight) as client,
                client.stop_stream(endless) as stream,
            ):
                async for _ in stream:
                    pass

    virtual_time.run(main)
    times = [at for at, _ in thor.accepted]
    begin = settled
    if factor < 1:  # what was used at once was the old pace
        begin = next((at for at in thor.throttled_at if at > settled), settled)
    new = rate * factor
    used = sum(settled <= at < 2 * settled for at in times)
    return Change(
        rate,
        factor,
        latency,
        find_use(times, new, begin, 2 * settled) - settled,
        settled - used / new,
    )


def find_use(times: list[float], rate: float, begin: float, end: float) -> float:
    """Returns the first time from which on 90 % of `rate` were used, for 2 s and 20 requests."""
    window = max(2.0, 20 / rate)
    at = begin
    while at + window <= end:
        if bisect_left(times, at + window) - bisect_left(times, at) >= USED * rate * window:
            return at
        at += 0.1
    return math.inf


def compare_others(
    make_thor: Callable[[dict[str, float], float], LimitedThor],
    own: dict[str, float],
    commands: list[StopCharge],
    *,
    failing: float = 0.0,
    retries: bool = True,
) -> Others:
    """Returns the cost of the 429 that the chargeboxes in `own` answer by themselves."""

    def run(thor: LimitedThor) -> tuple[float, list[StopOutcome]]:
        ((_, outcomes),) = run_batches(
            thor, [commands], LATENCY, retry=throttled_policy(retries=retries)
        )
        return max(at for at, chargebox in thor.accepted if chargebox not in own), outcomes

    thor = make_thor(own, failing)
    disturbed, outcomes = run(thor)
    undisturbed, _ = run(make_thor({}, 0.0))
    return Others(share_relayed(outcomes), disturbed / undisturbed, thor.throttled_share)


def measure_noise(rate: int | None, stops: int = STOPS) -> Others:
    """A share of 500, and chargeboxes whose first two or three requests are answered by 429."""
    dice = random.Random(11)
    commands = list(fleet(stops))
    noisy = dice.sample([command.chargebox for command in commands], int(stops * NOISY))
    own = {chargebox: float(dice.choice((2, 3))) for chargebox in noisy}
    return compare_others(
        lambda own, failing: LimitedThor(rate, own=own, failing=failing),
        own,
        commands,
        failing=FAILING,
    )


def measure_one_of_a_hundred(*, retries: bool, stops: int = STOPS) -> Others:
    """One chargebox of a hundred always answers 429; the account has no limit."""
    commands = [
        StopCharge(f"box-{n % OF_A_HUNDRED}", 1, "tag", n + 1)
        for n in random.Random(13).sample(range(stops), stops)
    ]
    return compare_others(
        lambda own, failing: LimitedThor(None, own=own),
        {"box-7": math.inf},
        commands,
        retries=retries,
    )


def measure_single_stops(rate: int, latency: float, stops: int = STOPS) -> list[float]:
    """Returns how many slots of the pace each single stop waited during a batch."""
    thor = LimitedThor(rate)
    arrived: dict[str, float] = {}

    def reply(command: StopCharge, now: float) -> Answer:
        arrived.setdefault(command.chargebox, now)
        return thor.reply(command, now)

    transport = JitteredTransport(reply, latency, jitter=0.0)
    slots: list[float] = []

    async def press_stop(client: ThorClient) -> None:
        """Stops one charge now and then, for as long as the batch goes on."""
        loop = asyncio.get_running_loop()
        for command in fleet(10**9, start=stops):
            await asyncio.sleep(0.73)
            began, pace = loop.time(), client._check_open().pace.rate
            await client.stop_charge(command)
            slots.append((arrived[command.chargebox] - began - latency / 2) * pace)

    async def main() -> None:
        with transport.installed():
            async with transport.client(retry=throttled_policy()) as client:
                pressing = asyncio.create_task(press_stop(client))
                outcomes = await client.stop_many(fleet(stops))
                assert not pressing.done()
                pressing.cancel()
                await asyncio.wait([pressing])
                assert share_relayed(outcomes) == 1

    virtual_time.run(main)
    # There are slots only once the limit is known.
    return [waited for waited in slots if math.isfinite(waited)]


def measure_peer(name: str, rate: int, stops: int = STOPS) -> PeerRow:
    """Stops charges in a way that users write, over HTTP in memory."""
    bucket = TokenBucket(rate, rate, 0.0)
    draws = HttpDraws(lambda now: not bucket.take(now), LATENCY)
    random.seed(1)  # theirs is the global one

    async def main() -> tuple[int, float]:
        async with serving(draws) as url, PEERS[name](url, rate) as run:
            with clock_moves_on():
                relayed = await run(stops)
            return relayed, asyncio.get_running_loop().time()

    relayed, seconds = virtual_time.run(main)
    ideal = Scene(rate, 1, LATENCY, 1).ideal_seconds(stops)
    throttled = draws.answered[False] / draws.answered.total()
    return PeerRow(rate, name, relayed / stops, seconds / ideal, throttled)


class Accounts(NamedTuple):
    """What the accounts of one process cost. Memory is in bytes: the peak, and after the batches.

    `connections` is the most that were open.
    """

    connections: int
    peak: int
    held: int


def measure_accounts(accounts: int, stops: int = STOPS_OF_ACCOUNT) -> Accounts:
    """Stops charges of so many accounts at once, by `with_options`, over HTTP in memory.

    A tenth of the answers are 429, so that each account has a pace.
    """
    dice = random.Random(17)
    draws = HttpDraws(lambda now: dice.random() >= 0.1, LATENCY)

    async def stop_all(clients: list[ThorClient]) -> None:
        batches = (
            client.stop_many(fleet(stops, start=n * stops)) for n, client in enumerate(clients)
        )
        for outcomes in await asyncio.gather(*batches):
            assert share_relayed(outcomes) == 1

    async def main() -> tuple[int, int]:
        async with serving(draws) as url:
            policy = throttled_policy()
            async with ThorClient("key-0", base_url=url, retry=policy) as parent:
                clients = [parent.with_options(api_key=f"key-{n}") for n in range(accounts)]
                await stop_all(clients)
                gc.collect()
                return tracemalloc.get_traced_memory()

    gc.collect()
    tracemalloc.start()
    try:
        held, peak = virtual_time.run(main)
    finally:
        tracemalloc.stop()
    return Accounts(draws.most_connections, peak, held)


class NullPace(Pace):
    """Learns nothing."""

    def record(self, error: ThorError | None, begun: float, subject: str) -> None: ...


def measure_cost(loops: int, turns: int = 30) -> float:
    """Returns the microseconds that the pace adds to a stop while no limit is known."""

    async def main() -> float:
        dispatchers = [
            Dispatcher(PriorityLimiter(IN_FLIGHT), make_pace(), is_batch=True)
            for make_pace in (Pace, NullPace)
        ]
        best = [math.inf, math.inf]
        for _ in range(turns):
            for place, dispatcher in enumerate(dispatchers):
                best[place] = min(best[place], time_releases(dispatcher, loops))
        for dispatcher in dispatchers:
            dispatcher.close()
        return (best[0] - best[1]) / loops * 1e6

    return asyncio.run(main())


def time_releases(dispatcher: Dispatcher, loops: int) -> float:
    acquire, release = dispatcher.try_acquire, dispatcher.release
    started = time.perf_counter()
    for _ in range(loops):
        acquire(math.inf)
        release(None, 0, 0.0, "box")
    return time.perf_counter() - started
