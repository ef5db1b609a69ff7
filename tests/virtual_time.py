"""A loop whose clock jumps: real aiohttp at both ends, in memory, hours in a second."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar
from unittest import mock

import aiohappyeyeballs
import async_solipsism

T = TypeVar("T")


def run(main: Callable[[], Awaitable[T]]) -> T:
    """Runs it to its end under virtual time, and checks that no task is left."""

    async def guarded() -> T:
        complaints: list[Any] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        result = await main()
        for _ in range(5):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert not complaints
        return result

    with connecting(), asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(guarded())


def new_loop() -> asyncio.AbstractEventLoop:
    """Returns a loop that does not get stuck before a time less than a tick of its clock away.

    With floats such times arise, and aiohttp's server would wait for one for ever.
    """
    loop = async_solipsism.EventLoop()
    clock = loop._selector.clock
    advance = clock.advance
    clock.advance = lambda seconds: advance(max(seconds, clock.resolution))
    return loop  # type: ignore[no-any-return]


def connecting() -> AbstractContextManager[Any]:
    return mock.patch.object(
        aiohappyeyeballs,
        "start_connection",
        async_solipsism.aiohappyeyeballs_start_connection,
    )


def listener() -> Any:
    return async_solipsism.ListenSocket(("127.0.0.1", 0, 0, 0))
