"""The memory of a batch by its length: `python -m benchmarks.memory`.

One process runs streams of growing length. The growth is that of its peak memory since the shortest
stream. It is compared with a task for each command, which no semaphore bounds.
"""

from __future__ import annotations

from . import server
from .processes import Process
from .report import Figure, arguments, print_figures, print_table, write_json

SHORTEST = 1000
GATHER_AT_MOST = 100_000
LOOP = "uvloop"  # the sooner done

Growth = dict[int, float]


def sizes(longest: int) -> list[int]:
    """Returns the powers of ten from the shortest length, and the longest one."""
    found = [SHORTEST]
    while found[-1] * 10 <= longest:
        found.append(found[-1] * 10)
    return found if found[-1] == longest else [*found, longest]


def measure(name: str, counts: list[int]) -> Growth:
    """Returns the growth in MiB for each count, measured in a process of its own."""
    with server.running() as thor, Process("contenders", name, thor.base_url, LOOP) as process:
        process.read()
        peaks = {count: process.ask(count)["peak_kib"] for count in counts}
    return {count: (peak - peaks[SHORTEST]) / 1024 for count, peak in peaks.items()}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--commands", type=int, default=1_000_000, help="in the longest stream")
    args = parser.parse_args()
    counts = sizes(args.commands)
    grown = {
        "stop_stream": measure("library", counts),
        "gather": measure("gather", [count for count in counts if count <= GATHER_AT_MOST]),
    }
    print_table(
        ["commands", *(f"{name}, MiB" for name in grown)],
        [
            [
                f"{count:,}",
                *(f"{each[count]:.2f}" if count in each else "" for each in grown.values()),
            ]
            for count in counts
        ],
    )
    figures = [
        Figure(
            f"growth of memory, {counts[-1]:,} commands streamed",
            2.0,
            # From MiB, as the kernel counts, to the MB of the figure.
            grown["stop_stream"][counts[-1]] * 1.048576,
            " MB",
        )
    ]
    print_figures(figures)
    write_json(args.json, {"figures": figures, "growth_mib": grown})


if __name__ == "__main__":
    main()
