"""Durations as people say them."""

from __future__ import annotations

_MINUTE, _HOUR = 60, 3600
_SHORT = 9.95


def format_duration(seconds: float) -> str:
    """Returns the duration in a unit of which there are at least two."""
    if seconds < 2 * _MINUTE:
        return f"{seconds:.0f} s" if seconds >= _SHORT else f"{seconds:.1f} s"
    if seconds < 2 * _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds / _HOUR:,.1f} h"
