"""The journal of a batch: a line for its start, one for each outcome, one for its end."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import math
import os
import resource
import stat
from pathlib import Path
from typing import IO

import msgspec

from ..errors import UsageError
from ..input.command_file import CommandFile
from .resume import ResumeState, read_resume_state
from .sink import OutputFull
from .timestamps import utc_timestamp

# A line without its ref and chargebox, whose message is 200 characters of anything; a character
# of a row takes at most six in JSON.
_LINE = 2048
_ESCAPED = 6
_BLOCK = 65_536


class Journal:
    """A file that outlives the run. Only one process writes it, and only for one input.

    `open` first, then `begin` when something is to be sent. Room for everything that can be in
    flight is reserved beside it: when the disk is full, that is given up, `check` raises from then
    on, and what is still in flight finds its place.
    """

    def __init__(self, path: str, fleet: CommandFile, at_once: int) -> None:
        """At most `at_once` commands are without an outcome at any time."""
        self._path = Path(path)
        self._reserve = Path(f"{path}.reserve")
        self._fleet = fleet
        self._room = (at_once + 2) * (_LINE + _ESCAPED * fleet.longest)
        self._limit = _largest_file()
        self._fd = -1
        self._whole = 0
        self._is_reserved = False
        self._full: OSError | None = None

    def open(self, *, resume: bool) -> ResumeState:
        """Locks it, and reads what the runs before did. Raises BadInput if it cannot be used."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | (0 if resume else os.O_CREAT)
        try:
            self._fd = os.open(self._path, flags, 0o644)
        except FileNotFoundError:
            if resume:
                raise UsageError(
                    f"no journal at {self._path}: leave --resume out to begin one"
                ) from None
            raise UsageError(f"no folder for {self._path}: make it") from None
        except OSError as error:
            raise self._unwritable(error) from None
        self._lock()
        if not resume and os.fstat(self._fd).st_size:
            raise UsageError(
                f"{self._path} is there already: --resume goes on with it, or give another --output"
            )
        with io.FileIO(os.dup(self._fd)) as raw, io.BufferedReader(raw) as file:
            past, self._whole = read_resume_state(
                file, str(self._path), self._fleet.digest, len(self._fleet)
            )
        return past

    def begin(self, address: str) -> None:
        """Repairs a torn last line, reserves room, and writes the start of this run."""
        try:
            os.ftruncate(self._fd, self._whole)
            self._make_room()
            self._append(
                {
                    "journal": 1,
                    "input": self._fleet.digest,
                    "rows": len(self._fleet),
                    "address": address,
                    "started": utc_timestamp(),
                }
            )
        except OSError as error:
            self._give_room_back()
            os.ftruncate(self._fd, self._whole)
            raise self._unwritable(error) from None

    def check(self) -> None:
        """Raises OutputFull when no further command may be sent."""
        if self._full is None and self._whole + self._room > self._limit:
            self._full = OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        if self._full is not None:
            raise OutputFull(
                f"{self._path} takes no more ({self._full.strerror}): "
                "make room, then go on with --resume"
            )

    def write(self, line: bytes) -> None:
        """Appends one outcome. Raises OSError when there is no place at all."""
        try:
            self._write(line)
        except OSError as error:
            if self._full is not None:
                raise
            self._full = error
            self._give_room_back()
            self._write(line)

    def end(self) -> None:
        """Writes that this run ended by itself: rows without a line were not sent."""
        with contextlib.suppress(OSError):
            self.write(msgspec.json.encode({"ended": utc_timestamp()}) + b"\n")
            os.fsync(self._fd)

    def read(self) -> IO[bytes]:
        """A file with all its lines, also those of the runs before."""
        return self._path.open("rb")

    def close(self) -> None:
        """Unlocks it; one that holds nothing is taken away."""
        self._give_room_back()
        if self._fd < 0:
            return
        if not os.fstat(self._fd).st_size and self._is_ours():
            self._path.unlink(missing_ok=True)
        os.close(self._fd)
        self._fd = -1

    def _append(self, line: object) -> None:
        self._write(msgspec.json.encode(line) + b"\n")

    def _write(self, line: bytes) -> None:
        written = 0
        try:
            while written < len(line):
                written += os.write(self._fd, line[written:])
        except OSError:
            # Not half a line, which would spoil the next one.
            os.ftruncate(self._fd, self._whole)
            raise
        self._whole += len(line)

    def _lock(self) -> None:
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            self._leave()
            raise UsageError(f"{self._path} is not a file: a journal must be one")
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._leave()
            raise UsageError(f"another process writes {self._path}: wait for its end") from None
        if not self._is_ours():
            # Whoever had it has taken it away meanwhile: its lines would be nowhere.
            self._leave()
            raise UsageError(f"another process has just removed {self._path}: try again")

    def _leave(self) -> None:
        os.close(self._fd)
        self._fd = -1

    def _is_ours(self) -> bool:
        with contextlib.suppress(OSError):
            return os.path.samestat(os.fstat(self._fd), self._path.stat())
        return False

    def _make_room(self) -> None:
        with self._reserve.open("wb") as file:
            self._is_reserved = True
            for start in range(0, self._room, _BLOCK):
                file.write(bytes(min(_BLOCK, self._room - start)))

    def _give_room_back(self) -> None:
        if self._is_reserved:
            self._is_reserved = False
            with contextlib.suppress(OSError):
                self._reserve.unlink(missing_ok=True)

    def _unwritable(self, error: OSError) -> UsageError:
        return UsageError(f"cannot write {self._path} ({error.strerror}): give another --output")


def _largest_file() -> float:
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return math.inf if limit == resource.RLIM_INFINITY else limit
