"""One look at the running charges for all who wait, however many they are."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable

from .._errors import ThorError
from .._protocol.lists import RunningCharge
from .._protocol.notifications import StopNotification
from .tracker import ChargeTracker, Snapshot

# Seconds for which a list is good enough to tell what runs before a stop is sent.
_FRESH = 3.0
_FIRST, _LONGEST, _GROWTH, _JITTER = 2.0, 10.0, 1.5, 1.2
_PATIENCE, _LAST_LOOK = 2.0, 1.0

Look = Callable[[], Awaitable[list[RunningCharge] | ThorError]]


class RunningChargePoller:
    """Looks at the running charges while anybody watches one, and tells each what it saw.

    Looks begin at least 2 s after one another, growing to 10 s while nobody new comes, jittered.
    """

    def __init__(self, look: Look, random: Callable[[float, float], float]) -> None:
        self._look = look
        self._random = random
        self._loop = asyncio.get_running_loop()
        self._watches: dict[ChargeTracker, asyncio.Event] = {}
        self._users = 0
        self._poll: asyncio.Task[None] | None = None
        self._interval = _FIRST
        self._begun = self._due = -math.inf
        self._sooner = asyncio.Event()
        self._last: Snapshot | ThorError | None = None
        self._last_begun = -math.inf
        self._news = asyncio.Event()

    @contextlib.asynccontextmanager
    async def watching(self, watch: ChargeTracker) -> AsyncIterator[None]:
        """Tells the watch all that is seen and heard while the block lasts."""
        soon = self._begun + _FIRST * self._random(1.0, _JITTER)
        self._watches[watch] = asyncio.Event()
        self._interval = _FIRST
        if isinstance(self._last, Snapshot) and self._is_since(self._loop.time() - _FRESH):
            watch.saw(self._last)
        self._look_by(soon)
        try:
            async with self._looking():
                yield
        finally:
            del self._watches[watch]

    def told(self, notification: StopNotification) -> None:
        """Tells all who watch of a notification."""
        for watch in self._watches:
            watch.told(notification)
        self._wake()

    def patience(self) -> float:
        """How long a stop waits for a list that tells what runs before it: it matters more."""
        is_looking = self._begun > self._last_begun
        return (self._begun if is_looking else self._loop.time()) + _PATIENCE

    async def showing(
        self, chargebox: str, connector: int, since: float
    ) -> Snapshot | ThorError | None:
        """A list of the last seconds that shows a charge there, else one begun at `since` or later.

        None if that look was broken off.
        """
        listed = await self._since(self._loop.time() - _FRESH)
        if isinstance(listed, Snapshot) and not listed.there(chargebox, connector):
            listed = await self._since(since)
        return listed

    async def until_proven(self, watch: ChargeTracker, until: float) -> None:
        """Returns once the watch has its proof, or else soon after the last look, at `until`."""
        proven = self._watches[watch]
        self._wake()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await proven.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until + _LAST_LOOK):
                if not proven.is_set():
                    await self._since(until - _FIRST)

    async def _since(self, begun: float) -> Snapshot | ThorError | None:
        """What a look that began then or later brought."""
        async with self._looking():
            while not self._is_since(begun):
                if self._begun < begun:
                    self._look_by(self._loop.time())
                await self._news.wait()
        return self._last

    def _is_since(self, begun: float) -> bool:
        return self._last_begun >= begun

    def _look_by(self, due: float) -> None:
        if due < self._due:
            self._due = due
            self._sooner.set()

    @contextlib.asynccontextmanager
    async def _looking(self) -> AsyncIterator[None]:
        """Somebody needs the poll: it runs as long as anybody does."""
        self._users += 1
        if self._poll is None:
            self._poll = asyncio.Task(self._look_on(), loop=self._loop)
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                poll, self._poll = self._poll, None
                # A look that is broken off brings nothing: nobody is to wait for it.
                self._begun = min(self._begun, self._last_begun)
                poll.cancel()
                await asyncio.wait([poll])

    async def _look_on(self) -> None:
        while True:
            await self._until_due()
            self._begun = self._loop.time()
            self._due = self._begun + self._interval * self._random(1.0, _JITTER)
            self._take_in(self._begun, await self._look())

    async def _until_due(self) -> None:
        while self._loop.time() < self._due:
            self._sooner.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._due):
                    await self._sooner.wait()

    def _take_in(self, begun: float, charges: list[RunningCharge] | ThorError) -> None:
        if isinstance(charges, ThorError):
            # As fresh as it ever gets, so that all who wait are told, and not each by its own look.
            self._last_begun, self._last = self._loop.time(), charges
        else:
            self._interval = min(self._interval * _GROWTH, _LONGEST)
            self._last_begun, self._last = begun, Snapshot(begun, charges)
            for watch in self._watches:
                watch.saw(self._last)
        self._wake()
        self._news.set()
        self._news = asyncio.Event()

    def _wake(self) -> None:
        for watch, proven in self._watches.items():
            if watch.state is not None:
                proven.set()
