"""Checks of probabilities and ranges, and the draw of one event."""

from __future__ import annotations

import math
from collections import Counter
from random import Random

import pytest

from thor_async.emulator.probabilities import (
    check_probabilities,
    check_probability,
    check_range,
    draw,
)


@pytest.mark.parametrize("value", [0, 0.5, 1])
def test_probabilities_from_0_to_1_are_allowed(value: float) -> None:
    check_probability("p", value)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf])
def test_other_probabilities_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match=f"p={value} is no probability"):
        check_probability("p", value)


def test_probabilities_may_sum_to_exactly_one() -> None:
    # Added one after the other, these give 1.0000000000000002.
    check_probabilities(dict(zip("abcde", (0.05, 0.15, 0.4, 0.3, 0.1), strict=True)))
    with pytest.raises(ValueError, match=r"sum to 1\.2"):
        check_probabilities({"a": 0.6, "b": 0.6})


@pytest.mark.parametrize("value", [(2.0, 1.0), (-1.0, 1.0), (0.0, math.inf), (math.nan, 1.0)])
def test_bad_ranges_are_refused(value: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"delay .* is no range"):
        check_range("delay", value)


def test_each_event_is_drawn_with_its_probability() -> None:
    rng = Random(1)
    drawn = Counter(draw(rng, {"a": 0.2, "b": 0.5, "c": 0.0}) for _ in range(10_000))
    assert drawn.keys() == {"a", "b", None}
    assert drawn["a"] == pytest.approx(2_000, rel=0.1)
    assert drawn["b"] == pytest.approx(5_000, rel=0.1)
