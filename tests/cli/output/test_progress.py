"""The progress of a batch: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import io
import math
import sys

import pytest

from tests.cli.output.conftest import Terminal
from thor_async import PaceLowered, PaceRestored, ServerError
from thor_async._dispatch.breaker import PauseStatus
from thor_async.cli.output.allowed_rate import AllowedRate
from thor_async.cli.output.batch_status import BatchStatus, RateMeter
from thor_async.cli.output.progress import show_progress
from thor_async.cli.output.stats import BatchStats, Kind

RELAYED = Kind("relayed", "", "", "done")
STOPPED = Kind("relayed", "", "stopped", "done")


class Batch:
    """A batch with a clock that is turned by hand."""

    def __init__(self, total: int, max_rate: float | None = None) -> None:
        self.now = 0.0
        self.stats, self.allowed = BatchStats(), AllowedRate()
        self.status = BatchStatus(total, self.stats, self.clock, self.allowed, max_rate)

    def clock(self) -> float:
        return self.now

    def finish(self, count: int, seconds: float = 0.0, kind: Kind = RELAYED) -> None:
        """Ends this number of rows, evenly over some seconds."""
        for _ in range(count):
            self.now += seconds / count
            self.stats.kinds[kind] += 1
            self.status.record_outcome()

    def pause(self, failing_for: float, probe_in: float | None, gives_up_in: float) -> None:
        probe_at = None if probe_in is None else self.now + probe_in
        pause = PauseStatus(
            ServerError("no"), self.now - failing_for, probe_at, self.now + gives_up_in
        )
        self.status.find_pause = lambda: pause


def test_a_terminal_gets_a_bar(terminal: Terminal) -> None:
    batch = Batch(3)
    with show_progress(batch.status, terminal) as progress:
        batch.stats.kinds[RELAYED] += 2
        progress.advance()
    assert "━" in terminal.getvalue()
    assert "2/3" in terminal.getvalue()


def test_a_narrow_terminal_gets_the_words_without_a_bar(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    batch = Batch(3000)
    batch.pause(42, 8, 18)
    with show_progress(batch.status, terminal) as progress:
        progress.refresh()
    assert "━" not in terminal.getvalue()
    assert "gives up in 18 s" in " ".join(terminal.getvalue().split())


@pytest.mark.parametrize("reason", ["no rich", "not live", "dumb"])
def test_plain_lines(terminal: Terminal, monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    if reason == "no rich":
        monkeypatch.setitem(sys.modules, "rich.console", None)
    if reason == "dumb":
        monkeypatch.setenv("TERM", "dumb")
    batch = Batch(30)
    with show_progress(batch.status, terminal, live=reason != "not live") as progress:
        for _ in range(30):
            progress.advance()
    assert terminal.getvalue() == "".join(f"{count} of 30: \n" for count in range(3, 31, 3))


def test_lines_tell_a_pause_every_ten_seconds_and_its_end() -> None:
    batch, file = Batch(100), io.StringIO()
    with show_progress(batch.status, file, clock=batch.clock) as progress:
        for second in range(22):
            batch.pause(10 + second, 1, 60 - second)
            progress.refresh()
            batch.now += 1
        batch.status.find_pause = lambda: None
        progress.refresh()
        progress.refresh()
    lines = file.getvalue().splitlines()
    assert len(lines) == 4
    assert all("Thor has not answered since " in line for line in lines[:3])
    assert lines[0].endswith(" (10 s), next probe in 1 s, gives up in 60 s")
    assert lines[1].endswith(" (20 s), next probe in 1 s, gives up in 50 s")
    assert lines[3] == "0 of 100: Thor answers again"


def test_the_time_left_is_by_the_rate_that_thor_allows() -> None:
    batch = Batch(2000)
    batch.finish(100, 1.0)
    assert batch.status.describe() == "100 relayed; 100.0/s, 19 s left"
    batch.allowed(PaceLowered(19.7))
    assert batch.status.describe() == "100 relayed; Thor allows about 20 a second: 96 s left"
    batch.allowed(PaceRestored(None))
    assert batch.status.describe() == "100 relayed; 100.0/s, 19 s left"


def test_the_time_left_is_by_the_users_own_rate_at_best() -> None:
    batch = Batch(1100, max_rate=10)
    batch.finish(100, 1.0)  # the first ones of a second come at once
    assert batch.status.describe().endswith("100.0/s, 100 s left")


def test_the_time_left_while_the_stops_are_spread() -> None:
    batch = Batch(1000)
    batch.status.spread_ends_at = 600.0
    batch.finish(10, 60.0)
    assert batch.status.describe() == "10 relayed; spread, 9 min left"


def test_a_canary_tells_its_own_progress_and_does_not_slow_the_rest() -> None:
    batch = Batch(1020)
    batch.status.canary = 20
    batch.finish(12, 50.0, STOPPED)
    assert batch.status.describe() == "canary: 12 of 20 seen to stop; 12 stopped"
    batch.finish(8, 50.0, STOPPED)
    batch.status.begin_rest()
    batch.finish(100, 1.0)
    assert batch.status.describe() == "20 stopped; 100.0/s, 9.0 s left"


def test_after_a_pause_the_rate_is_measured_again() -> None:
    batch = Batch(1000)
    batch.finish(100, 1.0)
    batch.pause(5, None, math.inf)
    assert ", probing now; 100 relayed" in batch.status.describe()
    batch.now += 25
    batch.status.find_pause = lambda: None
    batch.status.describe()
    batch.finish(100, 1.0)
    assert batch.status.describe() == "200 relayed; 100.0/s, 8.0 s left"


def test_silence_is_told() -> None:
    batch = Batch(100)
    batch.finish(10, 1.0)
    batch.status.open_rows = 32
    batch.now += 7
    assert batch.status.describe() == "no outcome for 7 s; 10 relayed"


def test_after_an_interrupt_it_says_what_is_awaited() -> None:
    batch = Batch(100)
    batch.status.interrupted, batch.status.open_rows = True, 32
    batch.pause(5, 1, 60)
    assert batch.status.describe() == "interrupted, 32 awaited"


def test_only_the_last_half_minute_is_measured() -> None:
    meter = RateMeter()
    meter.restart(0.0, 0)
    for second in range(1, 101):
        meter.add(float(second), second if second < 50 else 50 + (second - 50) * 10)
    assert meter.rate(100.0, 550) == 10.0
    assert RateMeter().rate(5.0, 0) == 0.0


def test_a_bar_makes_room_for_a_question(terminal: Terminal) -> None:
    batch = Batch(3)
    with show_progress(batch.status, terminal) as progress:
        progress.hide()
        before = terminal.getvalue()
        progress.refresh()
        assert terminal.getvalue() == before
        progress.show_again()
        progress.refresh()
    assert len(terminal.getvalue()) > len(before)


def test_at_the_end_nothing_is_left() -> None:
    batch = Batch(10)
    batch.finish(10, 1.0)
    assert batch.status.describe() == "10 relayed; 10.0/s"
