import asyncio
import contextlib
from datetime import UTC, datetime
from typing import Any, NamedTuple

from thor_async import StopOutcome, ThorClient
from thor_async.worker import (
    CircuitBreaker,
    Settlement,
    apply_as_of,
    decide,
    find_expiry,
    read_command,
)

PAUSED = Settlement("retry", delay=15.0, reason="paused: Thor seems down, or refuses the account")


class Result(NamedTuple):
    settlement: Settlement
    outcome: StopOutcome | None = None
    was_sent: bool = False  # else the next delivery is no repeat


class CommandHandler:
    """Stops the charges of commands from any broker, and says how each message ends."""

    def __init__(self, thor: ThorClient) -> None:
        self._thor = thor
        self._breaker = CircuitBreaker()

    async def handle(
        self,
        body: bytes,
        created: datetime,
        deliveries: int,
        *,
        fresh_for: float = 30.0,
        longest_wait: float | None = None,
    ) -> Result:
        """`created`: when the message was first stored. `deliveries`: with this one.

        `fresh_for=0`: for a broker that cannot tell a repeat. `longest_wait`: of a pause.
        """
        command = read_command(body)
        if isinstance(command, Settlement):
            return Result(command)
        async with contextlib.AsyncExitStack() as stack:
            try:  # while Thor is away, all wait but one at a time, the probe
                async with asyncio.timeout(longest_wait):
                    record = await stack.enter_async_context(self._breaker.turn())
            except TimeoutError:
                return Result(PAUSED)
            now = datetime.now(UTC)
            expiry = find_expiry(command, created, now, deliveries)
            if expiry is not None:
                return Result(expiry)
            # A repeat stops no charge that began after `created`.
            command = apply_as_of(command, created, now, deliveries, fresh_for=fresh_for)
            (outcome,) = await self._thor.stop_many([command])
            record(outcome)
        return Result(decide(outcome, deliveries), outcome, outcome.attempts > 0)


async def raw_body(message: Any) -> Any:
    """For a subscriber of FastStream: decodes nothing, so that no body can break it."""
    return message.body
