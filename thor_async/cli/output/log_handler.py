"""The library's log on standard error, as `THOR_LOG` asks for it."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

from ..errors import UsageError

_LEVELS = ("debug", "info", "warning", "error")


@contextlib.contextmanager
def shown_log(default: str = "") -> Iterator[None]:
    """Shows it meanwhile from the level in `THOR_LOG` on, else from the default; "" is nothing.

    Raises BadInput for a level that there is not.
    """
    wanted = (os.environ.get("THOR_LOG") or default).lower()
    if not wanted:
        yield
        return
    if wanted not in _LEVELS:
        raise UsageError(f"THOR_LOG must be one of {', '.join(_LEVELS)}, not {wanted!r}")
    log = logging.getLogger("thor_async")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    before = log.level
    log.addHandler(handler)
    log.setLevel(wanted.upper())
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)
