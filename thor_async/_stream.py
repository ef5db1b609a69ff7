"""Runs many commands at once: pulls them lazily, and delivers each outcome as it completes."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from types import TracebackType
from typing import Generic, NoReturn, Self, TypeVar

from ._dispatch.dispatcher import Dispatcher
from ._errors import BatchGaveUp

C = TypeVar("C")
R = TypeVar("R")

_WINDOW = 4
"""Commands that may be pulled and unread, for each that may be in flight."""


class _NoCommand:
    """Stands for the end of the input; None could be a command, of an input that is wrong."""


class OutcomeStream(Generic[C, R]):
    """The outcomes of a batch as they complete. Made by `stop_stream`, used with `async with`.

    Iterating delivers the outcomes of all commands that were pulled, and then raises what the input
    raised, or `BatchGaveUp`. Leaving early, or being cancelled, sends nothing more and ends what is
    in flight; `unread` then has every outcome that was not read.
    """

    def __init__(
        self,
        commands: Iterable[C] | AsyncIterable[C],
        run: Callable[[Dispatcher, int, C], Awaitable[R]],
        dispatcher: Dispatcher,
        width: int,
        within: float | None,
        *,
        window: int = _WINDOW,
    ) -> None:
        self._live = aiter(commands) if isinstance(commands, AsyncIterable) else None
        self._plain = iter(()) if isinstance(commands, AsyncIterable) else iter(commands)
        self._run = run
        self._dispatcher = dispatcher
        self._width = width
        self._window = window * width
        self._within = within
        self._is_entered = self._is_left = False
        self._ready: deque[R] = deque()
        self._news = asyncio.Event()
        self._workers: set[asyncio.Task[None]] = set()
        self._pulled = 0
        self._read = 0
        self._is_pulling = False
        self._is_over = False
        self._failure: BaseException | None = None

    @property
    def unread(self) -> list[R]:
        """The outcomes that have completed and were not read."""
        return list(self._ready)

    def stop_sending(self) -> None:
        """Sends nothing more, and pulls no command. What is in flight finishes.

        Commands that were pulled and not sent end as `not_sent` with the reason `closed`; iterating
        delivers these outcomes too, and then ends. Call it as often as you like.
        """
        self._is_over = True
        self._dispatcher.stop("closed")

    async def __aenter__(self) -> Self:
        if self._is_entered:
            raise RuntimeError("a stream is used once: call stop_stream again")
        self._is_entered = True
        self._context = contextvars.copy_context()
        self._dispatcher.on_unpermitted = self._start_worker
        if self._within is not None:
            self._dispatcher.stop_after(self._within)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_left = True
        self._dispatcher.close()
        again: asyncio.CancelledError | None = None
        while self._workers:
            try:
                await asyncio.wait(self._workers)
            except asyncio.CancelledError as cancelled:
                again = cancelled  # they end at once, and their outcomes still come
        if again is not None:
            raise again

    def __getstate__(self) -> NoReturn:
        raise TypeError("a stream cannot be copied or pickled: it is at work in this process")

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> R:
        self._check_open()
        while not self._ready:
            self._start_worker()
            if not self._workers:
                self._finish()
            self._news.clear()
            await self._news.wait()
        self._read += 1
        outcome = self._ready.popleft()
        if len(self._workers) - self._dispatcher.unpermitted < self._width:
            self._start_worker()
        return outcome

    def __enter__(self) -> NoReturn:
        raise TypeError("use `async with`, not `with`")

    def __exit__(self, *exc_info: object) -> None: ...

    def __await__(self) -> NoReturn:
        raise TypeError("a stream is not awaited: use `async with ... as stream`")

    def _check_open(self) -> None:
        if not self._is_entered:
            raise RuntimeError("use `async with thor.stop_stream(...) as stream`, then `async for`")
        if self._is_left:
            raise RuntimeError("this stream was left: what was not read is in its `unread`")

    def _finish(self) -> NoReturn:
        """Nothing runs and nothing is left to read: raises what ended the batch."""
        if self._failure is not None:
            raise self._failure
        if self._dispatcher.stop_reason == "gave_up" or not self._is_over:
            refusal = self._dispatcher.refusal()
            raise BatchGaveUp(refusal.message, self._dispatcher.cause or refusal)
        raise StopAsyncIteration

    def _start_worker(self) -> None:
        """Starts one more worker, if there is a place for it and a command may be pulled."""
        # Workers without a permit leave their place to others.
        if len(self._workers) - self._dispatcher.unpermitted < self._width and self._may_pull():
            # Not by the loop's task factory: an eager one would run it before it is counted. Not
            # in the current context, which may be that of another command's call.
            worker = asyncio.Task(
                self._work(), loop=asyncio.get_running_loop(), context=self._context.copy()
            )
            self._workers.add(worker)
            worker.add_done_callback(self._on_worker_done)

    def _may_pull(self) -> bool:
        return not (
            self._pulled - self._read >= self._window
            or self._is_pulling
            or self._is_over
            or self._dispatcher.stop_reason
        )

    async def _work(self) -> None:
        dispatcher, workers, width = self._dispatcher, self._workers, self._width
        while len(workers) - dispatcher.unpermitted <= width and self._may_pull():
            index = self._pulled
            if self._live is None and not dispatcher.is_paused:
                command = self._take()
            else:
                command = await self._pull()
            if isinstance(command, _NoCommand):
                return
            if len(workers) - dispatcher.unpermitted < width:
                self._start_worker()
            self._ready.append(await self._run(dispatcher, index, command))
            self._news.set()

    async def _pull(self) -> C | _NoCommand:
        """Waits for the next command; `_NoCommand` when none is left, or none may be pulled."""
        self._is_pulling = True
        try:
            if not await self._dispatcher.wait_until_pull_allowed():
                return _NoCommand()
            if self._live is None:
                return self._take()
            taken = await self._dispatcher.wait(_take_next(self._live))
        except (Exception, asyncio.CancelledError) as failure:
            return self._end(failure)
        finally:
            self._is_pulling = False
        if taken is None:
            return _NoCommand()
        self._pulled += 1
        return taken[0]

    def _take(self) -> C | _NoCommand:
        """Takes the next command of an input that is not awaited."""
        try:
            command = next(self._plain)
        except (Exception, asyncio.CancelledError) as failure:
            return self._end(failure)
        self._pulled += 1
        return command

    def _end(self, failure: BaseException) -> _NoCommand:
        """Notes that the input has ended, or has failed."""
        if isinstance(failure, asyncio.CancelledError) and _is_being_cancelled():
            raise failure
        self._is_over = True
        if not isinstance(failure, StopIteration | StopAsyncIteration):
            self._failure = failure
        return _NoCommand()

    def _on_worker_done(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        if worker.cancelled():
            self._dispatcher.stop("closed")
        elif (failure := worker.exception()) is not None:
            self._is_over, self._failure = True, failure
        self._news.set()


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _take_next(source: AsyncIterator[C]) -> tuple[C]:
    return (await anext(source),)
