"""A bar chart of all outcomes of a journal over time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import NamedTuple

from .history import History
from .rows import CATEGORIES

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_STEPS = (
    *(1, 2, 5, 10, 15, 30),
    *(minutes * _MINUTE for minutes in (1, 2, 5, 10, 15, 30)),
    *(hours * _HOUR for hours in (1, 2, 3, 6, 12)),
)
_MOST_BARS, _FEWEST_BARS = 60, 12
_X_TICKS = 4
_GAP = 0.12


class Bar(NamedTuple):
    """One part of a bar: percentages of the chart's width and height, from its top left."""

    category: str
    x: float
    y: float
    width: float
    height: float
    title: str


class Tick(NamedTuple):
    """A label of an axis, at a percentage of its length; `anchor` is of its text."""

    at: float
    label: str
    anchor: str = "middle"


class Timeline(NamedTuple):
    """What the chart shows: `step` is the time of one bar, `starts` has the begins of runs."""

    bars: list[Bar]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    starts: list[float]
    step: str
    categories: list[str]


class _Scale(NamedTuple):
    """The time axis: its first epoch second, the seconds of a bar, and the number of bars."""

    first: float
    step: int
    bars: int

    def find_bar(self, seconds: float) -> int:
        return int((seconds - self.first) // self.step)

    def percent(self, seconds: float) -> float:
        return 100 * (seconds - self.first) / (self.step * self.bars)


def make_timeline(history: History, zone: timezone) -> Timeline | None:
    """Returns the chart of all outcomes, or None without any. Times are in `zone`."""
    starts = [run.started.timestamp() for run in history.runs if run.started is not None]
    ends = [run.ended.timestamp() for run in history.runs if run.ended is not None]
    times = [seconds for seconds, _ in history.outcomes]
    if not times:
        return None
    scale = _find_scale(min(times + starts), max(times + starts + ends), zone)
    counts = Counter((scale.find_bar(s), category) for s, category in history.outcomes)
    totals: Counter[int] = Counter()
    for (bar, _), count in counts.items():
        totals[bar] += count
    top = _round_up(max(totals.values()))
    present = {category for _, category in counts}
    return Timeline(
        list(_stack(counts, scale, top, zone)),
        list(_label_times(scale, zone)),
        [Tick(100 - 100 * value / top, f"{value:,}") for value in _values(top)],
        [scale.percent(start) for start in starts[1:]],
        _describe_step(scale.step),
        [category for category in CATEGORIES if category in present],
    )


def _find_scale(first: float, last: float, zone: timezone) -> _Scale:
    longer = math.ceil((last - first) / _MOST_BARS / _DAY) * _DAY
    step = next((s for s in _STEPS if (last - first) / s < _MOST_BARS - 1), longer)
    offset = datetime.fromtimestamp(first, zone).utcoffset()
    local = first + (offset.total_seconds() if offset else 0.0)
    start = first - local % step
    return _Scale(start, step, max(int((last - start) // step) + 1, _FEWEST_BARS))


def _stack(
    counts: Counter[tuple[int, str]], scale: _Scale, top: int, zone: timezone
) -> Iterable[Bar]:
    order = list(CATEGORIES)
    heights: Counter[int] = Counter()
    width = 100 / scale.bars
    for bar, category in sorted(counts, key=lambda key: (key[0], -order.index(key[1]))):
        count = counts[bar, category]
        heights[bar] += count
        at = _format_time(scale.first + bar * scale.step, zone)
        yield Bar(
            category,
            bar * width,
            100 - 100 * heights[bar] / top,
            width * (1 - _GAP),
            100 * count / top,
            f"{at}: {count:,} {CATEGORIES[category].label}",
        )


def _label_times(scale: _Scale, zone: timezone) -> Iterable[Tick]:
    for number in range(_X_TICKS + 1):
        bar = round(scale.bars * number / _X_TICKS)
        anchor = {0: "start", _X_TICKS: "end"}.get(number, "middle")
        is_long = scale.step * scale.bars > _DAY
        label = _format_time(scale.first + bar * scale.step, zone, with_date=is_long)
        yield Tick(100 * bar / scale.bars, label, anchor)


def _values(top: int) -> list[int]:
    return [0, top] if top % 2 else [0, top // 2, top]


def _round_up(count: int) -> int:
    """Returns a digit times a power of ten that is not less."""
    power: int = 10 ** (len(str(count)) - 1)
    return math.ceil(count / power) * power


def _describe_step(step: int) -> str:
    for unit, name in ((_DAY, "day"), (_HOUR, "hour"), (_MINUTE, "minute")):
        if step % unit == 0:
            count = step // unit
            return name if count == 1 else f"{count} {name}s"
    return "second" if step == 1 else f"{step} seconds"


def _format_time(seconds: float, zone: timezone, *, with_date: bool = False) -> str:
    layout = "%m-%d %H:%M" if with_date else "%H:%M:%S"
    return datetime.fromtimestamp(seconds, zone).strftime(layout)
