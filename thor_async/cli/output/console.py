"""Progress, tables and sentences about results, for the terminal."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

from .allowed_rate import AllowedRate, format_rate
from .durations import format_duration
from .stats import BatchStats, Kind, format_counts

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


@contextmanager
def progress(
    total: int, stats: BatchStats, file: TextIO, allowed: AllowedRate, *, live: bool = True
) -> Iterator[Callable[[], None]]:
    """Shows the progress of a batch; yields a function to call after each outcome.

    Draws a bar if `live`, `file` is a terminal and rich is installed; else prints a line after each
    tenth of the batch, and when the `allowed` rate changes.
    """
    started = time.monotonic()

    def describe() -> str:
        counts = stats.format_counts("state") or stats.format_counts("verdict")
        seconds = time.monotonic() - started
        pace = _describe_pace(stats.total, total, seconds, allowed.rate)
        return "; ".join(filter(None, [counts, pace]))

    console = _rich_console(file) if live else None
    if console is None:
        lines = _ProgressLines(total, describe, file)
        allowed.on_change = lambda: lines.show("" if allowed.rate else "; no limit is known")
        yield lines.advance
        return
    from rich.progress import (  # noqa: PLC0415 - slow to import, and optional
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
    )

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False))
    bar = Progress(*columns, console=console)
    task = bar.add_task("", total=total)
    bar.start()
    allowed.on_change = lambda: bar.update(task, description=describe())
    try:
        yield lambda: bar.update(task, advance=1, description=describe())
    finally:
        with suppress(OSError):  # the terminal may have been closed
            bar.stop()


class _ProgressLines:
    """Prints a line about the progress after each tenth of a batch."""

    def __init__(self, total: int, describe: Callable[[], str], file: TextIO) -> None:
        self._total, self._describe, self._file = total, describe, file
        self._count = 0

    def advance(self) -> None:
        self._count += 1
        if self._count * 10 // self._total > (self._count - 1) * 10 // self._total:
            self.show()

    def show(self, note: str = "") -> None:
        line = f"{self._count:,} of {self._total:,}: {self._describe()}{note}"
        print(line, file=self._file, flush=True)


def _describe_pace(done: int, total: int, seconds: float, allowed: float | None) -> str:
    """Returns the rate, that which Thor allows if it is known, and the time left at that rate."""
    if allowed is not None:
        left = format_duration((total - done) / allowed)
        return f"Thor allows about {format_rate(allowed)} a second: {left} left"
    if not done or not seconds:
        return ""
    left = format_duration(seconds / done * (total - done))
    return f"{done / seconds:,.1f}/s, {left} left"


def print_table(kinds: Counter[Kind], file: TextIO) -> None:
    """Prints the number of rows of each kind, the most frequent kind first."""
    counts = [(*kind, f"{count:,}") for kind, count in kinds.most_common()]
    rows: list[tuple[str, ...]] = [_HEADINGS, *counts]
    if not format_counts(kinds, "state"):
        rows = [(verdict, code, *others) for verdict, code, _, *others in rows]
    console = _rich_console(file)
    if console is not None:
        _print_coloured_table(rows, console)
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for cells in rows:
        *left, last = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        print(*left, last.strip().rjust(widths[-1]), sep="  ", file=file)


def _print_coloured_table(rows: Sequence[tuple[str, ...]], console: Console) -> None:
    from rich.table import Table  # noqa: PLC0415 - as above

    grid = Table()
    for heading in rows[0]:
        grid.add_column(heading, justify="right" if heading == _HEADINGS[-1] else "left")
    for cells in rows[1:]:
        grid.add_row(*cells, style=_COLOURS.get(cells[-2]))
    console.print(grid)


def _rich_console(file: TextIO) -> Console | None:
    """Returns None if `file` is not a terminal, so that files and pipes get plain text."""
    if not file.isatty():
        return None
    try:
        from rich.console import Console  # noqa: PLC0415 - as above
    except ImportError:
        return None
    return Console(file=file)
