"""A transport that answers from a function of time and command, without any socket."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import msgspec

import thor_async._client
from thor_async import NotSentError, ResponseTimeout, StopCharge, ThorClient, ThorError
from thor_async._protocol.http_messages import Answer, Request
from thor_async._transport.deadlines import Deadlines

Reply = Callable[[StopCharge, float], Answer | ThorError | None]

OK = Answer(200, b"{}")


def refused() -> NotSentError:
    return NotSentError("connection refused", reason="connect")


def thor_says(code: str, status: int) -> Answer:
    return Answer(status, msgspec.json.encode({"message": code}))


class FakeTransport:
    """Answers after `latency` seconds what `reply` says; None is an answer that never comes."""

    session = SimpleNamespace(closed=False)

    def __init__(self, reply: Reply, latency: float = 0.0) -> None:
        self.reply = reply
        self.latency = latency
        self.requests: list[tuple[float, StopCharge]] = []
        self.sent: Counter[str] = Counter()
        self.in_flight = self.most_in_flight = 0
        self.is_forgetful = False

    def __call__(self, *_: Any) -> FakeTransport:
        return self

    async def close(self) -> None: ...

    async def send(
        self, request: Request, key: str, seconds: float, deadlines: Deadlines
    ) -> Answer | ThorError:
        loop = asyncio.get_running_loop()
        command = msgspec.json.decode(request.body or b"", type=StopCharge)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            with deadlines.limit(seconds):
                answer = self.reply(command, loop.time())
                if not isinstance(answer, NotSentError) and not self.is_forgetful:
                    self.requests.append((loop.time(), command))
                    self.sent[command.chargebox] += 1
                if self.latency:
                    await asyncio.sleep(self.latency)
                if answer is None:
                    await asyncio.sleep(3600)
        except TimeoutError:
            return ResponseTimeout("no answer in time")
        finally:
            self.in_flight -= 1
        assert answer is not None
        return answer

    @contextmanager
    def installed(self) -> Iterator[None]:
        with mock.patch.object(thor_async._client, "Transport", self):
            yield

    def client(self, **settings: Any) -> ThorClient:
        return ThorClient("key", base_url="http://127.0.0.1:1/x", **settings)


def fleet(count: int, *, start: int = 0) -> Iterator[StopCharge]:
    return (StopCharge(f"box-{n}", 1, "tag", n + 1) for n in range(start, start + count))
