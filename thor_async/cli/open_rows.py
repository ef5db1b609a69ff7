"""The rows of a batch that were begun and have no result yet."""

from __future__ import annotations

import asyncio
from itertools import islice

from .input.command_file import CommandFile
from .output.console import print_error

_GAP = 10.0
_NAMED = 3


class OpenRows:
    """The rows of a command file that were pulled and have no result yet, in their order."""

    def __init__(self, command_file: CommandFile) -> None:
        self._command_file = command_file
        self._rows: dict[int, None] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: int) -> None:
        self._rows[row] = None

    def discard(self, row: int) -> None:
        self._rows.pop(row, None)

    async def report(self) -> None:
        """Prints regularly which charges are not yet known to have stopped."""
        while True:
            await asyncio.sleep(_GAP)
            if self._rows:
                names = [self._describe(row) for row in islice(self._rows, _NAMED)]
                more = ", ..." if len(self) > _NAMED else ""
                print_error(
                    f"not yet known to have stopped: {len(self):,}: {', '.join(names)}{more}"
                )

    def _describe(self, row: int) -> str:
        command = self._command_file[row]
        return f"chargebox {command.chargebox!r} connector {command.connector}"
