"""The progress of a batch: a live bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol, TextIO

from .batch_status import BatchStatus
from .terminals import find_console

if TYPE_CHECKING:
    from rich.console import Console

_REDRAW = 0.1
_PAUSE_GAP = 10.0
_NARROW = 70
"""Columns of a terminal below which there is no bar, so that the words have room."""


class Progress(Protocol):
    """Shows the progress. `refresh` is called every second."""

    def advance(self) -> None:
        """Takes in an outcome."""

    def refresh(self) -> None:
        """Shows what is different now."""

    def hide(self) -> None:
        """Makes room for a question, until `show_again`."""

    def show_again(self) -> None:
        """Ends `hide`."""


class NoProgress:
    """Shows nothing."""

    def advance(self) -> None: ...

    def refresh(self) -> None: ...

    def hide(self) -> None: ...

    def show_again(self) -> None: ...


class _Lines(NoProgress):
    """Prints a line after each tenth of a batch, and when Thor is down or answers again."""

    def __init__(self, status: BatchStatus, file: TextIO, clock: Callable[[], float]) -> None:
        self._status, self._file, self._clock = status, file, clock
        self._paused_until: float | None = None
        self._count = 0

    def advance(self) -> None:
        self._count += 1
        total = self._status.total
        self._status.record_outcome()
        if self._count * 10 // total > (self._count - 1) * 10 // total:
            self.show()

    def refresh(self) -> None:
        if not self._status.is_paused:
            if self._paused_until is not None:
                self.show("Thor answers again")
            self._paused_until = None
        elif self._paused_until is None or self._clock() >= self._paused_until:
            self._paused_until = self._clock() + _PAUSE_GAP
            self.show()

    def show(self, note: str = "") -> None:
        words = "; ".join(filter(None, [self._status.describe(), note]))
        line = f"{self._count:,} of {self._status.total:,}: {words}"
        print(line, file=self._file, flush=True)


class _Bar:
    """A live bar of rich. In a narrow terminal, the words alone."""

    def __init__(self, status: BatchStatus, console: Console, clock: Callable[[], float]) -> None:
        from rich.progress import (  # noqa: PLC0415 - slow to import, and optional
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
        )
        from rich.table import Column  # noqa: PLC0415 - as above

        text = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=False))
        columns = (MofNCompleteColumn(), text)
        bar = (BarColumn(bar_width=20),) if console.width >= _NARROW else ()
        self.bar = Progress(*bar, *columns, console=console)
        self._status, self._clock = status, clock
        self._task = self.bar.add_task("", total=status.total)
        self._drawn_at = 0.0

    def advance(self) -> None:
        self._status.record_outcome()
        if self._clock() - self._drawn_at >= _REDRAW:
            self.refresh()

    def refresh(self) -> None:
        self._drawn_at = self._clock()
        text = self._status.describe()
        self.bar.update(self._task, completed=self._status.stats.total, description=text)

    def hide(self) -> None:
        self.bar.stop()

    def show_again(self) -> None:
        self.bar.start()


@contextmanager
def show_progress(
    status: BatchStatus,
    file: TextIO | None = None,
    *,
    live: bool = True,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Progress]:
    """Shows the progress of a batch on `file`, by default standard error.

    Draws a bar if `live`, `file` is a terminal that can and rich is installed; else prints lines.
    """
    file = sys.stderr if file is None else file
    console, allowed = find_console(file) if live else None, status.allowed
    if console is None:
        lines = _Lines(status, file, clock)
        allowed.on_change = lambda: lines.show("" if allowed.rate else "no limit is known")
        yield lines
        return
    live_bar = _Bar(status, console, clock)
    allowed.on_change = live_bar.refresh
    live_bar.bar.start()
    try:
        yield live_bar
    finally:
        with suppress(OSError):  # the terminal may have been closed
            live_bar.refresh()
            live_bar.bar.stop()
