"""The time for which a long list blocks the event loop: `python -m benchmarks.lists`.

A server in a process of its own answers with a list of 100,000 running charges. A client reads it
(`list`), and confirms a stop by it (`look`); meanwhile a task of the same loop sleeps for 0 s again
and again. The longest time between two of its turns is the longest wait of any other task.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from operator import sub
from statistics import median
from typing import NamedTuple

import msgspec

from thor_async import StopCharge, ThorClient

from .processes import Process
from .report import Figure, arguments, print_figures, print_table, write_json

CHARGES = 100_000
LIMIT = 0.1
"""Seconds, for the longest hold."""


def make_body(count: int) -> bytes:
    """Returns the body of a list of `count` charges, about 250 bytes each."""
    return msgspec.json.encode({"count": count, "items": list(_items(count)), "users": {}})


def _items(count: int) -> Iterator[dict[str, object]]:
    for number in range(1, count + 1):
        yield {
            "id": number,
            "chargebox": f"box-{number // 2}",
            "connector": 1 + number % 2,
            "date_started": 1_700_000_000_000 + number,
            "energy": number + 0.5,
            "id_tag": f"{number:010}",
            "type": "local",
            "user": {"id": f"user-{number}", "name": "A Driver", "groups": ["employees"]},
            "payment": {"card": f"card-{number}", "amount": 12.5, "currency": "EUR"},
        }


async def serve(count: int) -> None:
    body = make_body(count)
    answers = {
        b"GET": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body),
        b"POS": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    }

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length or 0))
                writer.write(answers[head[:3]])
                await writer.drain()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(json.dumps(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"), flush=True)
    await server.serve_forever()


async def read_list(client: ThorClient, count: int) -> object:
    charges = await client.running_charges()
    assert len(charges) == count
    # Kept until the clock has stopped: to free it is the caller's cost.
    return charges


async def look(client: ThorClient, count: int) -> object:
    """Reads the list before the stop, and after it until the end of `within`."""
    command = StopCharge("box-1", 2, "0000000003", 3)
    confirmation = await client.stop_and_confirm(command, within=6.0)
    assert confirmation.state == "still_running"
    return confirmation


WORKS: dict[str, Callable[[ThorClient, int], Awaitable[object]]] = {"list": read_list, "look": look}


class Hold(NamedTuple):
    """Seconds: the longest time for which no other task of the loop could run.

    `wall` contains the time of other processes on a busy machine. `cpu` is the time of this thread
    only; the figure to reach is about it.
    """

    wall: float
    cpu: float


async def longest_hold(url: str, name: str, count: int) -> Hold:
    async with ThorClient("key", base_url=url, timeout=60.0, attempt_timeout=60.0) as client:
        work = asyncio.ensure_future(WORKS[name](client, count))
        walls, cpus = [time.perf_counter()], [time.thread_time()]
        while not work.done():
            await asyncio.sleep(0)
            walls.append(time.perf_counter())
            cpus.append(time.thread_time())
        await work
        return Hold(*(max(map(sub, times[1:], times)) for times in (walls, cpus)))


def measure(name: str, count: int, rounds: int) -> list[Hold]:
    with Process("lists", "--serve", "--charges", str(count)) as process:
        url = process.read()
        return [asyncio.run(longest_hold(url, name, count)) for _ in range(rounds)]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--charges", type=int, default=CHARGES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        asyncio.run(serve(args.charges))
        return
    holds = {name: measure(name, args.charges, args.rounds) for name in WORKS}
    rows = [
        (name, clock, [getattr(hold, clock) for hold in each])
        for name, each in holds.items()
        for clock in Hold._fields
    ]
    print_table(
        ["longest hold of the loop", "", "median", "worst"],
        [[*row[:2], f"{median(row[2]):.3f} s", f"{max(row[2]):.3f} s"] for row in rows],
    )
    figures = [
        Figure(f"longest hold, {args.charges:,} charges ({row[0]})", LIMIT, median(row[2]), " s")
        for row in rows
        if row[1] == "cpu"
    ]
    print_figures(figures)
    rounds = {name: [hold._asdict() for hold in each] for name, each in holds.items()}
    write_json(args.json, {"figures": figures, "holds": rounds})


if __name__ == "__main__":
    main()
