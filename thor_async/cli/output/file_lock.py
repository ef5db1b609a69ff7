"""The lock that lets only one process write a file."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path

from ..errors import UsageError

_IS_LOCKED = {errno.EWOULDBLOCK, errno.EACCES}


class NoLocksError(UsageError):
    """The file system has no locks."""


def lock_file(fd: int, path: Path) -> None:
    """Locks an open file until it is closed.

    Raises UsageError if another process has the lock, and NoLocksError without locks.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _IS_LOCKED:
            raise UsageError(f"another process is writing {path}: wait for its end") from None
        raise NoLocksError(
            f"cannot lock {path} ({error.strerror}): give an --output on a file system with locks, "
            "or --no-lock if no other process writes this one"
        ) from None
