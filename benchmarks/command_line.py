"""The time of `thor-async stop-many`, compared with that of the library: `python -m
benchmarks.command_line`.

10,000 rows from a file into a journal, without latency. Each run is a process of its own, by turns,
against the same server. The library's process stops the same charges through `stop_stream` and does
nothing with them; its start is not counted, that of the command is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from . import server
from .report import Figure, arguments, print_figures, print_table, quartiles, spread, write_json

_LIBRARY = """
import asyncio, sys, time
from thor_async import StopCharge, ThorClient

async def stop(count):
    commands = (
        StopCharge(f"smartbit-{n:011}", n % 4 + 1, f"{n:020}", n + 1) for n in range(count)
    )
    async with ThorClient() as thor, thor.stop_stream(commands) as stream:
        async for outcome in stream:
            pass

asyncio.run(stop(500))
begun = time.perf_counter()
asyncio.run(stop(int(sys.argv[1])))
print(time.perf_counter() - begun)
"""


def make_lines(rows: int) -> Iterator[str]:
    """Yields the lines of a file of charges."""
    yield "chargebox,connector,id_tag,transaction,site\n"
    for n in range(rows):
        yield f"smartbit-{n:011},{n % 4 + 1},{n:020},{n + 1},site-{n % 50}\n"


def time_library(environment: dict[str, str], rows: int) -> float:
    command = [sys.executable, "-c", _LIBRARY, str(rows)]
    return float(subprocess.run(command, capture_output=True, check=True, env=environment).stdout)


def time_command(environment: dict[str, str], path: Path) -> float:
    """Returns the seconds of the command, from its start to its end."""
    journal = path.with_suffix(".jsonl")
    command = [sys.executable, "-m", "thor_async", "stop-many", str(path), "--output", str(journal)]
    started = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True, env=environment)
    seconds = time.perf_counter() - started
    journal.unlink()
    return seconds


def measure(rounds: int, rows: int) -> dict[str, list[float]]:
    """Returns the seconds of each, by round."""
    took: dict[str, list[float]] = {"stop_stream": [], "stop-many": []}
    with server.running() as thor, tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "fleet.csv")
        path.write_text("".join(make_lines(rows)), encoding="utf-8")
        environment = os.environ | {"THOR_API_KEY": "key", "THOR_BASE_URL": thor.base_url}
        for _ in range(rounds):
            took["stop_stream"].append(time_library(environment, rows))
            took["stop-many"].append(time_command(environment, path))
    return took


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--rows", type=int, default=10_000)
    args = parser.parse_args()
    took = measure(args.rounds, args.rows)
    ratios = [command / library for library, command in zip(*took.values(), strict=True)]
    print_table(
        ["", "seconds", "quartiles"],
        [[name, f"{quartiles(each)[1]:.2f}", spread(each)] for name, each in took.items()],
    )
    figures = [Figure("stop-many of a file / stop_stream", 2.5, quartiles(ratios)[1])]
    print_figures(figures)
    write_json(args.json, {"figures": figures, "seconds": took})


if __name__ == "__main__":
    main()
