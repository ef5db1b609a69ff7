"""Pulls the commands of a stream in one task, when there is room for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Iterable
from contextvars import Context
from typing import Generic, TypeVar

from ._dispatch.dispatcher import Dispatcher
from ._input_reader import EndOfInput, InputReader

C = TypeVar("C")


class CommandPuller(Generic[C]):
    """The one task that advances the input of a stream, and closes it at the end.

    Calls `start` with each command. Pulls one only while `has_room` is true and the dispatcher
    allows it; `ask` says that there may be room now. Ends when the dispatcher has stopped.
    `is_over` is true when the input has ended or failed, `failure` is what it has raised.
    """

    def __init__(
        self,
        commands: Iterable[C] | AsyncIterable[C],
        dispatcher: Dispatcher,
        has_room: Callable[[], bool],
        start: Callable[[C], None],
        on_end: Callable[[], None],
    ) -> None:
        self._input = InputReader(commands)
        self._dispatcher = dispatcher
        self._has_room = has_room
        self._start = start
        self._on_end = on_end
        self._demand = asyncio.Event()
        self._is_reading = False
        self.task: asyncio.Task[None] | None = None
        self.is_over = False
        self.failure: BaseException | None = None

    def run(self, context: Context) -> None:
        """Begins to pull, in that context."""
        self._dispatcher.on_stop = self.end
        # Not by the loop's task factory: an eager one would begin within this call.
        self.task = asyncio.Task(self._pull_all(), loop=asyncio.get_running_loop(), context=context)
        self.task.add_done_callback(self._on_done)

    @property
    def is_done(self) -> bool:
        """Whether no command will come, and the input is closed."""
        return self.task is not None and self.task.done()

    def ask(self) -> None:
        """Pulls the next command, if there is room for it."""
        if self._has_room():
            self._demand.set()

    def end(self) -> None:
        """Pulls no more, also when the input has been waited for, and closes it."""
        # In the next round, because it may be the input itself that ends it.
        asyncio.get_running_loop().call_soon(self._interrupt)

    def fail(self, failure: BaseException) -> None:
        """Ends, and notes why."""
        self.is_over, self.failure = True, failure
        self.end()

    def _interrupt(self) -> None:
        self._demand.set()
        if self._is_reading and self.task is not None:
            self.task.cancel()

    async def _pull_all(self) -> None:
        try:
            while not isinstance(command := await self._pull(), EndOfInput):
                self._start(command)
        except (Exception, asyncio.CancelledError) as failure:
            self._note(failure)
        try:
            await self._input.close()
        except (Exception, asyncio.CancelledError) as failure:
            self._note(failure)

    async def _pull(self) -> C | EndOfInput:
        """Waits until a command is needed, and for the command."""
        cancelled: asyncio.CancelledError | None = None
        try:
            if not await self._wait_for_demand():
                return EndOfInput()
        except asyncio.CancelledError as error:
            cancelled = error
        self._is_reading = True
        try:
            command = await (self._input.throw(cancelled) if cancelled else self._input.read())
        finally:
            self._is_reading = False
        self.is_over |= isinstance(command, EndOfInput)
        return command

    async def _wait_for_demand(self) -> bool:
        """Waits until there is room for a command; False when none may be pulled any more."""
        if self._dispatcher.is_paused or not self._dispatcher.in_flight:
            # The command that was pulled last takes the probe or its permit first, if it can.
            await asyncio.sleep(0)
        while not (self._has_room() or self._is_ended()):
            self._demand.clear()
            await self._demand.wait()
        if self._is_ended():
            return False
        return not self._dispatcher.is_paused or await self._dispatcher.wait_until_pull_allowed()

    def _is_ended(self) -> bool:
        return self.is_over or self._dispatcher.stop_reason is not None

    def _note(self, failure: BaseException) -> None:
        """Notes that the input has failed, or that this task was cancelled."""
        task = asyncio.current_task()
        is_cancelled = isinstance(failure, asyncio.CancelledError)
        if is_cancelled and task is not None and task.cancelling():
            # By `end`, or else from outside.
            if not self.is_over:
                self._dispatcher.stop("closed")
        else:
            self.is_over, self.failure = True, failure

    def _on_done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            self._dispatcher.stop("closed")
        elif (failure := task.exception()) is not None:
            self.is_over, self.failure = True, failure
        self._on_end()
