"""Runs the tasks of a worker, whose failure ends it."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

LOG = logging.getLogger("thor_async.worker")


class BackgroundTasks:
    """Tasks that run until they are cancelled. If one fails, `owner` is cancelled.

    `failure` is the name and the place of what has failed: its text may hold secrets.
    """

    def __init__(self, owner: asyncio.Task[Any] | None) -> None:
        self._owner = owner
        self._tasks: list[asyncio.Task[None]] = []
        self.failure: str | None = None

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        task.add_done_callback(self._check)
        self._tasks.append(task)
        return task

    async def end(self) -> None:
        await cancel_all(self._tasks)

    def take_cancellation(self) -> bool:
        """Whether the owner was cancelled because a task has failed; then it is so no more."""
        if self.failure is None or self._owner is None:
            return False
        self._owner.uncancel()
        return True

    def _check(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (failure := task.exception()) is None:
            return
        self.failure = _describe(failure)
        LOG.critical("the worker has failed: %s", self.failure)
        if self._owner is not None:
            self._owner.cancel()


async def cancel_all(tasks: list[asyncio.Task[None]]) -> None:
    """Cancels tasks, and waits until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _describe(failure: BaseException) -> str:
    frames = traceback.extract_tb(failure.__traceback__)
    where = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    return f"{type(failure).__name__}{where}"
