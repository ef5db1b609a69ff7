"""One request with its retries, and one command from its pull to its outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from .errors import IndeterminateError, NotSentError, ResponseTimeout, ThorError, Verdict
from .lane import Lane
from .models import StopCharge, StopOutcome
from .protocol import Answer, Request, ask_stop, read_stop
from .retry import RetryBudget, RetryPolicy, Tries
from .teller import Teller, Telling
from .transport import Transport

Read = Callable[[Answer, tuple[str, ...], float], ThorError | None]
"""What an answer means, given the secrets to keep out of the error, and the wall clock."""


class Calls(msgspec.Struct, frozen=True):
    """How the requests of one client, or of one batch of it, are made."""

    transport: Transport
    key: Callable[[], str]
    policy: RetryPolicy
    budget: RetryBudget
    attempt_timeout: float


class Call(Tries):
    """One request and its tries, until loop time `until`."""

    __slots__ = ("_asked", "_calls", "_expires", "_lane", "_read", "_secrets", "_telling", "_until")

    def __init__(  # noqa: PLR0917 - built for each request, and keywords cost
        self,
        calls: Calls,
        lane: Lane,
        asked: Request,
        until: float,
        read: Read,
        secrets: tuple[str, ...] = (),
        expires: float | None = None,
        telling: Telling | None = None,
    ) -> None:
        """Past the epoch second `expires` it is not sent any more."""
        super().__init__(calls.policy, calls.budget)
        self._calls, self._lane, self._asked, self._until = calls, lane, asked, until
        self._read, self._secrets, self._expires = read, secrets, expires
        self._telling = telling

    def attempt(self) -> Awaitable[ThorError | None]:
        return self._lane.send(self._request, self._until, self._calls.attempt_timeout)

    async def rest(self, seconds: float) -> None:
        if self._telling is not None:
            self._telling.retry(self.attempts, self.error, seconds)
        await self._lane.rest(self.policy.sleep(seconds), self._until)

    def left(self) -> float:
        return self._until - asyncio.get_running_loop().time()

    async def _request(self, scope: asyncio.Timeout, seconds: float) -> ThorError | None:
        if self._expires is not None and self.policy.now() > self._expires:
            return NotSentError("its not_after has passed", reason="expired")
        try:
            key = self._calls.key()
        except Exception as failure:
            if self.attempts == 0 and not self._lane.is_batch:
                raise
            # The tries before, and the other commands of a batch, still need their outcomes.
            return self._lane.fail(failure)
        self.attempts += 1
        steps = self._telling if self._telling is not None and self._telling.whole else None
        if steps is not None:
            steps.begin_attempt(self.attempts, self._asked.url)
        error = self._meaning(
            await self._calls.transport.send(self._asked, key, scope, seconds), key
        )
        if steps is not None:
            steps.end_attempt(error)
        return error

    def _meaning(self, answer: Answer | ThorError, key: str) -> ThorError | None:
        if isinstance(answer, Answer):
            return self._read(answer, (key, *self._secrets), self.policy.now())
        if isinstance(answer, ResponseTimeout) and self._lane.is_cut:
            return IndeterminateError("cut off while it was in flight")
        return answer


class StopCall(msgspec.Struct, frozen=True):
    """How the stops of one client, or of one batch of it, are made."""

    calls: Calls
    base_url: str
    teller: Teller
    tells_whole: bool

    async def run(self, lane: Lane, index: int, command: StopCharge, timeout: float) -> StopOutcome:
        """The outcome of one command, within so many seconds, and before the lane's own end."""
        started = asyncio.get_running_loop().time()
        telling = Telling(self.teller, command, index, started, self.tells_whole)
        if self.tells_whole:
            telling.begin()
        call = Call(
            self.calls,
            lane,
            ask_stop(self.base_url, command),
            min(started + timeout, lane.until),
            read_stop,
            (command.id_tag,),
            None if command.not_after is None else command.not_after.timestamp(),
            telling,
        )
        try:
            await call.run()
        except (Exception, asyncio.CancelledError) as failure:
            # Cancelled from outside, or a hook that raises: the outcomes must still be told.
            call.break_off(lane.fail(failure))
            if not lane.is_batch:
                telling.finish(_outcome(telling, call))
                raise
        lane.ended(call.error, call.attempts)
        outcome = _outcome(telling, call)
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
