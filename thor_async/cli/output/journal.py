"""The journal of a batch: a line for its start, one for each outcome, one for its end."""

from __future__ import annotations

import contextlib
import errno
import io
import math
import os
import resource
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import msgspec

from ..errors import UsageError
from ..input.command_file import CommandFile
from .console import print_error
from .file_lock import NoLocksError, lock_file
from .journal_reader import Damage, check_address, read_resume_state
from .journal_repair import replace_damages
from .kept_input import KeptInput, sync_folder
from .printable import encode_line
from .resume import ResumeState
from .run_info import RunInfo
from .sink import OutputFull
from .timestamps import utc_timestamp

# The longest line without its ref and its chargebox: its code, its message and its request id have
# 200 characters each, of up to four bytes.
# A character of a row becomes at most six in JSON.
_MAX_LINE = 4096
_MAX_ESCAPE = 6
_BLOCK = 65_536
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Journal:
    """An output file for one input that only one process can write at a time.

    A reserve file beside it holds the disk space for all outcomes that can still arrive. When a
    write fails because the disk is full, the reserve is released: `check` raises from then on, and
    the outcomes of the requests in flight are still written.
    """

    def __init__(
        self,
        path: str,
        command_file: CommandFile,
        max_unsettled: int,
        *,
        keep_input: bool = False,
        repair: bool = False,
        needs_lock: bool = True,
    ) -> None:
        """`max_unsettled`: the highest number of commands without an outcome at any time.

        `keep_input`: keep a copy of the input beside the journal. `repair`: replace damaged lines.
        `needs_lock`: refuse a file system without locks.
        """
        self._path = Path(path)
        self._kept_input = KeptInput(path) if keep_input else None
        self._reserve_path = Path(f"{path}.reserve")
        self._command_file = command_file
        self._damages: list[Damage] | None = [] if repair else None
        self._needs_lock = needs_lock
        max_line = _MAX_LINE + _MAX_ESCAPE * command_file.longest_row
        # Two more: the lines of the start and the end.
        self._reserve_size = (max_unsettled + 2) * max_line
        self._has_reserve = False
        self._max_size = _max_file_size()
        self._fd = -1
        self._size = 0
        self._left_out = 0
        self._write_error: OSError | None = None

    def open(self, address: str, *, resume: bool) -> ResumeState:
        """Locks the file and returns what earlier runs did. Raises UsageError if it is unusable."""
        is_new = not self._path.exists()
        try:
            flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_CREAT
            self._fd = os.open(self._path, flags, 0o644)
        except FileNotFoundError:
            raise UsageError(f"no folder for {self._path}: create it") from None
        except OSError as error:
            raise self._cannot_write(error) from None
        self._check_file()
        self._lock(is_new=is_new)
        if not resume and os.fstat(self._fd).st_size:
            raise UsageError(
                f"{self._path} exists already: continue it with --resume of stop-many, or "
                "give another --output"
            )
        if resume and is_new:
            print_error(f"no journal at {self._path} yet: this run begins it")
        with io.FileIO(os.dup(self._fd)) as raw, io.BufferedReader(raw) as file:
            resume_state, self._size = read_resume_state(
                file,
                str(self._path),
                self._command_file.digest,
                len(self._command_file),
                damages=self._damages,
            )
        check_address(resume_state, str(self._path), address)
        self._left_out = max(resume_state.left_out, self._command_file.bad_rows.count)
        self._check_kept_input()
        return resume_state

    def begin(self, address: str, *, resend: Sequence[str], watch: bool, run_info: RunInfo) -> None:
        """Replaces damaged lines, reserves disk space, and writes the start line.

        The start line is on the disk when this returns: after a power failure, the next run knows
        that this run may have sent stops.
        """
        start = {
            "journal": 1,
            "input": self._command_file.digest,
            "rows": len(self._command_file),
            "left_out": self._left_out,
            "left_out_rows": self._command_file.bad_rows.lines,
            "address": address,
            "started": utc_timestamp(),
            "resend": resend,
            "watch": watch,
            **msgspec.structs.asdict(run_info),
        }
        size = self._size
        try:
            os.ftruncate(self._fd, size)
            replace_damages(self._fd, self._damages or [])
            if self._kept_input is not None:
                self._kept_input.write(self._command_file.content)
            self._create_reserve()
            self._append(encode_line(start))
            os.fsync(self._fd)
            sync_folder(self._path.parent)
        except OSError as error:
            self._release_reserve()
            os.ftruncate(self._fd, size)
            if self._kept_input is not None and not size:
                self._kept_input.remove()
            raise self._cannot_write(error) from None

    def check(self) -> None:
        """Raises OutputFull if no further command may be sent."""
        if self._write_error is None and self._size + self._reserve_size > self._max_size:
            self._write_error = OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        if self._write_error is not None:
            raise OutputFull(
                f"cannot write more to {self._path} ({self._write_error.strerror}): "
                "free some space, then continue with --resume"
            )

    def write(self, line: bytes) -> None:
        """Appends one outcome. Raises OSError if that fails without the reserve, too."""
        try:
            self._append(line)
        except OSError as error:
            if self._write_error is not None:
                raise
            self._write_error = error
            self._release_reserve()
            self._append(line)

    def end(self, failure: str | None) -> None:
        """Writes the end line: it says that no row without a line was sent in this run.

        The outcomes are on the disk before it. `failure` says why the run ended early.
        """
        with contextlib.suppress(OSError):
            os.fsync(self._fd)
            self.write(encode_line({"ended": utc_timestamp(), "failure": failure}))
            os.fsync(self._fd)

    def read(self) -> IO[bytes]:
        """Returns a file with all lines, also those of earlier runs; the caller closes it."""
        return self._path.open("rb")

    def close(self) -> None:
        """Releases the lock and the reserve, and removes an empty journal."""
        self._release_reserve()
        if self._fd < 0:
            return
        if not os.fstat(self._fd).st_size and self._path_is_ours():
            self._path.unlink(missing_ok=True)
        self._close_fd()

    def _check_kept_input(self) -> None:
        """Raises UsageError if the copy of the input would overwrite a file that is not one."""
        if self._kept_input is None or self._size:
            return
        content = self._kept_input.read()
        if content is not None and content != self._command_file.content:
            raise UsageError(
                f"{self._kept_input.path} exists already, and the input is kept there: move it, or "
                "give another --output"
            )

    def _append(self, line: bytes) -> None:
        written = 0
        try:
            while written < len(line):
                written += os.write(self._fd, line[written:])
        except OSError:
            # An incomplete line would spoil the next one.
            os.ftruncate(self._fd, self._size)
            raise
        self._size += len(line)

    def _check_file(self) -> None:
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            self._close_fd()
            raise UsageError(f"{self._path} is not a regular file: give another --output")

    def _lock(self, *, is_new: bool) -> None:
        try:
            lock_file(self._fd, self._path)
        except NoLocksError:
            if self._needs_lock:
                if is_new:
                    self._path.unlink(missing_ok=True)
                self._close_fd()
                raise
        except UsageError:
            self._close_fd()
            raise
        if not self._path_is_ours():
            # The process that had the lock removed the file: what we wrote would be lost.
            self._close_fd()
            raise UsageError(f"another process has just removed {self._path}: try again")

    def _close_fd(self) -> None:
        os.close(self._fd)
        self._fd = -1

    def _path_is_ours(self) -> bool:
        with contextlib.suppress(OSError):
            return os.path.samestat(os.fstat(self._fd), self._path.stat())
        return False

    def _create_reserve(self) -> None:
        with self._reserve_path.open("wb") as file:
            self._has_reserve = True
            for start in range(0, self._reserve_size, _BLOCK):
                file.write(bytes(min(_BLOCK, self._reserve_size - start)))

    def _release_reserve(self) -> None:
        if self._has_reserve:
            self._has_reserve = False
            with contextlib.suppress(OSError):
                self._reserve_path.unlink(missing_ok=True)

    def _cannot_write(self, error: OSError) -> UsageError:
        # With another output, the next run would not know what this one has sent.
        cure = "free some space" if error.errno in _FULL else "give another --output"
        return UsageError(f"cannot write {self._path} ({error.strerror}): {cure}")


def _max_file_size() -> float:
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return math.inf if limit == resource.RLIM_INFINITY else limit
