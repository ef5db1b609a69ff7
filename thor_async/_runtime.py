"""What exists while a client is open."""

from __future__ import annotations

import asyncio
import os

from ._config import ClientConfig
from ._confirm.pinning import TransactionResolver
from ._confirm.poller import RunningChargePoller
from ._confirm.stop_and_confirm import ConfirmOperation
from ._dispatch.dispatcher import Dispatcher
from ._list_reader import ListReader
from ._retry import RetryBudget
from ._stop import RequestContext, StopOperation
from ._transport.http import Transport


class ClientRuntime:
    """The resources of an open client, on one loop and in one process.

    `dispatcher`, `stops` and `confirms` serve its single calls; a batch has its own.
    """

    def __init__(self, config: ClientConfig, transport: Transport, dispatcher: Dispatcher) -> None:
        self.loop = asyncio.get_running_loop()
        self.process = os.getpid()
        self.transport = transport
        self.dispatcher = dispatcher
        self._config = config
        self.lists = ListReader(
            self._context(RetryBudget()), dispatcher, config.read_url, config.timeout
        )
        self.poller = RunningChargePoller(self.lists.running_charges_once, now=config.policy.now)
        self._resolver = TransactionResolver(self.poller, self.lists.chargeboxes_for_pin)
        self.stops = self.make_stop_operation()

    def make_stop_operation(self) -> StopOperation:
        """Returns an operation for stops that share a new retry budget."""
        config = self._config
        return StopOperation(self._context(RetryBudget()), config.base_url, config.emitter)

    def make_confirm_operation(
        self, stops: StopOperation, *, pins_retries: bool = False
    ) -> ConfirmOperation:
        """Returns an operation for stops that are pinned or watched, or whose retries are."""
        return ConfirmOperation(stops, self.poller, self._resolver, pins_retries)

    def _context(self, budget: RetryBudget) -> RequestContext:
        config = self._config
        return RequestContext(
            self.transport, config.key, config.policy, budget, config.attempt_timeout
        )
