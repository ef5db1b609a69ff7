"""One request with its retries, and one command from its pull to its outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from .errors import IndeterminateError, NotSentError, ResponseTimeout, ThorError, Verdict
from .lane import Lane
from .models import StopCharge, StopOutcome
from .protocol import Answer, Request, ask_stop, read_stop
from .retry import RetryBudget, RetryPolicy, Tries
from .teller import Teller, Telling
from .transport import Transport

Read = Callable[[Answer, str], ThorError | None]
"""What an answer means; the key is given so that it can be kept out of the error."""


class Calls(msgspec.Struct, frozen=True):
    """How the requests of one client, or of one batch of it, are made."""

    transport: Transport
    key: Callable[[], str]
    policy: RetryPolicy
    budget: RetryBudget
    attempt_timeout: float

    async def make(
        self,
        lane: Lane,
        asked: Request,
        until: float,
        read: Read,
        *,
        expires: float | None = None,
        telling: Telling | None = None,
    ) -> Tries:
        """What came of a request that was tried until loop time `until`, or epoch `expires`."""
        loop = asyncio.get_running_loop()
        steps = telling if telling is not None and telling.whole else None

        async def rest(seconds: float) -> None:
            if telling is not None:
                telling.retry(tries.attempts, tries.error, seconds)
            await lane.rest(self.policy.sleep(seconds), until)

        tries = Tries(self.policy, self.budget, rest, left=lambda: until - loop.time())

        async def request(scope: asyncio.Timeout, seconds: float) -> ThorError | None:
            if expires is not None and self.policy.now() > expires:
                return NotSentError("its not_after has passed", reason="expired")
            try:
                key = self.key()
            except Exception as failure:
                if tries.attempts == 0 and not lane.is_batch:
                    raise
                # The tries before, and the other commands of a batch, still need their outcomes.
                return lane.fail(failure)
            tries.attempts += 1
            if steps is not None:
                steps.begin_attempt(tries.attempts, asked.url)
            answer = await self.transport.send(asked, key, scope, seconds)
            if isinstance(answer, Answer):
                error = read(answer, key)
            elif isinstance(answer, ResponseTimeout) and lane.is_cut:
                error = IndeterminateError("cut off while it was in flight")
            else:
                error = answer
            if steps is not None:
                steps.end_attempt(error)
            return error

        try:
            await tries.run(lambda: lane.send(request, until, self.attempt_timeout))
        except (Exception, asyncio.CancelledError) as failure:
            # Cancelled from outside, or a hook that raises: the outcomes must still be told.
            tries.break_off(lane.fail(failure))
            if not lane.is_batch:
                if telling is not None:
                    telling.finish(_outcome(telling, tries))
                raise
        return tries


class StopCall(msgspec.Struct, frozen=True):
    """How the stops of one client, or of one batch of it, are made."""

    calls: Calls
    base_url: str
    teller: Teller
    tells_whole: bool

    async def run(self, lane: Lane, index: int, command: StopCharge, timeout: float) -> StopOutcome:
        """The outcome of one command, within so many seconds, and before the lane's own end."""
        started = asyncio.get_running_loop().time()
        not_after = command.not_after
        telling = Telling(self.teller, command, index, started, self.tells_whole)
        if self.tells_whole:
            telling.begin()

        def read(answer: Answer, key: str) -> ThorError | None:
            return read_stop(answer, (key, command.id_tag), self.calls.policy.now())

        tries = await self.calls.make(
            lane,
            ask_stop(self.base_url, command),
            min(started + timeout, lane.until),
            read,
            expires=None if not_after is None else not_after.timestamp(),
            telling=telling,
        )
        lane.ended(tries.error, tries.attempts)
        outcome = _outcome(telling, tries)
        if self.tells_whole or outcome.error is not None:
            telling.finish(outcome)
        return outcome

    def leave_out(
        self, command: StopCharge, index: int, error: NotSentError, elapsed: float = 0.0
    ) -> StopOutcome:
        """The outcome of a command that no try was ever made of."""
        error.command = command
        outcome = StopOutcome(
            command=command,
            index=index,
            verdict=error.verdict,
            error=error,
            attempts=0,
            elapsed=elapsed,
            maybe_applied=False,
        )
        telling = Telling(self.teller, command, index, 0.0, self.tells_whole)
        if self.tells_whole:
            telling.begin()
        telling.finish(outcome)
        return outcome


def _outcome(telling: Telling, tries: Tries) -> StopOutcome:
    if tries.error is not None:
        tries.error.command = telling.command
    return StopOutcome(
        telling.command,
        telling.index,
        Verdict.RELAYED if tries.error is None else tries.error.verdict,
        tries.error,
        tries.attempts,
        asyncio.get_running_loop().time() - telling.started,
        tries.maybe_applied,
    )
