"""The emulator in a thread of its own, for code without an event loop: `with ThorEmulator()`."""

from __future__ import annotations

import asyncio
import functools
import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

P = ParamSpec("P")
S = TypeVar("S", bound="Threaded")
T = TypeVar("T")

_PATIENCE = 30.0
"""Seconds. All that the emulator does in its thread takes far less."""


class LoopThread:
    """An event loop that runs in a thread of its own, from now until `end`.

    What waits for it raises RuntimeError after `patience` seconds, so that it never hangs.
    """

    def __init__(self, name: str, patience: float = _PATIENCE) -> None:
        self._patience = patience
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        # A daemon: a program can end while a function of its own blocks this thread.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._ended.wait())

    def is_current(self) -> bool:
        """Whether this is called in that thread."""
        return threading.get_ident() == self._thread.ident

    def call(self, function: Callable[[], T]) -> T:
        """Calls a function in the thread; returns or raises what it does."""

        async def call() -> T:
            return function()

        return self.run(call())

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine in the thread, and waits for it."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(self._patience)
        except TimeoutError:
            if future.done():
                raise
        future.cancel()
        raise self._is_blocked()

    async def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine in the thread, and lets the loop of the caller go on meanwhile."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        waiting = asyncio.timeout(self._patience)
        try:
            async with waiting:
                return await asyncio.wrap_future(future)
        except TimeoutError:
            if not waiting.expired():
                raise
        raise self._is_blocked()

    def end(self) -> None:
        """Ends the loop with all that runs on it, then the thread."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(self._patience)
        if self._thread.is_alive():
            raise self._is_blocked()

    def _is_blocked(self) -> RuntimeError:
        return RuntimeError(
            f"the thread {self._thread.name!r} did nothing for {self._patience:g} s: a function of "
            "yours, such as that of `notifications`, blocks it; let it return at once"
        )


class Threaded(ABC):
    """Adds `with` to a class with `async with`: its marked methods then run in an own thread."""

    _thread: LoopThread | None = None

    @abstractmethod
    async def __aenter__(self) -> Self: ...

    @abstractmethod
    async def __aexit__(self, *exc_info: object) -> None: ...

    def __enter__(self) -> Self:
        thread = LoopThread(type(self).__name__)
        try:
            thread.run(self.__aenter__())
        except BaseException:
            thread.end()
            raise
        self._thread = thread
        return self

    def __exit__(self, *exc_info: object) -> None:
        thread, self._thread = self._thread, None
        if thread is None:
            return
        try:
            thread.run(self.__aexit__(*exc_info))
        finally:
            thread.end()

    def _find_other_thread(self) -> LoopThread | None:
        """Returns the own thread, unless there is none or the caller runs in it."""
        thread = self._thread
        return None if thread is None or thread.is_current() else thread


def in_own_thread(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Marks a method that changes state: it runs between requests, and its timers on the loop."""

    @functools.wraps(method)
    def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        thread = self._find_other_thread()
        if thread is None:
            return method(self, *args, **kwargs)
        return thread.call(functools.partial(method, self, *args, **kwargs))

    return call


def awaited_in_own_thread(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Marks an async method, which can then be awaited on any loop, also by `asyncio.run`."""

    @functools.wraps(method)
    async def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        thread = self._find_other_thread()
        if thread is None:
            return await method(self, *args, **kwargs)
        return await thread.wait(method(self, *args, **kwargs))

    return call
