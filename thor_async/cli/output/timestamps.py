"""Timestamps for journals and reports."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_timestamp() -> str:
    """Returns the current time in UTC, with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
