"""Thors that limit the requests of an account, for `benchmarks.throttle`, under virtual time."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from unittest import mock

import msgspec

from tests import virtual_time
from tests.fake_transport import OK, FakeTransport, Reply, thor_says
from thor_async import ResponseTimeout, StopCharge, ThorError
from thor_async._protocol.http_messages import Answer, Request
from thor_async._transport.deadlines import Deadlines
from thor_async.emulator.rate_limits import TokenBucket

from . import server

JITTER = 0.2
"""A latency is drawn between 1 - this and 1 + this of the given one."""

THROTTLED = thor_says("TooManyRequests", 429)
BROKEN = thor_says("InternalServerError", 500)
HTTP_THROTTLED = (
    b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\n"
    b'Content-Length: 29\r\n\r\n{"message":"TooManyRequests"}'
)


class LimitedThor:
    """Answers the stops of one account, and counts them.

    `rate` requests a second are accepted, after `burst` seconds of them at once; None: all of them.
    `own` has the number of requests that a chargebox itself answers by 429; they take a token of
    the account all the same. `failing` is the share of 500 among the other answers.
    """

    def __init__(
        self,
        rate: float | None,
        burst: float = 1.0,
        *,
        retry_after: str | None = None,
        own: dict[str, float] | None = None,
        failing: float = 0.0,
    ) -> None:
        self._bucket = None if rate is None else TokenBucket(rate, max(1, round(rate * burst)), 0.0)
        self._throttled = msgspec.structs.replace(THROTTLED, retry_after=retry_after)
        self._own = Counter(own or {})
        self._failing = failing
        self._dice = random.Random(3)
        self.requests = 0
        self.accepted: list[tuple[float, str]] = []
        self.throttled_at: list[float] = []

    def change(self, rate: float, now: float) -> None:
        """Changes the rate, with a burst of one second of it."""
        assert self._bucket is not None
        self._bucket.change(rate, round(rate), now)

    def reply(self, command: StopCharge, now: float) -> Answer:
        self.requests += 1
        if self._bucket is not None and self._bucket.take(now):
            self.throttled_at.append(now)
            return self._throttled
        if self._own[command.chargebox] > 0:
            self._own[command.chargebox] -= 1
            self.throttled_at.append(now)
            return self._throttled
        if self._failing and self._dice.random() < self._failing:
            return BROKEN
        self.accepted.append((now, command.chargebox))
        return OK

    @property
    def throttled_share(self) -> float:
        """The share of 429 among all requests."""
        return len(self.throttled_at) / max(1, self.requests)


class JitteredTransport(FakeTransport):
    """Asks `reply` after half of the latency, and answers after the other half."""

    def __init__(self, reply: Reply, latency: float, jitter: float = JITTER) -> None:
        super().__init__(reply, latency)
        self._jitter = jitter
        self._dice = random.Random(5)

    async def send(
        self, request: Request, key: str, seconds: float, deadlines: Deadlines
    ) -> Answer | ThorError:
        command = msgspec.json.decode(request.body or b"", type=StopCharge)
        half = 0.5 * self.latency * self._dice.uniform(1 - self._jitter, 1 + self._jitter)
        try:
            with deadlines.limit(seconds):
                await asyncio.sleep(half)
                answer = self.reply(command, asyncio.get_running_loop().time())
                await asyncio.sleep(half)
        except TimeoutError:
            return ResponseTimeout("no answer in time")
        assert isinstance(answer, Answer)
        return answer


class HttpDraws:
    """Answers HTTP by an account's limit, or a share of the requests by 429."""

    def __init__(self, decide: Callable[[float], bool], latency: float) -> None:
        self._decide = decide
        self._latency = latency
        self._dice = random.Random(7)
        self.answered: Counter[bool] = Counter()
        self.connections: set[asyncio.Protocol] = set()
        self.most_connections = 0

    def next(self) -> tuple[float, bytes]:
        is_accepted = self._decide(asyncio.get_running_loop().time())
        self.answered[is_accepted] += 1
        latency = self._latency * self._dice.uniform(1 - JITTER, 1 + JITTER)
        return latency, server.OK if is_accepted else HTTP_THROTTLED


class CountedConnection(server.Connection):
    """A connection that counts in `HttpDraws.connections` while it is open."""

    def __init__(self, draws: HttpDraws) -> None:
        super().__init__(draws)  # type: ignore[arg-type]  # without `stats`
        self._counted = draws

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        draws = self._counted
        draws.connections.add(self)
        draws.most_connections = max(draws.most_connections, len(draws.connections))

    def connection_lost(self, failure: Exception | None) -> None:
        self._counted.connections.discard(self)


@contextmanager
def clock_moves_on() -> Iterator[None]:
    """Puts each timer a tick of the virtual clock later than now.

    By rounding, aiolimiter can wait until now for what is due later, and that again and again: a
    clock that stands still meanwhile never gets there.
    """
    loop: Any = asyncio.get_running_loop()
    call_at, tick = loop.call_at, loop._selector.clock.resolution

    def call_later_than_now(when: float, *args: Any, **options: Any) -> asyncio.TimerHandle:
        handle: asyncio.TimerHandle = call_at(max(when, loop.time() + tick), *args, **options)
        return handle

    with mock.patch.object(loop, "call_at", call_later_than_now):
        yield


@asynccontextmanager
async def serving(draws: HttpDraws) -> AsyncIterator[str]:
    """Serves HTTP in memory, and yields the address."""
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(
        lambda: CountedConnection(draws), sock=virtual_time.listener()
    )
    async with listener:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
