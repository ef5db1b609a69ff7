"""Damaged lines of a journal, and what stands in their place after a repair."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from typing import NamedTuple

import msgspec


class Damage(NamedTuple):
    """A line that cannot be read, with lines after it: its number, its place and its bytes."""

    number: int
    start: int
    text: bytes

    def describe(self, name: str) -> str:
        repair = "--resume --repair goes on: it takes what has no outcome for maybe sent"
        nul_bytes = self.text.count(0)
        if nul_bytes:
            return (
                f"{name} line {self.number}: {nul_bytes:,} NUL bytes in place of outcomes, as "
                f"after a power failure: {repair}"
            )
        return (
            f"{name} line {self.number}: not a line of a journal: give the journal of this input; "
            f"if this is it, {repair}"
        )

    def replacement(self) -> bytes:
        """Returns a line of the same length that says how many bytes were lost."""
        line = msgspec.json.encode({"damaged": len(self.text)})
        return line.ljust(len(self.text) - 1) + b"\n"


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
