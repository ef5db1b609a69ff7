"""One command from its pull to its outcome: tries, deadlines, and what they add up to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from .errors import IndeterminateError, NotSentError, ResponseTimeout, ThorError, Verdict
from .lane import Lane
from .models import StopCharge, StopOutcome
from .protocol import Answer, ask_stop, read_stop
from .retry import RetryBudget, RetryPolicy, Tries
from .transport import Transport


class StopCall(msgspec.Struct, frozen=True):
    """How the stops of one client, or of one batch of it, are made."""

    transport: Transport
    base_url: str
    key: Callable[[], str]
    policy: RetryPolicy
    budget: RetryBudget
    attempt_timeout: float

    async def run(self, lane: Lane, index: int, command: StopCharge, timeout: float) -> StopOutcome:
        """The outcome of one command, within so many seconds, and before the lane's own end."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        until = min(started + timeout, lane.until)
        asked = ask_stop(self.base_url, command)
        tries = Tries(
            self.policy,
            self.budget,
            rest=lambda seconds: lane.rest(self.policy.sleep(seconds), until),
            left=lambda: until - loop.time(),
        )

        async def request(scope: asyncio.Timeout, seconds: float) -> ThorError | None:
            if command.not_after is not None and self.policy.now() > command.not_after.timestamp():
                return NotSentError("its not_after has passed", reason="expired")
            try:
                key = self.key()
            except Exception as failure:
                if tries.attempts == 0 and not lane.is_batch:
                    raise
                # The tries before, and the other commands of a batch, still need their outcomes.
                return lane.fail(failure)
            tries.attempts += 1
            answer = await self.transport.send(asked, key, scope, seconds)
            if isinstance(answer, Answer):
                return read_stop(answer, (key, command.id_tag), self.policy.now())
            if isinstance(answer, ResponseTimeout) and lane.is_cut:
                return IndeterminateError("cut off while it was in flight")
            return answer

        try:
            await tries.run(lambda: lane.send(request, until, self.attempt_timeout))
        except (Exception, asyncio.CancelledError) as failure:
            if not lane.is_batch:
                raise
            # Cancelled from outside, or a hook that raises: the outcomes must still be told.
            tries.break_off(lane.fail(failure))
        lane.ended(tries.error, tries.attempts)
        return _outcome(command, index, tries, loop.time() - started)


def _outcome(command: StopCharge, index: int, tries: Tries, elapsed: float) -> StopOutcome:
    error = tries.error
    if error is not None:
        error.command = command
        error.attempts = tries.attempts
        error.maybe_applied = tries.maybe_applied
    return StopOutcome(
        command,
        index,
        Verdict.RELAYED if error is None else error.verdict,
        error,
        tries.attempts,
        elapsed,
        tries.maybe_applied,
    )


def not_sent(command: StopCharge, index: int, error: NotSentError) -> StopOutcome:
    """The outcome of a command that no try was ever made of."""
    error.command = command
    return StopOutcome(
        command=command,
        index=index,
        verdict=error.verdict,
        error=error,
        attempts=0,
        elapsed=0.0,
        maybe_applied=False,
    )
