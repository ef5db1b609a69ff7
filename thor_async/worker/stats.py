"""The figures of a worker at one moment."""

from __future__ import annotations

from typing import NamedTuple

from .health import State


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
