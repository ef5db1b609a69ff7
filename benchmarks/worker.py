"""What a worker costs beside the client alone: `python -m benchmarks.worker`.

One or two worker processes serve a backlog of commands from a nats-server, with 32 in flight each.
The server of Thor answers at once, or after 50 ms. In the same run `stop_stream` stops as many
charges with the same limit. The CPU is that of the worker processes, without nats-server and Thor.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

import msgspec

from thor_async import RetryPolicy, StopCharge, ThorClient

from . import nats_server, server
from .contenders import KEY, bodies
from .processes import Process
from .report import Figure, arguments, extra, print_figures, print_table, quartiles, write_json

IN_FLIGHT = 32
LATENCIES = {"none": 0.0, "fifty": 0.05}
WORKERS = (0, 1, 2)
"""Numbers of workers; 0 is the client alone."""

Run = Callable[[], Awaitable[None]]


class Row(NamedTuple):
    latency: str
    workers: int
    stops_per_second: float
    cpu_ms: float


def make_client(url: str) -> ThorClient:
    policy = RetryPolicy(retry_throttled=True)
    return ThorClient(KEY, base_url=url, max_in_flight=IN_FLIGHT, retry=policy)


@contextlib.asynccontextmanager
async def stream(url: str, nats_url: str, count: int) -> AsyncIterator[Run]:
    """Stops `count` charges by the client alone."""
    async with make_client(url) as thor:

        async def run() -> None:
            commands = (StopCharge(**body) for body in bodies(count))
            async with thor.stop_stream(commands) as outcomes:
                async for outcome in outcomes:
                    assert outcome.error is None

        yield run


@contextlib.asynccontextmanager
async def worker(url: str, nats_url: str, count: int) -> AsyncIterator[Run]:
    """Serves until the stream holds `count` outcomes."""
    from faststream.nats import NatsBroker

    from thor_async.worker.service import add_worker

    broker = NatsBroker(nats_url, logger=None, max_reconnect_attempts=-1, graceful_timeout=5.0)
    added = add_worker(broker, make_client(url), max_in_flight=IN_FLIGHT)
    async with added.lifespan():
        jetstream = broker.connection.jetstream()

        async def run() -> None:
            await broker.start()
            subject = "thor.stop.outcomes"
            while True:
                info = await jetstream.stream_info("THOR", subjects_filter=subject)
                if (info.state.subjects or {}).get(subject, 0) >= count:
                    break
                await asyncio.sleep(0.05)

        try:
            yield run
        finally:
            await broker.stop()


async def run_child(name: str, url: str, nats_url: str, count: int) -> None:
    """Prints a line when it is ready, and after a line of input what the run has cost."""
    make = {"stream": stream, "worker": worker}[name]
    async with make(url, nats_url, count) as run:
        print(json.dumps("ready"), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        began, cpu = time.perf_counter(), time.process_time()
        await run()
        cost = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}
        print(json.dumps(cost), flush=True)


async def publish(nats_url: str, count: int) -> None:
    import nats

    client = await nats.connect(nats_url)
    jetstream = client.jetstream()
    for body in bodies(count):
        await jetstream.publish("thor.stop", msgspec.json.encode(StopCharge(**body)))
    await client.close()


def measure(latency: str, workers: int, count: int) -> Row:
    """Measures one run, with servers of its own."""
    name = "worker" if workers else "stream"
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(server.running(latency)).base_url
        nats_url = stack.enter_context(nats_server.running()) if workers else ""
        children = [
            stack.enter_context(Process("worker", "--child", name, url, nats_url, str(count)))
            for _ in range(workers or 1)
        ]
        for child in children:
            child.read()
        if workers:
            asyncio.run(publish(nats_url, count))
        for child in children:
            child.write("go")
        costs = [child.read() for child in children]
    seconds = max(cost["seconds"] for cost in costs)
    cpu = sum(cost["cpu"] for cost in costs)
    return Row(latency, workers, count / seconds, cpu / count * 1000)


def median(rows: list[Row]) -> Row:
    return rows[0]._replace(
        stops_per_second=quartiles([row.stops_per_second for row in rows])[1],
        cpu_ms=quartiles([row.cpu_ms for row in rows])[1],
    )


def find_figures(rows: list[Row]) -> list[Figure]:
    found = {(row.latency, row.workers): row for row in rows}
    figures = [
        Figure(
            f"CPU a stop, worker / stop_stream ({latency})",
            2.5,
            found[latency, 1].cpu_ms / found[latency, 0].cpu_ms,
        )
        for latency in LATENCIES
    ]
    ideal = IN_FLIGHT / LATENCIES["fifty"]
    measured = found["fifty", 1].stops_per_second
    measure = f"stops a second, one worker at 50 ms, of {ideal:.0f}"
    return [*figures, Figure(measure, 550.0, measured, at_least=True)]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--stops", type=int, default=4000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    with extra():
        import faststream.nats  # noqa: F401
    if args.child:
        name, url, nats_url, count = args.child
        asyncio.run(run_child(name, url, nats_url, int(count)))
        return
    found: dict[tuple[str, int], list[Row]] = {}
    for _ in range(args.turns):
        for latency in LATENCIES:
            for workers in WORKERS:
                row = measure(latency, workers, args.stops)
                found.setdefault((latency, workers), []).append(row)
    rows = [median(rows) for rows in found.values()]
    print_table(
        ["latency", "workers", "stops a second", "CPU ms a stop"],
        [
            [row.latency, str(row.workers), f"{row.stops_per_second:.0f}", f"{row.cpu_ms:.3f}"]
            for row in rows
        ],
    )
    figures = find_figures(rows)
    print_figures(figures)
    write_json(args.json, {"figures": figures, "rows": [row._asdict() for row in rows]})


if __name__ == "__main__":
    main()
