"""Tables and sentences about results, for the terminal."""

from __future__ import annotations

import math
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from .stats import Kind, format_counts
from .terminals import find_console

if TYPE_CHECKING:
    from rich.console import Console

    from ..stop_results import StopResult

ADVICE = {
    "done": "nothing is left to do",
    "resend": "a repeat cannot stop another charge: send it again",
    "check": "check whether the charge still runs before you send it again",
    "fix": "correct the data or the account: the same command would be refused again",
}
_HEADINGS = ("verdict", "code", "charge", "next step", "outcomes")
_COLOURS = {"done": "green", "resend": "yellow", "check": "yellow", "fix": "red"}


def describe_result(result: StopResult) -> str:
    """Returns one line: what happened, and what to do."""
    outcome, advice = result.outcome, ADVICE[result.next_step]
    evidence = ""
    if result.confirmation is not None:
        state = result.state.replace("_", " ")
        evidence = f": {state} ({result.confirmation.evidence})"
    if outcome.error is not None:
        return f"{outcome.verdict}: {outcome.error}{evidence}: {advice}"
    command = outcome.command
    again = ", and may have done so before" if outcome.maybe_applied else ""
    return (
        f"relayed: chargebox {command.chargebox!r} connector {command.connector}: Thor has handed "
        f"the stop on{again}{evidence or '; the chargebox may still refuse it'}: {advice}"
    )


def print_error(*lines: str) -> None:
    """Prints lines on standard error; a closed standard error is ignored."""
    with suppress(OSError):
        for line in lines:
            print(f"thor-async: {line}", file=sys.stderr)


def print_table(kinds: Counter[Kind], file: TextIO) -> None:
    """Prints the number of rows of each kind, the most frequent kind first."""
    counts = [(*kind, f"{count:,}") for kind, count in kinds.most_common()]
    rows: list[tuple[str, ...]] = [_HEADINGS, *counts]
    if not format_counts(kinds, "state"):
        rows = [(verdict, code, *others) for verdict, code, _, *others in rows]
    console = find_console(file)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    needed = sum(widths) + 3 * len(widths) + 1
    columns = _count_columns(file) if console is None else console.width
    if needed > columns:
        _print_lines(rows[1:], file)
    elif console is not None:
        _print_coloured_table(rows, console)
    else:
        for cells in rows:
            *left, last = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
            print(*left, last.strip().rjust(widths[-1]), sep="  ", file=file)


def _count_columns(file: TextIO) -> float:
    return shutil.get_terminal_size().columns if file.isatty() else math.inf


def _print_lines(rows: Sequence[tuple[str, ...]], file: TextIO) -> None:
    """Prints a line for each row: for a terminal that is too narrow for the table."""
    for *words, step, count in rows:
        print(f"{count} {' '.join(filter(None, words))}: {step}", file=file)


def _print_coloured_table(rows: Sequence[tuple[str, ...]], console: Console) -> None:
    from rich.table import Table  # noqa: PLC0415 - slow to import, and optional

    grid = Table()
    for heading in rows[0]:
        grid.add_column(heading, justify="right" if heading == _HEADINGS[-1] else "left")
    for cells in rows[1:]:
        grid.add_row(*cells, style=_COLOURS.get(cells[-2]))
    console.print(grid)
