"""The time of a batch compared with an ideal schedule: `python -m benchmarks.latency`.

10,000 stops with 64 in flight. The server answers after a constant 20 ms or a lognormal latency
(median 50 ms, p99 1 s), and answers 0 or 5 % of the requests with 503. The ideal schedule has the
same latencies, no cost of client and network, and no wait before a retry. The library and the tuned
raw pool take turns. Then it times single stops of a client with the default settings: alone, and
while a batch has as many requests in flight as it may.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
import statistics
from collections.abc import Iterable
from typing import NamedTuple

from thor_async import OutcomeStream, StopCharge, StopOutcome, ThorClient

from . import server
from .contenders import CONTENDERS, IN_FLIGHT, KEY, LOOPS, runner_of
from .report import Figure, arguments, print_figures, print_table, quartiles, write_json

CONSTANT = 0.02
# The raw pool does not retry. A run with lognormal latencies is long enough to be stable.
SCENARIOS = {
    ("library", "constant", 0.0): 3,
    ("tuned", "constant", 0.0): 3,
    ("library", "constant", 0.05): 1,
    ("library", "lognormal", 0.0): 1,
    ("tuned", "lognormal", 0.0): 1,
    ("library", "lognormal", 0.05): 1,
}


class Row(NamedTuple):
    loop: str
    contender: str
    latency: str
    failing: float
    to_ideal: float
    relayed: float


def ideal_seconds(latencies: Iterable[float], in_flight: int) -> float:
    """Returns the seconds of these requests in order, if each starts as soon as another ends."""
    ends = [0.0] * in_flight
    for latency in latencies:
        heapq.heapreplace(ends, ends[0] + latency)
    return max(ends)


async def stop_all(thor: server.Server, contender: str, count: int) -> tuple[float, int]:
    """Returns the seconds and the number of relayed stops; the connections are open before."""
    loop = asyncio.get_running_loop()
    async with CONTENDERS[contender](thor.base_url) as run:
        await run(IN_FLIGHT)
        thor.stats()
        started = loop.time()
        done = await run(count)
        return loop.time() - started, done


def measure(loop: str, contender: str, latency: str, failing: float, count: int) -> Row:
    """Measures one batch, with a server of its own."""
    with server.running(latency, failing) as thor:
        seconds, done = runner_of(loop)(stop_all(thor, contender, count))
        ideal = ideal_seconds(thor.stats()["latencies"], IN_FLIGHT)
    return Row(loop, contender, latency, failing, seconds / ideal, done / count)


def measure_all(loop: str, count: int) -> list[Row]:
    """Returns the medians of each scenario; `SCENARIOS` has its turns."""
    found: dict[tuple[str, str, float], list[Row]] = {scenario: [] for scenario in SCENARIOS}
    for turn in range(max(SCENARIOS.values())):
        for scenario, turns in SCENARIOS.items():
            if turn < turns:
                found[scenario].append(measure(loop, *scenario, count))
    return [median(rows) for rows in found.values()]


def median(rows: list[Row]) -> Row:
    return rows[0]._replace(
        to_ideal=quartiles([row.to_ideal for row in rows])[1],
        relayed=min(row.relayed for row in rows),
    )


async def time_singles(thor: ThorClient, count: int) -> list[float]:
    """Returns the seconds of `count` single stops, one after the other."""
    loop = asyncio.get_running_loop()
    dice = random.Random(1)
    took = []
    for _ in range(count):
        # At any moment of the batch's own rhythm.
        await asyncio.sleep(dice.uniform(0, CONSTANT))
        started = loop.time()
        await thor.stop_charge(StopCharge("single", 1, "tag"))
        took.append(loop.time() - started)
    return took


async def drain(stream: OutcomeStream[StopCharge, StopOutcome]) -> None:
    async for _ in stream:
        pass


async def time_singles_alone_and_beside(url: str, count: int) -> tuple[float, float]:
    """Returns the 99th percentile of single stops: on an idle client, and during a batch."""
    fleet = (StopCharge(f"box-{n}", 1, "tag") for n in itertools.count())
    async with ThorClient(KEY, base_url=url) as thor:
        alone = await time_singles(thor, count)
        async with thor.stop_stream(fleet) as stream:
            batch = asyncio.create_task(drain(stream))
            await asyncio.sleep(0.5)
            beside = await time_singles(thor, count)
            batch.cancel()
    return p99(alone), p99(beside)


def p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[98]


def measure_single(loop: str, count: int) -> Figure:
    """Measures the ratio; one server latency of waiting for a permit is subtracted first."""
    with server.running("constant") as thor:
        alone, beside = runner_of(loop)(time_singles_alone_and_beside(thor.base_url, count))
    measure = f"p99 of a single stop, (during a batch - one latency) / idle ({loop})"
    return Figure(measure, 1.2, (beside - CONSTANT) / alone)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--stops", type=int, default=10_000)
    parser.add_argument("--singles", type=int, default=400)
    parser.add_argument("--loops", nargs="+", choices=LOOPS, default=LOOPS)
    args = parser.parse_args()
    rows = [row for loop in args.loops for row in measure_all(loop, args.stops)]
    print_table(
        ["", "", "latency", "503", "time / ideal", "relayed"],
        [
            [*row[:3], f"{row.failing:.0%}", f"{row.to_ideal:.3f}", f"{row.relayed:.2%}"]
            for row in rows
        ],
    )
    figures = [
        Figure(f"time, {args.stops:,} stops at 20 ms / ideal ({row.loop})", 1.1, row.to_ideal)
        for row in rows
        if row[1:4] == ("library", "constant", 0.0)
    ]
    figures += [measure_single(loop, args.singles) for loop in args.loops]
    print_figures(figures)
    write_json(args.json, {"figures": figures, "rows": [row._asdict() for row in rows]})


if __name__ == "__main__":
    main()
