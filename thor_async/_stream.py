"""Runs many commands at once: pulls them lazily, and delivers each outcome as it completes."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Generic, NoReturn, Self, TypeVar

from ._command_puller import CommandPuller
from ._dispatch.breaker import PauseStatus
from ._dispatch.dispatcher import Dispatcher
from ._errors import BatchGaveUp

C = TypeVar("C")
R = TypeVar("R")

_WINDOW = 4
"""Commands that may be pulled and unread, for each that may be in flight."""

_MOST_CUTS = 100
"""Cancellations of a leave that the clean-up of an input may outlast. anyio sends one a round."""


class OutcomeStream(Generic[C, R]):
    """The outcomes of a batch as they complete. Made by `stop_stream`, used with `async with`.

    Iterating delivers the outcomes of all commands that were pulled, and then raises what the input
    raised, or `BatchGaveUp`. Leaving early, or being cancelled, sends nothing more and ends what is
    in flight; `unread` then has every outcome that was not read.

    One task advances the input, in the context in which the stream was made, and closes it when it
    is left. A cancellation of the leave cuts the clean-up of the input too.
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
        self._news = asyncio.Event()
        self._puller = CommandPuller(
            commands, dispatcher, self._has_room, self._start, self._news.set
        )
        self._context = contextvars.copy_context()
        self._run = run
        self._dispatcher = dispatcher
        self._width = width
        self._window = window * width
        self._within = within
        self._is_entered = self._is_left = False
        self._ready: deque[R] = deque()
        # With the command of each task that has not begun: when it is cancelled, it never does.
        self._tasks: dict[asyncio.Task[None], tuple[int, C] | None] = {}
        self._busy = 0
        self._pulled = 0
        self._read = 0

    @property
    def unread(self) -> list[R]:
        """The outcomes that have completed and were not read."""
        return list(self._ready)

    def stop_sending(self) -> None:
        """Sends nothing more, and pulls no command. What is in flight finishes.

        Commands that were pulled and not sent end as `not_sent` with the reason `closed`; iterating
        delivers these outcomes too, and then ends. Call it as often as you like.
        """
        self._puller.is_over = True
        self._dispatcher.stop("closed")

    def _pause_status(self) -> PauseStatus | None:
        """What is known of a pause while Thor seems down. For the command line."""
        return self._dispatcher.pause_status

    async def __aenter__(self) -> Self:
        if self._is_entered:
            raise RuntimeError("a stream is used once: call stop_stream again")
        self._is_entered = True
        self._dispatcher.on_room = self._puller.ask
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
        earlier = self._puller.failure
        self._dispatcher.close()
        cancelled = await self._wait_until_ended()
        failure = self._puller.failure
        if cancelled is not None:
            exc = cancelled
        if failure is not None and failure is not earlier:
            if exc is None:
                raise failure
            # It must not replace what ends the caller's block.
            asyncio.get_running_loop().call_exception_handler(
                {"message": "the input of a stream failed when it was left", "exception": failure}
            )
        if cancelled is not None:
            raise cancelled

    def __getstate__(self) -> NoReturn:
        raise TypeError("a stream cannot be copied or pickled: it is at work in this process")

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> R:
        self._check_open()
        if self._puller.task is None:
            self._puller.run(self._context.copy())
        while not self._ready:
            if self._puller.is_done and not self._tasks:
                self._finish()
            self._news.clear()
            await self._news.wait()
        self._read += 1
        outcome = self._ready.popleft()
        self._puller.ask()
        return outcome

    if not TYPE_CHECKING:  # to a type checker, these are errors

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
        if self._puller.failure is not None:
            raise self._puller.failure
        if self._dispatcher.stop_reason == "gave_up" or not self._puller.is_over:
            refusal = self._dispatcher.refusal()
            raise BatchGaveUp(refusal.message, self._dispatcher.cause or refusal)
        raise StopAsyncIteration

    async def _wait_until_ended(self) -> asyncio.CancelledError | None:
        """Waits for all tasks; returns the last cancellation that came meanwhile."""
        cancelled: asyncio.CancelledError | None = None
        cuts = 0
        puller = self._puller.task
        while self._tasks or not (puller is None or puller.done() or cuts == _MOST_CUTS):
            try:
                await asyncio.wait({*self._tasks, *filter(None, [puller])})
            except asyncio.CancelledError as again:
                cancelled, cuts = again, min(cuts + 1, _MOST_CUTS)
                if puller is not None:
                    puller.cancel()
        return cancelled

    def _has_room(self) -> bool:
        dispatcher = self._dispatcher
        # Commands without a permit leave their place to others.
        busy = self._busy - dispatcher.unpermitted
        if busy >= self._width or self._pulled - self._read >= self._window:
            return False
        # Only one may wait for its permit, because each costs a task.
        waiting = busy - dispatcher.in_flight
        return waiting == 0 or waiting <= dispatcher.free

    def _start(self, command: C) -> None:
        self._start_task(self._pulled, command)
        self._pulled += 1
        self._busy += 1

    def _start_task(self, index: int, command: C) -> None:
        # Not by the loop's task factory: an eager one would run it before it is counted. Not in
        # the current context, which may be that of the input, or of another command's call.
        task = asyncio.Task(
            self._run_one(index, command),
            loop=asyncio.get_running_loop(),
            context=self._context.copy(),
        )
        self._tasks[task] = index, command
        task.add_done_callback(self._on_task_done)

    async def _run_one(self, index: int, command: C) -> None:
        if (task := asyncio.current_task()) is not None:
            self._tasks[task] = None
        try:
            self._ready.append(await self._run(self._dispatcher, index, command))
        finally:
            self._busy -= 1
            self._news.set()
            self._puller.ask()

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        unbegun = self._tasks.pop(task)
        if task.cancelled():
            self._dispatcher.stop("closed")
            if unbegun is not None:
                self._start_task(*unbegun)
        elif (failure := task.exception()) is not None:
            self._puller.fail(failure)
        if not self._tasks:
            self._news.set()
