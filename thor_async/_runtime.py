"""What exists while a client is open."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from weakref import WeakSet

from ._config import ClientConfig
from ._confirm.pinning import TransactionResolver
from ._confirm.poller import RunningChargePoller
from ._confirm.stop_and_confirm import ConfirmOperation
from ._dispatch.dispatcher import Dispatcher
from ._dispatch.limiter import PriorityLimiter
from ._dispatch.pace import Pace
from ._list_reader import ListReader
from ._retry import RetryBudget
from ._stop import RequestContext, StopOperation
from ._transport.http import Transport


class SharedResources:
    """What clients share that were made by `with_options` of one client: its connections.

    `dispatchers` and `pollers` are those of all of them, so that the first client can end them.
    """

    def __init__(self, make_transport: Callable[[], Transport], max_in_flight: int) -> None:
        self._make_transport = make_transport
        self.max_in_flight = max_in_flight
        self.limiter = PriorityLimiter(max_in_flight)
        self.transport: Transport | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.process: int | None = None
        self.is_closing = False
        self.dispatchers: WeakSet[Dispatcher] = WeakSet()
        self.pollers: WeakSet[RunningChargePoller] = WeakSet()

    def open(self) -> None:
        """Makes the connections, for the running loop and for this process."""
        self.transport = self._make_transport()
        self.loop = asyncio.get_running_loop()
        self.process = os.getpid()


class ClientRuntime:
    """What one client has of its own while it is open: pace, poller, retry budgets, dispatchers.

    `dispatcher`, `stops` and `confirms` serve its single calls; a batch has its own.
    """

    def __init__(self, config: ClientConfig, shared: SharedResources, transport: Transport) -> None:
        self.config = config
        self._shared = shared
        self._transport = transport
        self.max_in_flight = shared.max_in_flight
        self.dispatchers: WeakSet[Dispatcher] = WeakSet()
        self.pace = Pace(config.max_rate, emit=config.emitter.emit)
        self.dispatcher = self._register(Dispatcher(shared.limiter, self.pace))
        self.lists = ListReader(
            self._context(RetryBudget()), self.dispatcher, config.read_url, config.timeout
        )
        self.poller = RunningChargePoller(self.lists.running_charges_once, now=config.policy.now)
        shared.pollers.add(self.poller)
        self._resolver = TransactionResolver(self.poller, self.lists.chargeboxes_for_pin)
        self.stops = self.make_stop_operation()

    def make_batch_dispatcher(
        self, give_up_after: float | None, within: float | None = None
    ) -> Dispatcher:
        """Returns the dispatcher of a new batch, which ends after `within` seconds."""
        dispatcher = Dispatcher(
            self._shared.limiter,
            self.pace,
            is_batch=True,
            give_up_after=give_up_after,
            emit=self.config.emitter.emit,
        )
        if within is not None:
            dispatcher.stop_after(within)
        return self._register(dispatcher)

    @property
    def pace_status(self) -> tuple[float | None, int]:
        """Requests that may begin in a second, or None without a limit; answers 429 so far."""
        return (self.pace.rate if self.pace.is_limited else None), self.pace.throttled

    def _register(self, dispatcher: Dispatcher) -> Dispatcher:
        self.dispatchers.add(dispatcher)
        self._shared.dispatchers.add(dispatcher)
        return dispatcher

    def make_stop_operation(self) -> StopOperation:
        """Returns an operation for stops that share a new retry budget."""
        config = self.config
        return StopOperation(self._context(RetryBudget()), config.base_url, config.emitter)

    def make_confirm_operation(
        self, stops: StopOperation, *, pins_retries: bool = False
    ) -> ConfirmOperation:
        """Returns an operation for stops that are pinned or watched, or whose retries are."""
        return ConfirmOperation(stops, self.poller, self._resolver, pins_retries)

    def _context(self, budget: RetryBudget) -> RequestContext:
        config = self.config
        return RequestContext(
            self._transport, config.key, config.policy, budget, config.attempt_timeout
        )
