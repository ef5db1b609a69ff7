"""Logs programming errors in the poll of running charges, and raises them to its callers."""

from __future__ import annotations

import contextlib
import logging
import traceback
from typing import NoReturn

_log = logging.getLogger("thor_async")


class OwnFault:
    """The exception of a programming error. It may be raised to several waiters."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self._traceback = error.__traceback__

    def throw(self) -> NoReturn:
        """Raises the exception with its first traceback, which would else grow with each raise."""
        raise self._error.with_traceback(self._traceback)


def log_fault(error: Exception) -> OwnFault:
    """Logs a programming error without its text or its chain, which may hold anything."""
    where = "".join(traceback.format_tb(error.__traceback__))
    # The log itself may fail.
    with contextlib.suppress(Exception):
        _log.error("the poll of running charges raised %s:\n%s", type(error).__name__, where)
    return OwnFault(error)
