"""Tables, figures and arguments of the benchmarks."""

from __future__ import annotations

import argparse
import contextlib
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec


class Figure(msgspec.Struct, frozen=True):
    """A measured number and its limit: it must be below the limit; with `at_least`, not below."""

    measure: str
    limit: float
    measured: float
    unit: str = ""
    at_least: bool = False

    @property
    def is_reached(self) -> bool:
        return self.measured >= self.limit if self.at_least else self.measured < self.limit


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Returns the first quartile, the median and the third quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def spread(values: Sequence[float]) -> str:
    """Returns the quartiles and the median as text, for a cell."""
    low, _, high = quartiles(values)
    return f"{low:.2f}-{high:.2f}"


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    for row in (headings, *rows):
        first, *others = zip(row, widths, strict=True)
        cells = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        print("  ".join(cells))


def print_figures(figures: Sequence[Figure]) -> None:
    print()
    print_table(
        ["", "to reach", "measured", ""],
        [
            [
                figure.measure,
                f"{'>=' if figure.at_least else '<'} {figure.limit:.2f}{figure.unit}",
                f"{figure.measured:.2f}{figure.unit}",
                "reached" if figure.is_reached else "NOT reached",
            ]
            for figure in figures
        ],
    )


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Returns a parser with the arguments of every benchmark."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured there")
    return parser


def write_json(path: Path | None, content: Any) -> None:
    if path is not None:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")


@contextlib.contextmanager
def extra() -> Iterator[None]:
    """Names the extra to install if an import of it fails."""
    try:
        yield
    except ModuleNotFoundError as missing:
        raise SystemExit(
            f"{missing.name} is not installed: pip install '.[bench]' has it"
        ) from missing
