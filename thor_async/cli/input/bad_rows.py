"""The rows of a file that cannot be used."""

from __future__ import annotations

from collections.abc import Sequence

_SHOWN = 20


class BadRows:
    """Counts the messages about rows, and keeps the first ones: a file can have millions.

    `count` is their number, and `limit` how many are kept.
    """

    def __init__(self, messages: Sequence[str] = (), *, limit: int = _SHOWN) -> None:
        self.count: int = len(messages)
        self._limit = limit
        self._first = list(messages[:limit])

    def add(self, message: str) -> None:
        self.count += 1
        if self.count <= self._limit:
            self._first.append(message)

    @property
    def lines(self) -> list[str]:
        """The messages that were kept, and the number of the others."""
        more = self.count - len(self._first)
        return [*self._first, f"and {more:,} other bad rows"] if more else self._first
