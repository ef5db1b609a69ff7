"""The figures of a worker at one moment."""

from __future__ import annotations

from typing import NamedTuple

from .._errors import CODES, ThorError
from .health import State


def find_counted_code(error: ThorError | None) -> str | None:
    """Returns the code under which an outcome is counted.

    Another word than Thor's documented ones may be an id, of which there is no end.
    """
    code = None if error is None else error.code
    return code if code is None or code in CODES else "other"


class WorkerStats(NamedTuple):
    """What a worker does, and what it has done since its start.

    `results` counts the outcomes by verdict and code. `pace` is the requests that may begin in a
    second, None without a limit; `throttled` counts the answers 429. `oldest` is the age in seconds
    of the oldest command in hand, 0 without one. `pending` counts the commands that no worker had
    received when it was last looked, None if that is unknown. `failure` is what has ended a task of
    the worker.
    """

    state: State = "disconnected"
    reason: str | None = None
    failure: str | None = None
    in_hand: int = 0
    pending: int | None = None
    watched: int = 0
    oldest: float = 0.0
    pace: float | None = None
    throttled: int = 0
    results: tuple[tuple[str, str, int], ...] = ()
    dead_letters: int = 0
    redeliveries: int = 0
