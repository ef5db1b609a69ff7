"""What a client has only while it is open, and how its calls are put together from it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import TypeVar

import msgspec

from ._confirm.operation import ConfirmOperation, TransactionResolver
from ._confirm.poller import RunningChargePoller
from ._dispatch.dispatcher import Dispatcher
from ._errors import NotSentError, ThorError
from ._protocol.lists import (
    Chargebox,
    RunningCharge,
    ask_chargeboxes,
    ask_running,
    read_chargeboxes,
    read_running,
)
from ._protocol.stop import Answer, Request
from ._retry import RetryBudget, RetryPolicy
from ._stop import RequestContext, RetryingRequest, StopOperation
from ._telemetry.emitter import EventEmitter
from ._transport.http import Transport

T = TypeVar("T")
Parse = Callable[[Answer, tuple[str, ...], float], list[T] | ThorError]


class ClientConfig(msgspec.Struct, frozen=True):
    """How a client makes its requests, checked."""

    key: Callable[[], str]
    base_url: str
    read_url: str
    policy: RetryPolicy
    timeout: float
    attempt_timeout: float
    teller: EventEmitter


class ClientRuntime:
    """The resources of an open client, on one loop and in one process."""

    def __init__(self, plan: ClientConfig, transport: Transport, lane: Dispatcher) -> None:
        self.transport = transport
        self.lane = lane
        self.budget = RetryBudget()
        self._plan = plan
        self._loop = asyncio.get_running_loop()
        self._process = os.getpid()
        self.lookout = RunningChargePoller(self._look, plan.policy.random)
        self._pins = TransactionResolver(self.lookout, self.chargeboxes)

    def check_home(self) -> None:
        """RuntimeError on any other loop, and in any other process."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if self._process != os.getpid() or loop is not self._loop:
            raise RuntimeError(
                "this ThorClient was entered on another event loop or in another process: "
                "build and enter one in each"
            )

    def stops(self, budget: RetryBudget) -> StopOperation:
        """How stops are made that share this budget of retries."""
        plan = self._plan
        calls = self._calls(plan.policy, budget)
        return StopOperation(calls, plan.base_url, plan.teller, plan.teller.emits_all)

    def confirming(self, budget: RetryBudget) -> ConfirmOperation:
        """As `stops`, for those that are pinned or watched."""
        return ConfirmOperation(self.stops(budget), self.lookout, self._pins, self._loop.time())

    async def running_charges(self, chargebox: str | None) -> list[RunningCharge] | ThorError:
        return await self._read(
            ask_running(self._plan.read_url, chargebox), read_running, self._plan.policy
        )

    async def chargeboxes(self) -> list[Chargebox] | ThorError:
        return await self._read(
            ask_chargeboxes(self._plan.read_url), read_chargeboxes, self._plan.policy
        )

    async def _look(self) -> list[RunningCharge] | ThorError:
        # The next look is its retry.
        once = msgspec.structs.replace(self._plan.policy, max_attempts=1)
        try:
            return await self._read(ask_running(self._plan.read_url), read_running, once)
        except Exception as failure:
            return NotSentError(f"the list was not asked for: {type(failure).__name__}")

    async def _read(
        self, asked: Request, parse: Parse[T], policy: RetryPolicy
    ) -> list[T] | ThorError:
        found: list[T] = []

        def read(answer: Answer, secrets: tuple[str, ...], now: float) -> ThorError | None:
            listed = parse(answer, secrets, now)
            if isinstance(listed, ThorError):
                return listed
            found.extend(listed)
            return None

        until = self._loop.time() + self._plan.timeout
        calls = self._calls(policy, self.budget)
        call = RetryingRequest(
            policy, self.budget, calls=calls, lane=self.lane, asked=asked, until=until, read=read
        )
        await call.run()
        return found if call.error is None else call.error

    def _calls(self, policy: RetryPolicy, budget: RetryBudget) -> RequestContext:
        plan = self._plan
        return RequestContext(self.transport, plan.key, policy, budget, plan.attempt_timeout)
