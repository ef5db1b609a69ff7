"""The output of a batch: its interface, and standard output as the simplest one."""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Sequence
from typing import IO, Any, Protocol

import msgspec

from ..streams import discard
from .console import print_error
from .printable import encode_line
from .resume import ResumeState
from .run_info import RunInfo
from .timestamps import utc_timestamp


class OutputFull(Exception):
    """The output has no room for further outcomes; all earlier outcomes are in it."""


class Output(Protocol):
    """Receives a line for each outcome.

    The order of the calls: `open`, then `begin` if something is to be sent, then `end`; at last
    `close`, always.
    """

    def open(self, address: str, *, resume: bool) -> ResumeState:
        """Returns what earlier runs did. Raises UsageError if the output cannot be used."""

    def begin(self, address: str, *, resend: Sequence[str], watch: bool, run_info: RunInfo) -> None:
        """Starts a run. Raises UsageError if the output cannot be written.

        `address` is that of the stops, `resend` has the kinds of rows that are sent again, `watch`
        says whether the run looks whether the charges stopped, and `run_info` who asked for it.
        """

    def check(self) -> None:
        """Raises OutputFull if no further command may be sent."""

    def write(self, line: bytes) -> None:
        """Writes one outcome; `line` includes its end. Raises OSError."""

    def end(self, failure: str | None) -> None:
        """Ends a run. Call it only if every outcome of the run was written.

        `failure` says why it ended early, or is None.
        """

    def read(self) -> IO[bytes]:
        """Returns a file with all lines; the caller closes it."""

    def close(self) -> None:
        """Releases all resources."""


class StandardOutput:
    """Writes to standard output; with `keep_copy`, `read` returns the lines once, after `end`.

    These lines are those of a journal.
    """

    def __init__(self, rows: int, *, keep_copy: bool) -> None:
        self._rows = rows
        self._copy = tempfile.TemporaryFile() if keep_copy else None  # noqa: SIM115 - see `close`

    def open(self, address: str, *, resume: bool) -> ResumeState:
        return ResumeState(self._rows)

    def begin(self, address: str, *, resend: Sequence[str], watch: bool, run_info: RunInfo) -> None:
        self._copy_line(
            {
                "address": address,
                "started": utc_timestamp(),
                "resend": resend,
                "watch": watch,
                **msgspec.structs.asdict(run_info),
            }
        )

    def check(self) -> None:
        pass

    def write(self, line: bytes) -> None:
        # Bytes, because JSON is UTF-8 also if the terminal has another encoding.
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
        if self._copy is not None:
            self._copy.write(line)

    def end(self, failure: str | None) -> None:
        self._copy_line({"ended": utc_timestamp(), "failure": failure})

    def read(self) -> IO[bytes]:
        copy, self._copy = self._copy, None
        if copy is None:
            return io.BytesIO()
        copy.seek(0)
        return copy

    def close(self) -> None:
        if self._copy is not None:
            self._copy.close()

    def _copy_line(self, line: dict[str, Any]) -> None:
        """Writes a line for the report only: standard output has nothing but outcomes."""
        if self._copy is not None:
            self._copy.write(encode_line(line))


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
