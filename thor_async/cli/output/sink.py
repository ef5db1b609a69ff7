"""The output of a batch: its interface, and standard output as the simplest one."""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Sequence
from typing import IO, Protocol

from ..streams import discard
from .console import print_error
from .resume import ResumeState


class OutputFull(Exception):
    """The output has no room for further outcomes; all earlier outcomes are in it."""


class Output(Protocol):
    """Receives a line for each outcome.

    The order of the calls: `open`, then `begin` if something is to be sent, then `end`; at last
    `close`, always.
    """

    def open(self, address: str, *, resume: bool) -> ResumeState:
        """Returns what earlier runs did. Raises UsageError if the output cannot be used."""

    def begin(self, address: str, *, resend: Sequence[str], watch: bool) -> None:
        """Starts a run. Raises UsageError if the output cannot be written.

        `address` is that of the stops, `resend` has the kinds of rows that are sent again, and
        `watch` says whether the run looks whether the charges stopped.
        """

    def check(self) -> None:
        """Raises OutputFull if no further command may be sent."""

    def write(self, line: bytes) -> None:
        """Writes one outcome; `line` includes its end. Raises OSError."""

    def end(self) -> None:
        """Ends a run. Call it only if every outcome of the run was written."""

    def read(self) -> IO[bytes]:
        """Returns a file with all lines; the caller closes it."""

    def close(self) -> None:
        """Releases all resources."""


class StandardOutput:
    """Writes to standard output; with `keep_copy`, `read` returns the lines once, after `end`."""

    def __init__(self, rows: int, *, keep_copy: bool) -> None:
        self._rows = rows
        self._copy = tempfile.TemporaryFile() if keep_copy else None  # noqa: SIM115 - see `close`

    def open(self, address: str, *, resume: bool) -> ResumeState:
        return ResumeState(self._rows)

    def begin(self, address: str, *, resend: Sequence[str], watch: bool) -> None:
        pass

    def check(self) -> None:
        pass

    def write(self, line: bytes) -> None:
        # Bytes, because JSON is UTF-8 also if the terminal has another encoding.
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
        if self._copy is not None:
            self._copy.write(line)

    def end(self) -> None:
        pass

    def read(self) -> IO[bytes]:
        copy, self._copy = self._copy, None
        if copy is None:
            return io.BytesIO()
        copy.seek(0)
        return copy

    def close(self) -> None:
        if self._copy is not None:
            self._copy.close()


class Echo:
    """Writes lines to standard output too. The journal has them, so a closed output is no loss."""

    def __init__(self) -> None:
        self._is_open = True

    def __call__(self, line: bytes) -> None:
        if not self._is_open:
            return
        try:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
        except OSError as error:
            self._is_open = False
            discard(sys.stdout)
            print_error(
                f"standard output gets no more outcomes ({error.strerror}): the journal has them"
            )
