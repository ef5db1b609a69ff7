"""Stops a second, beside what users would otherwise write: `python -m benchmarks.throughput`.

Every contender has a process of its own and takes its turn, in short chunks, against the same
server, so that the noise of the machine meets all alike; ratios are of chunks of the same round. A
process is up to a tenth faster or slower for all its life, by where its memory lies: so all of them
are started anew for each heat.
"""

from __future__ import annotations

import random
from collections import defaultdict
from contextlib import ExitStack
from typing import Any

from . import server
from .contenders import CONTENDERS, IN_FLIGHT, LOOPS, Took
from .processes import Process
from .report import Figure, arguments, print_figures, print_table, quartiles, spread, write_json

RETRYING = ("aiohttp_retry", "aiohttp_tenacity", "aiohttp_stamina")
# It takes longer than all others together, so it is in the first round of each heat only. (In a
# shorter chunk it would be slower than it is: its pool looks at every idle connection.)
SLOW = "httpx_tenacity"

Chunks = dict[str, list[Took]]


def take_turn(contender: Process, thor: server.Server, count: int) -> Took:
    """One chunk: what it took of the contender, and of the server meanwhile."""
    contender.ask(IN_FLIGHT)  # opens again what has been idle for too long
    before = thor.stats()["cpu"]
    took: Took = contender.ask(count)
    served = thor.stats()["cpu"] - before
    return {
        "rate": count / took["seconds"],
        "cpu_us": took["cpu"] / count * 1e6,
        "peak_mib": took["peak_kib"] / 1024,
        "server_share": served / took["seconds"],
    }


def run_heat(names: list[str], loop: str, rounds: int, chunk: int, chunks: Chunks) -> None:
    """Adds the chunks of one life of all processes."""
    with ExitStack() as stack:
        thor = stack.enter_context(server.running())
        processes = {
            name: stack.enter_context(Process("contenders", name, thor.base_url, loop))
            for name in names
        }
        for process in processes.values():
            process.read()
        for turn in range(rounds):
            number = len(chunks["library"])
            for name in random.sample(names, len(names)):
                if name != SLOW or turn == 0:
                    took = take_turn(processes[name], thor, chunk)
                    chunks[name].append({"round": number, **took})


def measure(names: list[str], loop: str, heats: int, rounds: int, chunk: int) -> Chunks:
    chunks: Chunks = defaultdict(list)
    for _ in range(heats):
        run_heat(names, loop, rounds, chunk, chunks)
    return chunks


def ratios(chunks: Chunks, name: str) -> list[float]:
    """The library's rate over that contender's, round by round."""
    library = {took["round"]: took["rate"] for took in chunks["library"]}
    return [library[took["round"]] / took["rate"] for took in chunks[name]]


def summarize(chunks: Chunks) -> list[list[str]]:
    """A row for each contender, the fastest first."""

    def median(name: str, key: str) -> float:
        return quartiles([took[key] for took in chunks[name]])[1]

    return [
        [
            name,
            f"{median(name, 'rate'):,.0f}",
            f"{quartiles(ratios(chunks, name))[1]:.2f}",
            spread(ratios(chunks, name)),
            f"{median(name, 'cpu_us'):.0f}",
            f"{max(took['peak_mib'] for took in chunks[name]):.0f}",
            f"{median(name, 'server_share'):.0%}",
        ]
        for name in sorted(chunks, key=lambda name: quartiles(ratios(chunks, name))[1])
    ]


def find_figures(loop: str, chunks: Chunks) -> list[Figure]:
    """The figures to reach, as far as their contenders ran."""
    medians = {name: quartiles(ratios(chunks, name))[1] for name in chunks}
    peers = [medians[name] for name in RETRYING if name in medians]
    measured = {
        "tuned raw aiohttp pool": (0.95, medians.get("tuned")),
        "naive raw aiohttp pool": (1.00, medians.get("naive")),
        "best retrying peer on aiohttp": (1.25, min(peers, default=None)),
        "httpx with tenacity": (8.0, medians.get("httpx_tenacity")),
    }
    return [
        Figure(f"throughput, library / {name} ({loop})", limit, ratio, at_least=True)
        for name, (limit, ratio) in measured.items()
        if ratio is not None
    ]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--heats", type=int, default=8, help="lives of all processes")
    parser.add_argument("--rounds", type=int, default=4, help="turns of each in a heat")
    parser.add_argument("--chunk", type=int, default=500, help="requests in one turn")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, metavar="NAME")
    parser.add_argument("--loops", nargs="+", choices=LOOPS, default=LOOPS)
    args = parser.parse_args()
    names = [name for name in CONTENDERS if not args.only or name in {*args.only, "library"}]
    results: dict[str, Any] = {}
    figures: list[Figure] = []
    for loop in args.loops:
        results[loop] = measure(names, loop, args.heats, args.rounds, args.chunk)
        figures += find_figures(loop, results[loop])
        print(f"\n{loop}, {IN_FLIGHT} in flight: {args.heats} heats of {args.rounds} rounds")
        print_table(
            ["", "a second", "library/it", "quartiles", "CPU us", "peak MiB", "server's CPU"],
            summarize(results[loop]),
        )
    print_figures(figures)
    write_json(args.json, {"figures": figures, "chunks": results})


if __name__ == "__main__":
    main()
