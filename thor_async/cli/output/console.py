"""Progress, tables and sentences about what became of stops."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

from ..stop_results import Result
from .stats import BatchStats

if TYPE_CHECKING:
    from rich.console import Console

ADVICE = {
    "done": "nothing is left to do",
    "resend": "nothing was stopped: send it again",
    "check": "look whether the charge still runs before you send it again",
    "fix": "correct the data or the account: the same would be refused again",
}
_HEADINGS = ("verdict", "code", "charge", "next step", "outcomes")
_COLOURS = {"done": "green", "resend": "yellow", "check": "yellow", "fix": "red"}
_MINUTE = 60


def sentence(result: Result) -> str:
    """One line: what happened, and what to do."""
    outcome, advice = result.outcome, ADVICE[result.next_step]
    seen = ""
    if result.confirmation is not None:
        seen = f": {_words(result.state)} ({result.confirmation.evidence})"
    if outcome.error is not None:
        return f"{outcome.verdict}: {outcome.error}{seen}: {advice}"
    command = outcome.command
    again = ", and may have done so before" if outcome.maybe_applied else ""
    return (
        f"relayed: chargebox {command.chargebox!r} connector {command.connector}: Thor has handed "
        f"the stop on{again}{seen or '; the chargebox may still refuse it'}: {advice}"
    )


def print_error(*lines: str) -> None:
    """Lines on standard error; nobody listening there is no reason to end anything."""
    with suppress(OSError):
        for line in lines:
            print(f"thor-async: {line}", file=sys.stderr)


@contextmanager
def progress(
    total: int, tally: BatchStats, file: TextIO, *, live: bool = True
) -> Iterator[Callable[[], None]]:
    """Shows how far a batch is; what it gives is to be called once for each outcome.

    A bar in a terminal that has rich, unless not `live`; else a line for every tenth.
    """
    started = time.monotonic()

    def state() -> str:
        counts = tally.states() or tally.verdicts()
        return f"{counts}{_pace(tally.total, total, time.monotonic() - started)}"

    console = _console(file) if live else None
    if console is None:
        yield _tenths(total, state, file)
        return
    from rich.progress import (  # noqa: PLC0415 - slow to import, and not always there
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
    )

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.update(task, advance=1, description=state())


def _tenths(total: int, state: Callable[[], str], file: TextIO) -> Callable[[], None]:
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1
        if count * 10 // total > (count - 1) * 10 // total:
            print(f"{count:,} of {total:,}: {state()}", file=file, flush=True)

    return tick


def _pace(done: int, total: int, seconds: float) -> str:
    """How many a second, and how long the rest takes at that."""
    if not done or not seconds:
        return ""
    left = seconds / done * (total - done)
    span = f"{left:.0f} s" if left < _MINUTE else f"{left / _MINUTE:.0f} min"
    return f"; {done / seconds:,.1f}/s, {span} left"


def table(tally: BatchStats, file: TextIO) -> None:
    """Prints how many outcomes there are of each kind, the most frequent first."""
    counts = [(*kind, f"{count:,}") for kind, count in tally.kinds.most_common()]
    rows: list[tuple[str, ...]] = [_HEADINGS, *counts]
    if not tally.states():
        rows = [(verdict, code, *others) for verdict, code, _, *others in rows]
    console = _console(file)
    if console is not None:
        _coloured_table(rows, console)
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for cells in rows:
        *left, last = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        print(*left, last.strip().rjust(widths[-1]), sep="  ", file=file)


def _coloured_table(rows: Sequence[tuple[str, ...]], console: Console) -> None:
    from rich.table import Table  # noqa: PLC0415 - as above

    grid = Table()
    for heading in rows[0]:
        grid.add_column(heading, justify="right" if heading == _HEADINGS[-1] else "left")
    for cells in rows[1:]:
        grid.add_row(*cells, style=_COLOURS[cells[-2]])
    console.print(grid)


def _words(state: str) -> str:
    return state.replace("_", " ")


def _console(file: TextIO) -> Console | None:
    """Only for a terminal, so that files and pipes get plain text."""
    if not file.isatty():
        return None
    try:
        from rich.console import Console  # noqa: PLC0415 - as above
    except ImportError:
        return None
    return Console(file=file)
