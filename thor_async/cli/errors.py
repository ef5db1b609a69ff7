"""The error that ends a command before it sends anything."""

from __future__ import annotations


class UsageError(Exception):
    """An argument, a file or the environment cannot be used, and nothing was sent.

    `lines` are the messages for the user: each one names the problem and the cure.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__(*lines)
        self.lines = lines
