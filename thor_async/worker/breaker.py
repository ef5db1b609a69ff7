"""The pause that `Settlement.pauses` asks for, for workers on any broker."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

from .._confirm.tracker import Confirmation
from .._dispatch import breaker
from .._errors import ThorError
from .._models import StopOutcome


class CircuitBreaker:
    """Pauses while Thor seems down or refuses the account, and sends single commands as probes.

    Take a turn for each command, and record its outcome:

        async with breaker.turn() as record:
            (outcome,) = await thor.stop_many([command])
            record(outcome)

    It opens at an account error, and after 64 outcomes in a row without an answer of Thor. Then a
    turn comes after 1, 2, 4 ... 15 s, to one command at a time, until Thor takes one. `on_open`
    gets the cause, `on_close` the seconds for which it was open. Make it in a running event loop.
    """

    def __init__(
        self,
        *,
        on_open: Callable[[ThorError], None] = lambda cause: None,
        on_close: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._breaker = breaker.CircuitBreaker(
            pauses_when_refused=True, on_open=on_open, on_close=on_close
        )

    @property
    def is_open(self) -> bool:
        """Whether it pauses now."""
        return self._breaker.is_open

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[Callable[[StopOutcome | Confirmation], None]]:
        """Waits until a command may be sent, and yields the function that takes its outcome.

        A turn without an outcome, as for a command that has expired, passes to the next command.
        """
        probe = await self._breaker.acquire_probe()
        is_recorded = False

        def record(result: StopOutcome | Confirmation) -> None:
            nonlocal is_recorded
            is_recorded = True
            outcome = result.outcome if isinstance(result, Confirmation) else result
            self._breaker.record_command(outcome.error, outcome.attempts, probe)

        try:
            yield record
        finally:
            if not is_recorded:
                self._breaker.release_probe(probe)

    def disable(self) -> None:
        """Gives a turn to all that wait, and never pauses again: for a shutdown."""
        self._breaker.disable()
