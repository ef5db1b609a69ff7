"""The messages of the first rows of a file that failed; a file can have millions of rows."""

from __future__ import annotations

_MOST = 64


class FirstMessages:
    """Keeps the latest message of the first rows, at most 64."""

    def __init__(self) -> None:
        self._messages: dict[int, str] = {}

    def add(self, row: int, message: str) -> None:
        """Replaces the message of a row; an empty one removes it."""
        if not message:
            self._messages.pop(row, None)
            return
        if len(self._messages) == _MOST and row not in self._messages:
            last = max(self._messages)
            if row > last:
                return
            del self._messages[last]
        self._messages[row] = message

    def find(self, row: int) -> str:
        """Returns the message of a row; empty if it has none, or was not kept."""
        return self._messages.get(row, "")
