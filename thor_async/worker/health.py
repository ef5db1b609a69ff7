"""A file that tells an orchestrator how the worker is."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import msgspec

State = Literal["running", "paused", "disconnected", "draining"]

LOG = logging.getLogger("thor_async.worker")


def write_health(path: Path, state: State, in_hand: int) -> None:
    """Replaces the file whole; its age is the worker's pulse. A disk that is full stops nothing."""
    fresh = path.with_name(f".{path.name}.new")
    try:
        fresh.write_bytes(msgspec.json.encode({"state": state, "in_hand": in_hand}) + b"\n")
        fresh.replace(path)
    except OSError as error:
        LOG.warning("cannot write the health file: %s", error.strerror)
