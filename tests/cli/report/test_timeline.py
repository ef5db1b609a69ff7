"""The bar chart: all outcomes of a journal, with its axes, its zone and its legend."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from thor_async.cli.report.history import History, Run
from thor_async.cli.report.rows import CATEGORIES
from thor_async.cli.report.timeline import Timeline, make_timeline

from .samples import ROWS, make_row

START = datetime(2026, 1, 31, 18, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def draw(*rows: tuple[float, str], zone: timezone = UTC, runs: tuple[float, ...] = ()) -> Timeline:
    outcomes = (make_row(n, verdict, at=at(second)) for n, (second, verdict) in enumerate(rows))
    history = History.from_rows(outcomes)
    history.runs = [Run(started=at(seconds)) for seconds in runs]
    timeline = make_timeline(history, zone)
    assert timeline is not None
    return timeline


def test_without_outcomes_there_is_no_chart() -> None:
    assert make_timeline(History(), UTC) is None
    assert make_timeline(History.from_rows([make_row(0, "not_sent")]), UTC) is None


def test_bars_are_stacked_at_the_time_of_their_outcomes() -> None:
    relayed = [(second, "relayed") for second in (0, 0.5, 0.9)]
    timeline = draw(*relayed, (0, "indeterminate"), (11, "not_sent"))
    assert timeline.step == "second"
    found = [(b.category, round(b.x), b.y, b.height, b.title) for b in timeline.bars]
    assert found == [
        ("relayed", 0, 25.0, 75.0, "18:00:00: 3 relayed, not looked at"),
        ("unknown", 0, 0.0, 25.0, "18:00:00: 1 unknown"),
        ("not_sent", 92, 75.0, 25.0, "18:00:11: 1 not sent"),
    ]
    assert timeline.categories == ["unknown", "relayed", "not_sent"]


def test_the_axes_have_their_ends_and_round_values() -> None:
    timeline = draw((0, "relayed"), (47, "relayed"))
    assert [tick.label for tick in timeline.x_ticks] == [
        *("18:00:00", "18:00:12", "18:00:24", "18:00:36", "18:00:48")
    ]
    assert [(tick.at, tick.label) for tick in timeline.y_ticks] == [(100.0, "0"), (0.0, "1")]
    many = draw(*[(0, "relayed")] * 730, (3, "relayed"))
    assert [tick.label for tick in many.y_ticks] == ["0", "400", "800"]


def test_times_are_those_of_the_zone() -> None:
    timeline = draw((0, "relayed"), zone=timezone(timedelta(hours=5, minutes=45)))
    assert timeline.x_ticks[0].label == "23:45:00"
    assert timeline.bars[0].title.startswith("23:45:00: ")


@pytest.mark.parametrize(
    ("seconds", "step"),
    [
        *((0, "second"), (58, "second"), (59, "2 seconds"), (500, "10 seconds")),
        *((3500, "minute"), (3 * 3600, "5 minutes"), (40 * 3600, "hour")),
        *((86_400 * 20, "12 hours"), (86_400 * 59, "day"), (86_400 * 700, "12 days")),
    ],
)
def test_a_bar_is_a_round_time(seconds: float, step: str) -> None:
    timeline = draw((0, "relayed"), (seconds, "relayed"))
    assert timeline.step == step
    assert len(timeline.bars) == (2 if seconds else 1)
    assert all(bar.x >= 0 and bar.x + bar.width <= 100 for bar in timeline.bars)


def test_a_time_axis_of_days_has_dates() -> None:
    timeline = draw((0, "relayed"), (86_400 * 3, "relayed"))
    assert timeline.x_ticks[0].label == "01-31 18:00"


def test_the_begin_of_later_runs_is_marked() -> None:
    timeline = draw((10, "relayed"), (30, "relayed"), runs=(0, 15, 49))
    assert [tick.label for tick in timeline.x_ticks][:: len(timeline.x_ticks) - 1] == [
        *("18:00:00", "18:00:50")
    ]
    assert timeline.starts == [30.0, 98.0]


def test_the_chart_lasts_to_the_end_of_the_journal() -> None:
    history = History.from_rows([make_row(0, at=at(10))])
    history.runs = [Run(started=at(0), ended=at(39))]
    timeline = make_timeline(history, UTC)
    assert timeline is not None
    assert timeline.x_ticks[-1].label == "18:00:40"


def test_every_category_has_a_bar() -> None:
    rows = [make_row(n, verdict, at=at(n), **more) for n, (_, verdict, more) in enumerate(ROWS)]
    timeline = make_timeline(History.from_rows(rows), UTC)
    assert timeline is not None
    assert {bar.category for bar in timeline.bars} == CATEGORIES.keys()
    assert timeline.categories == list(CATEGORIES)
