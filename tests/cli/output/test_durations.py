"""Durations, as people say them."""

from __future__ import annotations

import pytest

from thor_async.cli.output.durations import format_duration


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.04, "0.0 s"),
        (9.6, "9.6 s"),
        (10, "10 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7300, "2.0 h"),
    ],
)
def test_a_duration(seconds: float, expected: str) -> None:
    assert format_duration(seconds) == expected
