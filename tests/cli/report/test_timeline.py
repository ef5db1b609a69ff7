"""The bar chart: one bar for each time and category, as high as its share."""

from __future__ import annotations

import re

from thor_async.cli.report.rows import CATEGORIES
from thor_async.cli.report.timeline import draw_timeline

from .samples import ROWS, make_row

RECT = re.compile(
    r'<rect class="(\w+)" x="(\d+)" y="([\d.]+)" width="0.9" height="([\d.]+)"><title>(.*?)</title>'
)


def at(seconds: int) -> str:
    return f"2026-01-31T18:00:{seconds:02}.000Z"


def test_without_results_there_is_no_chart() -> None:
    assert list(draw_timeline([])) == []
    assert list(draw_timeline([make_row(0, "not_sent")])) == []


def test_bars_are_stacked_by_category_at_the_time_of_their_results() -> None:
    rows = [make_row(n, at=at(0)) for n in range(3)]
    rows.append(make_row(3, state="stopped", at=at(0)))
    rows.append(make_row(4, "indeterminate", at=at(59)))
    rows.append(make_row(5, "not_sent"))
    html = "".join(draw_timeline(rows))
    assert RECT.findall(html) == [
        ("relayed", "0", "25.00", "75.00", "3 relayed, not looked at"),
        ("stopped", "0", "0.00", "25.00", "1 stopped"),
        ("unknown", "59", "75.00", "25.00", "1 unknown"),
    ]
    assert "<span>59.0 s</span>" in html


def test_results_of_one_moment_are_one_bar() -> None:
    html = "".join(draw_timeline([make_row(n, at=at(7)) for n in range(5)]))
    assert [bar[:4] for bar in RECT.findall(html)] == [("relayed", "0", "0.00", "100.00")]


def test_every_category_has_a_bar() -> None:
    rows = [make_row(n, verdict, at=at(n), **more) for n, (_, verdict, more) in enumerate(ROWS)]
    html = "".join(draw_timeline(rows))
    assert {bar[0] for bar in RECT.findall(html)} == CATEGORIES.keys()
