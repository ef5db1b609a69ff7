"""Draws a bar chart of the results over time."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime

from .rows import CATEGORIES, ReportRow

_BARS = 60
_HEIGHT = 100


def draw_timeline(rows: Iterable[ReportRow]) -> Iterator[str]:
    """Yields an SVG and its axis, or nothing without results. Iterates `rows` twice."""
    times = array("d", (_seconds(row.at) for row in rows if row.at is not None))
    if not times:
        return
    first, last = min(times), max(times)
    width = (last - first) / (_BARS - 1) or 1.0
    bars = Counter(
        (int((_seconds(row.at) - first) / width), row.category)
        for row in rows
        if row.at is not None
    )
    yield from _draw_bars(bars)
    yield (
        f'<p class="axis"><span>{_clock_time(first)}</span>'
        f"<span>{last - first:,.1f} s</span><span>{_clock_time(last)}</span></p>"
    )


def _draw_bars(bars: Counter[tuple[int, str]]) -> Iterator[str]:
    heights: Counter[int] = Counter()
    for (bar, _), count in bars.items():
        heights[bar] += count
    scale = _HEIGHT / max(heights.values())
    yield (
        f'<svg viewBox="0 0 {_BARS} {_HEIGHT}" preserveAspectRatio="none" role="img" '
        'aria-label="outcomes over time">'
    )
    tops: Counter[int] = Counter()
    for (bar, category), count in sorted(bars.items()):
        tops[bar] += count
        top, height = _HEIGHT - tops[bar] * scale, count * scale
        yield (
            f'<rect class="{category}" x="{bar}" y="{top:.2f}" width="0.9" '
            f'height="{height:.2f}"><title>{count:,} {CATEGORIES[category].label}</title></rect>'
        )
    yield "</svg>"


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()


def _clock_time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds).astimezone():%H:%M:%S}"
