"""Stops a second, compared with code that users would write: `python -m benchmarks.throughput`.

Plain, and over TLS as Thor is. Each contender has a process of its own and takes its turn, in short
chunks, against the same server, so that the noise of the machine is shared; a ratio compares chunks
of one round. The layout of its memory makes a process up to a tenth faster or slower for its whole
life, so each heat starts new processes.
"""

from __future__ import annotations

import random
from collections import defaultdict
from contextlib import ExitStack
from itertools import product

from . import server
from .contenders import CONTENDERS, IN_FLIGHT, LOOPS, Cost
from .processes import Process
from .report import Figure, arguments, print_figures, print_table, quartiles, spread, write_json

OVER_TLS = ("library", "tuned", "aiohttp_retry", "pyreqwest")
# It takes longer than all others together, so it is in the first round of each heat only. (A
# shorter chunk would make it slower: its pool looks at every idle connection.)
SLOW = "httpx_tenacity"

Chunks = dict[str, list[Cost]]


def take_turn(contender: Process, thor: server.Server, count: int) -> Cost:
    """Runs one chunk, and returns its cost to the contender and to the server."""
    contender.ask(IN_FLIGHT)  # opens the connections again that were idle for too long
    before = thor.stats()["cpu"]
    cost: Cost = contender.ask(count)
    server_cpu = thor.stats()["cpu"] - before
    return {
        "rate": count / cost["seconds"],
        "cpu_us": cost["cpu"] / count * 1e6,
        "peak_mib": cost["peak_kib"] / 1024,
        "server_share": server_cpu / cost["seconds"],
    }


def run_heat(
    names: list[str], loop: str, rounds: int, chunk: int, chunks: Chunks, *, tls: bool
) -> None:
    """Adds the chunks of one heat."""
    with ExitStack() as stack:
        thor = stack.enter_context(server.running(tls=tls))
        processes = {
            name: stack.enter_context(
                Process("contenders", name, thor.base_url, loop, environment=thor.environment)
            )
            for name in names
        }
        for process in processes.values():
            process.read()
        for turn in range(rounds):
            number = len(chunks["library"])
            for name in random.sample(names, len(names)):
                if name != SLOW or turn == 0:
                    cost = take_turn(processes[name], thor, chunk)
                    chunks[name].append({"round": number, **cost})


def measure(
    names: list[str], loop: str, heats: int, rounds: int, chunk: int, *, tls: bool
) -> Chunks:
    chunks: Chunks = defaultdict(list)
    for _ in range(heats):
        run_heat(names, loop, rounds, chunk, chunks, tls=tls)
    return chunks


def ratios(chunks: Chunks, name: str) -> list[float]:
    """Returns the library's rate divided by the contender's, for each round."""
    library = {cost["round"]: cost["rate"] for cost in chunks["library"]}
    return [library[cost["round"]] / cost["rate"] for cost in chunks[name]]


def summarize(chunks: Chunks) -> list[list[str]]:
    """Returns a row for each contender, the fastest first."""

    def median(name: str, key: str) -> float:
        return quartiles([cost[key] for cost in chunks[name]])[1]

    return [
        [
            name,
            f"{median(name, 'rate'):,.0f}",
            f"{quartiles(ratios(chunks, name))[1]:.2f}",
            spread(ratios(chunks, name)),
            f"{median(name, 'cpu_us'):.0f}",
            f"{max(cost['peak_mib'] for cost in chunks[name]):.0f}",
            f"{median(name, 'server_share'):.0%}",
        ]
        for name in sorted(chunks, key=lambda name: quartiles(ratios(chunks, name))[1])
    ]


def find_figures(loop: str, chunks: Chunks, *, tls: bool = False) -> list[Figure]:
    """Returns the figures to reach, as far as their contenders ran."""
    on_asyncio = loop == "asyncio"
    to_reach = {
        "tuned": ("tuned raw aiohttp pool", (1.10 if tls else 1.15) if on_asyncio else 1.00),
        "naive": ("naive raw aiohttp pool", 1.00),
        "aiohttp_retry": ("aiohttp-retry", 1.25 if on_asyncio else 1.10),
        "httpx_tenacity": ("httpx with tenacity", 8.0),
    }
    where = f"{loop}, TLS" if tls else loop
    return [
        Figure(
            f"throughput, library / {title} ({where})",
            limit,
            quartiles(ratios(chunks, name))[1],
            at_least=True,
        )
        for name, (title, limit) in to_reach.items()
        if name in chunks
    ]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--heats", type=int, default=8, help="times that all processes start")
    parser.add_argument("--rounds", type=int, default=4, help="turns of each in a heat")
    parser.add_argument("--chunk", type=int, default=500, help="requests in one turn")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, metavar="NAME")
    parser.add_argument("--loops", nargs="+", choices=LOOPS, default=LOOPS)
    args = parser.parse_args()
    chosen = [name for name in CONTENDERS if not args.only or name in {*args.only, "library"}]
    results: dict[bool, dict[str, Chunks]] = {False: {}, True: {}}
    figures: list[Figure] = []
    for tls, loop in product((False, True), args.loops):
        names = [name for name in chosen if name in OVER_TLS or not tls]
        chunks = measure(names, loop, args.heats, args.rounds, args.chunk, tls=tls)
        results[tls][loop] = chunks
        figures += find_figures(loop, chunks, tls=tls)
        where = f"{loop}, TLS" if tls else loop
        print(f"\n{where}, {IN_FLIGHT} in flight: {args.heats} heats of {args.rounds} rounds")
        print_table(
            ["", "a second", "library/it", "quartiles", "CPU us", "peak MiB", "server's CPU"],
            summarize(chunks),
        )
    print_figures(figures)
    write_json(
        args.json, {"figures": figures, "chunks": results[False], "tls_chunks": results[True]}
    )


if __name__ == "__main__":
    main()
