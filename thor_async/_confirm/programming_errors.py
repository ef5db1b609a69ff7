"""Logs programming errors in the poll of running charges, and raises them to its callers."""

from __future__ import annotations

from typing import NoReturn

from .._telemetry.logging import log_failure


class ProgrammingError:
    """The exception of a programming error. It may be raised to several waiters."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self._traceback = error.__traceback__

    def throw(self) -> NoReturn:
        """Raises the exception with its first traceback, which would else grow with each raise."""
        raise self._error.with_traceback(self._traceback)


def log_programming_error(error: Exception) -> ProgrammingError:
    """Logs a programming error, and returns it to be raised to each waiter."""
    log_failure("the poll of running charges", error)
    return ProgrammingError(error)
