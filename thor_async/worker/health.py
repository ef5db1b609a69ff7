"""The health file, from which an orchestrator reads the state of a worker."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import msgspec

State = Literal["running", "paused", "disconnected", "not_serving", "draining"]

LOG = logging.getLogger("thor_async.worker")


def write_health(
    path: Path, state: State, in_hand: int, pace: float | None, throttled: int
) -> None:
    """Replaces the file at `path` atomically. Logs a warning, and goes on, when it cannot write.

    `in_hand` counts the commands that the worker holds, `throttled` the answers 429 since its
    start; `pace` is the requests that may begin in a second, None while no limit is known. The age
    of the file is the time since the worker's last sign of life.
    """
    health = {"state": state, "in_hand": in_hand, "pace": pace, "throttled": throttled}
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.write_bytes(msgspec.json.encode(health) + b"\n")
        temporary.replace(path)
    except OSError as error:
        LOG.warning("cannot write the health file: %s", error.strerror)
