"""Where the outcomes of a batch go, when not into a journal: standard output."""

from __future__ import annotations

import io
import sys
import tempfile
from typing import IO, Protocol

from .resume import ResumeState


class OutputFull(Exception):
    """The output takes no more; what was sent before that is in it."""


class Output(Protocol):
    """A line for each outcome. `open` first, `begin` when something is to be sent, then `end`."""

    def open(self, *, resume: bool) -> ResumeState:
        """What the runs before did. Raises BadInput if it cannot be used."""

    def begin(self, address: str) -> None:
        """Raises BadInput if it cannot be written."""

    def check(self) -> None:
        """Raises OutputFull when no further command may be sent."""

    def write(self, line: bytes) -> None:
        """Takes one outcome, with the line's end, or raises OSError."""

    def end(self) -> None:
        """Nothing more of this run comes."""

    def read(self) -> IO[bytes]:
        """A file with all its lines, to be closed by whoever asks for it."""

    def close(self) -> None:
        """Leaves nothing behind."""


class Standard:
    """Standard output; with `is_kept`, its lines can be read, once and at the end."""

    def __init__(self, rows: int, *, is_kept: bool) -> None:
        self._rows = rows
        self._kept = tempfile.TemporaryFile() if is_kept else None  # noqa: SIM115 - see `close`

    def open(self, *, resume: bool) -> ResumeState:
        return ResumeState(self._rows)

    def begin(self, address: str) -> None:
        pass

    def check(self) -> None:
        pass

    def write(self, line: bytes) -> None:
        # Bytes, because JSON is UTF-8 whatever the terminal's encoding is.
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
        if self._kept is not None:
            self._kept.write(line)

    def end(self) -> None:
        pass

    def read(self) -> IO[bytes]:
        kept, self._kept = self._kept, None
        if kept is None:
            return io.BytesIO()
        kept.seek(0)
        return kept

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()
