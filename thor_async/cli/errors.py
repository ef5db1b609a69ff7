"""What ends a command before anything is sent."""

from __future__ import annotations


class UsageError(Exception):
    """What was given cannot be used, so nothing was sent; each line says why, and the cure."""

    def __init__(self, *lines: str) -> None:
        super().__init__(*lines)
        self.lines = lines
