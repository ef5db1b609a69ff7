"""Replaces the damaged lines of a journal."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable

from .journal_reader import Damage


def replace_damages(fd: int, damages: Iterable[Damage]) -> None:
    """Makes every line JSON again, so that later runs and other programs can read the file."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    # With O_APPEND, Linux writes at the end whatever the position is.
    fcntl.fcntl(fd, fcntl.F_SETFL, flags & ~os.O_APPEND)
    try:
        for damage in damages:
            line = damage.replacement()
            written = 0
            while written < len(line):
                written += os.pwrite(fd, line[written:], damage.start + written)
    finally:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags)
