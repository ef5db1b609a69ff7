"""Spreads stops over a time, evenly or at random."""

from __future__ import annotations

import asyncio
import contextlib
import random
from array import array
from collections.abc import AsyncIterator, Callable, Iterator

import msgspec

from thor_async import StopCharge


class Spread(msgspec.Struct, frozen=True):
    """The time in seconds over which all stops are spread.

    `is_random`: each stop begins at a random moment of it, as by OpenADR's randomizeStart, so that
    the load of a grid falls without a step. The order of the rows stays.
    """

    seconds: float
    is_random: bool = False
    uniform: Callable[[float, float], float] = random.uniform

    def plan(self, count: int, total: int) -> array[float]:
        """Returns the seconds after which each of `count` stops begins, of `total` in all."""
        if self.is_random:
            share = self.seconds * count / total
            return array("d", sorted(self.uniform(0.0, share) for _ in range(count)))
        return array("d", (number * self.seconds / total for number in range(count)))


async def spread_commands(
    commands: Iterator[StopCharge], begins: array[float], end: asyncio.Event
) -> AsyncIterator[StopCharge]:
    """Yields each command when it is due, until `end` is set."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    for begin in begins:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(started + begin):
                await end.wait()
        command = next(commands, None)
        if command is None:
            return
        yield command
