"""Writes the library's log on standard error, from the level in `THOR_LOG`."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

from ..errors import UsageError

_LEVELS = ("debug", "info", "warning", "error")


@contextlib.contextmanager
def log_to_stderr(default: str = "") -> Iterator[None]:
    """Writes the log on standard error in this context.

    The level is `THOR_LOG`, or `default` if that is not set; an empty level writes nothing. Raises
    UsageError for an unknown level.
    """
    level = (os.environ.get("THOR_LOG") or default).lower()
    if not level:
        yield
        return
    if level not in _LEVELS:
        raise UsageError(f"THOR_LOG must be one of {', '.join(_LEVELS)}, not {level!r}")
    log = logging.getLogger("thor_async")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    previous_level = log.level
    log.addHandler(handler)
    log.setLevel(level.upper())
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(previous_level)
