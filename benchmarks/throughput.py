"""Stops a second, beside what users would otherwise write: `python -m benchmarks.throughput`.

Every contender has a process of its own and takes its turn, in short chunks, against the same
server, so that the noise of the machine meets all alike. Ratios are of chunks of the same round.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from . import server
from .contenders import CONTENDERS, IN_FLIGHT
from .report import print_table, quartiles, write_json

LOOPS = ("asyncio", "uvloop")
Took = dict[str, float]


class Contender:
    """A process that stops charges when told to."""

    def __init__(self, name: str, url: str, loop: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.contenders", name, url, loop],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read()

    def run(self, count: int) -> Took:
        assert self._process.stdin
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> Took:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a contender has died; see above")
        took: Took = json.loads(line)
        return took


def measure(names: list[str], loop: str, rounds: int, chunk: int) -> dict[str, Any]:
    """The chunks of every contender, round by round, and the server's share of a CPU."""
    chunks: dict[str, list[Took]] = defaultdict(list)
    with server.running() as thor:
        contenders = {name: Contender(name, thor.base_url, loop) for name in names}
        cpu = thor.stats()["cpu"]
        for _ in range(rounds):
            for name in random.sample(names, len(names)):
                chunks[name].append(contenders[name].run(chunk))
        cpu = thor.stats()["cpu"] - cpu
        for contender in contenders.values():
            contender.close()
    fastest = min(sum(took["seconds"] for took in chunks[name]) for name in names)
    served = (chunk + 2 * IN_FLIGHT) / chunk
    return {
        "loop": loop,
        "chunk": chunk,
        "chunks": chunks,
        "server_share": cpu / len(names) / (fastest * served),
    }


def summarize(result: dict[str, Any]) -> list[list[str]]:
    chunks, count = result["chunks"], result["chunk"]
    rows = []
    for name, each in chunks.items():
        rates = quartiles([count / took["seconds"] for took in each])
        pairs = zip(chunks["library"], each, strict=True)
        ratios = quartiles([other["seconds"] / library["seconds"] for library, other in pairs])
        cpu = quartiles([took["cpu"] / count * 1e6 for took in each])
        rows.append(
            [
                name,
                f"{rates[1]:,.0f}",
                f"{ratios[1]:.2f}",
                f"{ratios[0]:.2f}-{ratios[2]:.2f}",
                f"{cpu[1]:.0f}",
                f"{each[-1]['peak_kib'] / 1024:.0f}",
            ]
        )
    return sorted(rows, key=lambda row: float(row[2]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--chunk", type=int, default=1000, help="requests in one turn")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, metavar="NAME")
    parser.add_argument("--loops", nargs="+", choices=LOOPS, default=LOOPS)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    names = [name for name in CONTENDERS if not args.only or name in {*args.only, "library"}]
    results = [measure(names, loop, args.rounds, args.chunk) for loop in args.loops]
    for result in results:
        print(f"\n{result['loop']}, {IN_FLIGHT} in flight, {args.rounds} rounds of {args.chunk}")
        print_table(
            ["", "a second", "library is faster by", "quartiles", "CPU us each", "peak MiB"],
            summarize(result),
        )
        print(f"the server's share of a CPU beside the fastest: {result['server_share']:.0%}")
    write_json(args.json, results)


if __name__ == "__main__":
    main()
