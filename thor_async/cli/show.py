"""Progress, tables and sentences about what became of stops."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

from thor_async import NotSentError, StopOutcome

if TYPE_CHECKING:
    from rich.console import Console

Row = tuple[str, str, str]

ADVICE = {
    "done": "nothing is left to do",
    "resend": "nothing was stopped: send it again",
    "check": "look whether the charge still runs before you send it again",
    "fix": "correct the data or the account: the same would be refused again",
}
_HEADINGS = ("verdict", "code", "next step", "outcomes")
_COLOURS = {"done": "green", "resend": "yellow", "check": "yellow", "fix": "red"}


def row(outcome: StopOutcome) -> Row:
    """Verdict, code and next step; without a code of Thor's, the kind of error stands for it."""
    error = outcome.error
    code = ""
    if isinstance(error, NotSentError):
        code = error.reason
    elif error is not None:
        code = error.code or type(error).__name__
    return outcome.verdict.value, code, outcome.next_step


def sentence(outcome: StopOutcome) -> str:
    """One line: what happened, and what to do."""
    if outcome.error is not None:
        return f"{outcome.verdict}: {outcome.error}: {ADVICE[outcome.next_step]}"
    command = outcome.command
    again = ", and may have done so before" if outcome.maybe_applied else ""
    return (
        f"relayed: chargebox {command.chargebox!r} connector {command.connector}: Thor has handed "
        f"the stop on{again}; the chargebox may still refuse it: {ADVICE[outcome.next_step]}"
    )


def say(*lines: str) -> None:
    """Lines on standard error; nobody listening there is no reason to end anything."""
    with suppress(OSError):
        for line in lines:
            print(f"thor-async: {line}", file=sys.stderr)


@contextmanager
def progress(total: int, file: TextIO, *, live: bool = True) -> Iterator[Callable[[], None]]:
    """Shows how far a batch is; what it gives is to be called once for each outcome.

    A bar in a terminal that has rich, unless not `live`; else a line for every quarter.
    """
    console = _console(file) if live else None
    if console is None:
        yield _quarters(total, file)
        return
    from rich.progress import (  # noqa: PLC0415 - slow to import, and not always there
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (TextColumn("stopping"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)


def _quarters(total: int, file: TextIO) -> Callable[[], None]:
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1
        if count * 4 // total > (count - 1) * 4 // total:
            print(f"{count:,} of {total:,}", file=file, flush=True)

    return tick


def table(outcomes: Iterable[StopOutcome], file: TextIO) -> None:
    """Prints how many outcomes there are of each kind, the most frequent first."""
    rows = [(*kind, f"{count:,}") for kind, count in Counter(map(row, outcomes)).most_common()]
    console = _console(file)
    if console is not None:
        _coloured_table(rows, console)
        return
    widths = [max(map(len, column)) for column in zip(_HEADINGS, *rows, strict=True)]
    for cells in (_HEADINGS, *rows):
        *left, last = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        print(*left, last.strip().rjust(widths[-1]), sep="  ", file=file)


def _coloured_table(rows: Iterable[tuple[str, str, str, str]], console: Console) -> None:
    from rich.table import Table  # noqa: PLC0415 - as above

    grid = Table()
    for heading in _HEADINGS:
        grid.add_column(heading, justify="right" if heading == _HEADINGS[-1] else "left")
    for cells in rows:
        grid.add_row(*cells, style=_COLOURS[cells[2]])
    console.print(grid)


def _console(file: TextIO) -> Console | None:
    """Only for a terminal, so that files and pipes get plain text."""
    if not file.isatty():
        return None
    try:
        from rich.console import Console  # noqa: PLC0415 - as above
    except ImportError:
        return None
    return Console(file=file)
