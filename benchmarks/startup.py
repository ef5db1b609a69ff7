"""The time of an import and of the command: `python -m benchmarks.startup`.

Each import has a fresh interpreter and is timed inside it, by turns. The command is timed outside,
in seconds of CPU.
"""

from __future__ import annotations

import os
import subprocess
import sys

from .report import Figure, arguments, print_figures, print_table, quartiles, spread, write_json

MODULES = ("aiohttp", "thor_async")
_IMPORT = "import time; begun = time.perf_counter(); import {}; print(time.perf_counter() - begun)"


def time_import(module: str) -> float:
    """Returns the seconds of an import in a fresh interpreter."""
    code = _IMPORT.format(module)
    return float(
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    )


def time_help() -> float:
    """Returns the CPU seconds of `thor-async --help`, from its start to its end."""
    before = os.times()
    command = [sys.executable, "-m", "thor_async", "--help"]
    subprocess.run(command, capture_output=True, check=True)
    after = os.times()
    return sum(after[2:4]) - sum(before[2:4])


def measure(rounds: int) -> dict[str, list[float]]:
    """Returns the seconds of each, by round, after one round that warms up the disk."""
    took: dict[str, list[float]] = {name: [] for name in (*MODULES, "--help")}
    for _ in range(rounds + 1):
        for module in MODULES:
            took[module].append(time_import(module))
        took["--help"].append(time_help())
    return {name: each[1:] for name, each in took.items()}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    args = parser.parse_args()
    took = measure(args.rounds)
    ratios = [ours / theirs for theirs, ours in zip(*(took[name] for name in MODULES), strict=True)]
    names = [*(f"import {name}" for name in MODULES), "thor-async --help, CPU"]
    print_table(
        ["", "seconds", "quartiles"],
        [
            [name, f"{quartiles(each)[1]:.3f}", spread(each)]
            for name, each in zip(names, took.values(), strict=True)
        ],
    )
    figures = [
        Figure("import thor_async / import aiohttp", 1.20, quartiles(ratios)[1]),
        Figure("thor-async --help, CPU", 0.25, quartiles(took["--help"])[1], " s"),
    ]
    print_figures(figures)
    write_json(args.json, {"figures": figures, "seconds": took})


if __name__ == "__main__":
    main()
