"""A copy of the input beside its journal, so that a batch from a pipe can be resumed."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from ..errors import UsageError

_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EISDIR}
"""Errors of file systems on which a folder cannot be written to the disk by itself."""


class KeptInput:
    """The copy of the input of one journal. Only its owner can read it: it has id_tags."""

    def __init__(self, journal: str) -> None:
        self.path: Path = Path(f"{journal}.input")

    def write(self, content: bytes) -> None:
        """Writes the copy to the disk, or raises OSError."""
        part = self.path.with_name(f"{self.path.name}.part")
        part.unlink(missing_ok=True)
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(fd)
            part.replace(self.path)
        except OSError:
            part.unlink(missing_ok=True)
            raise

    def read(self) -> bytes | None:
        """Returns the copy, or None if there is none. Raises UsageError if it is unreadable."""
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UsageError(
                f"cannot read {self.path} ({error.strerror}): give the input of the journal as FILE"
            ) from None

    def remove(self) -> None:
        """Removes the copy, if it exists."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Writes the names in a folder to the disk, where the file system can do that."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _NO_FOLDER_SYNC:
            return
        raise
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(fd)
