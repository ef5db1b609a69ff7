"""Writes the library's log on standard error, from the level in `THOR_LOG`."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from datetime import UTC, datetime

from ..errors import UsageError
from .printable import encode_line

_LEVELS = ("debug", "info", "warning", "error")


@contextlib.contextmanager
def log_to_stderr(default: str = "", *, as_json: bool = False) -> Iterator[None]:
    """Writes the log on standard error in this context.

    The level is `THOR_LOG`, or `default` if that is not set; an empty level writes nothing. Raises
    UsageError for an unknown level. `as_json` writes an object on each line.
    """
    level = (os.environ.get("THOR_LOG") or default).lower()
    if not level:
        yield
        return
    if level not in _LEVELS:
        raise UsageError(f"THOR_LOG must be one of {', '.join(_LEVELS)}, not {level!r}")
    log = logging.getLogger("thor_async")
    handler = logging.StreamHandler()
    plain = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    handler.setFormatter(_JsonFormatter() if as_json else plain)
    previous_level = log.level
    log.addHandler(handler)
    log.setLevel(level.upper())
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(previous_level)


_FIELDS = (
    "event",
    "sequence",
    "chargebox",
    "connector",
    "transaction",
    "ref",
    "attempt",
    "verdict",
    "error",
    "status",
    "code",
    "maybe_applied",
    "next_step",
)


class _JsonFormatter(logging.Formatter):
    """Formats a record as JSON, with what a line is about as fields: chargebox, verdict and so on.

    The log of this library has neither a key nor an id_tag in a message or a field.
    """

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        found = {
            name: value for name in _FIELDS if (value := getattr(record, name, None)) is not None
        }
        return encode_line(line | found).decode().rstrip("\n")
