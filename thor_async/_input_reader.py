"""Reads the input of a batch, plain or asynchronous, and closes it when it is left."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Generator,
    Iterable,
    Iterator,
)
from typing import Generic, TypeVar, cast

C = TypeVar("C")


class EndOfInput:
    """Stands for the end of the input; None could be a command, of an input that is wrong."""


class InputReader(Generic[C]):
    """Reads commands one by one. All methods are for one task, in one context.

    A generator may hold, from one command to the next, what belongs to the task that entered it: a
    context variable, an `asyncio.timeout`, a task group.
    """

    def __init__(self, commands: Iterable[C] | AsyncIterable[C]) -> None:
        self._live: AsyncIterator[C] | None = None
        self._plain: Iterator[C] = iter(())
        if isinstance(commands, AsyncIterable):
            self._live = aiter(commands)
        else:
            self._plain = iter(commands)
        source = self._plain if self._live is None else self._live
        # An iterator that is no generator may be the caller's own, with more to come.
        self._is_ours = source is not commands or isinstance(source, AsyncGenerator | Generator)

    async def read(self) -> C | EndOfInput:
        """Returns the next command. Raises what the input raises."""
        try:
            return next(self._plain) if self._live is None else await anext(self._live)
        except (StopIteration, StopAsyncIteration) as end:
            return self._end(end)

    async def throw(self, cancelled: CancelledError) -> C | EndOfInput:
        """Raises a cancellation where a generator waits for the next `read`.

        It may come from a timeout or a task group that the generator holds, which then ends as it
        does within one task. Returns as `read` does if the generator goes on.
        """
        try:
            if isinstance(self._live, AsyncGenerator):
                return cast("C", await self._live.athrow(cancelled))
            if isinstance(self._plain, Generator):
                return cast("C", self._plain.throw(cancelled))
        except (StopIteration, StopAsyncIteration) as end:
            return self._end(end)
        raise cancelled

    async def close(self) -> None:
        """Closes a generator, or an iterator that was made here, if it can be closed."""
        if not self._is_ours:
            return
        if self._live is None:
            getattr(self._plain, "close", _do_nothing)()
        elif (aclose := getattr(self._live, "aclose", None)) is not None:
            await aclose()

    def _end(self, end: StopIteration | StopAsyncIteration) -> EndOfInput:
        if isinstance(end, StopIteration if self._live is None else StopAsyncIteration):
            return EndOfInput()
        # Raised as it is from `__anext__`, it would end the caller's loop as if nothing were wrong.
        raise RuntimeError(f"the input raised {type(end).__name__}") from end


def _do_nothing() -> None: ...
