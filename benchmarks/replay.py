"""The requests that Thor receives while a broker delivers a backlog: `python -m benchmarks.replay`.

Under virtual time, workers with 32 in flight process commands from a broker in memory, with the
decisions and the breaker of the real worker. Thor answers after 50 ms. Scenarios: a backlog;
commands that were done before; a Thor that is away for a minute; commands that are too old.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from tests import virtual_time
from tests.fake_transport import OK, FakeTransport, Reply, fleet, thor_says
from thor_async import RetryPolicy, StopCharge, ThorClient, _calls
from thor_async._dispatch.breaker import CircuitBreaker
from thor_async._protocol.http_messages import Answer
from thor_async.worker import decide, find_expiry

from .report import Figure, arguments, print_figures, print_table, write_json

LATENCY = 0.05
IN_FLIGHT = 32
AWAY = (2.0, 62.0)
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class Cost(NamedTuple):
    """The cost of one backlog: the requests to Thor, and the share of commands that are done."""

    requests_per_command: float
    most_in_flight: int
    requests_a_second: float
    while_away: int
    done: float
    seconds: float


class Broker:
    """Holds messages in the order of their due times, each with its number of deliveries."""

    def __init__(self, commands: Iterable[StopCharge], age: float) -> None:
        self.created = EPOCH - timedelta(seconds=age)
        self.waiting = [(0.0, n, 1, command) for n, command in enumerate(commands)]
        self.left = len(self.waiting)
        self.done = 0

    async def serve(self, thor: ThorClient, breaker: CircuitBreaker, rng: random.Random) -> None:
        """One subscriber of a worker: pulls messages, and ends or returns each of them."""
        loop = asyncio.get_running_loop()
        while self.left:
            if not self.waiting or self.waiting[0][0] > loop.time():
                await asyncio.sleep(0.1)
                continue
            _, number, deliveries, command = heapq.heappop(self.waiting)
            probe = await breaker.acquire_probe()
            now = EPOCH + timedelta(seconds=loop.time())
            if find_expiry(command, self.created, now) is not None:
                breaker.release_probe(probe)
                self.left -= 1
                continue
            outcome = await _calls.stop(thor._check_open(), command, pins_retries=True)
            breaker.record_command(outcome.error, outcome.attempts, probe)
            settlement = decide(outcome, deliveries, random=rng.uniform)
            if settlement.action == "retry":
                due = loop.time() + settlement.delay
                heapq.heappush(self.waiting, (due, number, deliveries + 1, command))
            else:
                self.left -= 1
                self.done += settlement.action == "ack"


def replay(reply: Reply, count: int, workers: int, age: float = 0.0) -> Cost:
    """Processes a backlog of `count` commands that are `age` seconds old, and returns its cost."""
    transport = FakeTransport(reply, LATENCY)
    broker = Broker(fleet(count), age)
    rng = random.Random(7)

    async def work() -> None:
        breaker = CircuitBreaker(pauses_when_refused=True)
        policy = RetryPolicy(random=rng.uniform)
        async with transport.client(retry=policy, max_in_flight=IN_FLIGHT) as thor:
            subscribers = (broker.serve(thor, breaker, rng) for _ in range(IN_FLIGHT))
            await asyncio.gather(*subscribers)
        breaker.disable()

    async def main() -> float:
        with transport.installed():
            await asyncio.gather(*(work() for _ in range(workers)))
        return asyncio.get_running_loop().time()

    seconds = virtual_time.run(main)
    times = [at for at, _ in transport.requests]
    return Cost(
        requests_per_command=len(times) / count,
        most_in_flight=transport.most_in_flight,
        requests_a_second=len(times) / seconds if seconds else 0.0,
        while_away=sum(AWAY[0] <= at < AWAY[1] for at in times),
        done=broker.done / count,
        seconds=seconds,
    )


def away(command: StopCharge, now: float) -> Answer:
    return Answer(503) if AWAY[0] <= now < AWAY[1] else OK


SCENES: dict[str, tuple[Reply, float]] = {
    "backlog": (lambda command, now: OK, 0.0),
    "done before": (lambda command, now: thor_says("NotInTransaction", 400), 0.0),
    "Thor away for 60 s": (away, 0.0),
    "an hour old": (lambda command, now: OK, 3600.0),
}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--commands", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=4)
    args = parser.parse_args()
    costs = {
        name: replay(reply, args.commands, args.workers, age)
        for name, (reply, age) in SCENES.items()
    }
    print_table(
        ["", "requests/command", "most at once", "a second", "while away", "done", "s"],
        [
            [
                name,
                f"{cost.requests_per_command:.3f}",
                str(cost.most_in_flight),
                f"{cost.requests_a_second:.0f}",
                str(cost.while_away) if "away" in name else "-",
                f"{cost.done:.1%}",
                f"{cost.seconds:.1f}",
            ]
            for name, cost in costs.items()
        ],
    )
    figures = summarize(costs, args.workers)
    print_figures(figures)
    write_json(args.json, {"figures": figures, "scenes": costs})


def summarize(costs: dict[str, Cost], workers: int) -> list[Figure]:
    """Returns the figures behind the docstring of `thor_async.worker`."""
    most = max(cost.most_in_flight for cost in costs.values())
    backlog, outage = costs["backlog"], costs["Thor away for 60 s"]
    pace = backlog.requests_a_second / (workers * IN_FLIGHT / LATENCY)
    return [
        Figure("requests at once / workers x max_in_flight", 1.001, most / (workers * IN_FLIGHT)),
        Figure("pace / workers x max_in_flight / latency", 0.8, pace, at_least=True),
        Figure("requests per command, done before", 1.001, costs["done before"][0]),
        Figure("requests of a worker in 60 s without Thor", 250, outage.while_away / workers),
        Figure("done, Thor away", 0.999, outage.done, at_least=True),
        Figure("requests per command, an hour old", 0.001, costs["an hour old"][0]),
    ]


if __name__ == "__main__":
    main()
