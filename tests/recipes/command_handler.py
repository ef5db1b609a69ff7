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


class Result(NamedTuple):
    settlement: Settlement
    outcome: StopOutcome | None = None
    was_sent: bool = False  # else the next delivery is no repeat


class CommandHandler:
    """Stops the charges of commands from any broker, and says how each message ends.

    While Thor seems down or refuses the account, all wait but one at a time, the probe. `paused`
    then says how to hand a message back that must not wait.
    """

    paused = Settlement("retry", delay=15.0, reason="paused: Thor seems down, or refuses the account")

    def __init__(self, thor: ThorClient) -> None:
        self._thor = thor
        self._breaker = CircuitBreaker()
