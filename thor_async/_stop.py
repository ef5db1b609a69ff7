"""One request with its retries, and one command from its pull to its outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from ._dispatch.dispatcher import Dispatcher
from ._errors import IndeterminateError, NotSentError, ResponseTimeout, ThorError, Verdict
from ._inputs import check_command
from ._models import StopCharge, StopOutcome
from ._protocol.stop import Answer, Request, ask_stop, read_stop
from ._retry import RetryBudget, RetryLoop, RetryPolicy
from ._telemetry.emitter import CallReporter, EventEmitter
from ._transport.http import Transport

Read = Callable[[Answer, tuple[str, ...], float], ThorError | None]
"""What an answer means, given the secrets to keep out of the error, and the wall clock."""


class RequestContext(msgspec.Struct, frozen=True):
    """How the requests of one client, or of one batch of it, are made."""

    transport: Transport
    key: Callable[[], str]
    policy: RetryPolicy
    budget: RetryBudget
    attempt_timeout: float


class RetryingRequest(RetryLoop, kw_only=True, eq=False):
    """One request and its tries, until loop time `until`; past epoch second `expires`, no more."""

    calls: RequestContext
    lane: Dispatcher
    asked: Request
    until: float
    read: Read
    secrets: tuple[str, ...] = ()
    expires: float | None = None
    telling: CallReporter | None = None

    def attempt(self) -> Awaitable[ThorError | None]:
        return self.lane.send(self._request, self.until, self.calls.attempt_timeout)

    async def rest(self, seconds: float) -> None:
        if self.telling is not None:
            self.telling.retry(self.attempts, self.error, seconds)
        await self.lane.rest(self.policy.sleep(seconds), self.until)

    def left(self) -> float:
        return self.until - self.lane.time()

    async def _request(self, scope: asyncio.Timeout, seconds: float) -> ThorError | None:
        if self.expires is not None and self.policy.now() > self.expires:
            return NotSentError("its not_after has passed", reason="expired")
        try:
            key = self.calls.key()
        except Exception as failure:
            if self.attempts == 0 and not self.lane.is_batch:
                raise
            # The tries before, and the other commands of a batch, still need their outcomes.
            return self.lane.fail(failure)
        self.attempts += 1
        telling = self.telling
        if telling is not None and telling.whole:
            telling.begin_attempt(self.attempts, self.asked.url)
        answer = await self.calls.transport.send(self.asked, key, scope, seconds)
        error: ThorError | None
        if isinstance(answer, Answer):
            error = self.read(answer, (key, *self.secrets), self.policy.now())
        elif isinstance(answer, ResponseTimeout) and self.lane.is_cut:
            error = IndeterminateError("cut off while it was in flight")
        else:
            error = answer
        if telling is not None and telling.whole:
            telling.end_attempt(error)
        return error


class StopOperation(msgspec.Struct, frozen=True):
    """How the stops of one client, or of one batch of it, are made."""

    calls: RequestContext
    base_url: str
    teller: EventEmitter
    emits_all: bool

    async def run(
        self, lane: Dispatcher, index: int, command: StopCharge, timeout: float
    ) -> StopOutcome:
        """The outcome of one command, within so many seconds, and before the lane's own end."""
        check_command(command, index)
        started = lane.time()
        telling = CallReporter(self.teller, command, index, started, self.emits_all)
        if self.emits_all:
            telling.begin()
        calls = self.calls
        call = RetryingRequest(
            calls.policy,
            calls.budget,
            calls=calls,
            lane=lane,
            asked=ask_stop(self.base_url, command),
            until=min(started + timeout, lane.until),
            read=read_stop,
            secrets=(command.id_tag,),
            expires=None if command.not_after is None else command.not_after.timestamp(),
            telling=telling,
        )
        try:
            await call.run()
        except (Exception, asyncio.CancelledError) as failure:
            # Cancelled from outside, or a hook that raises: the outcomes must still be told.
            call.break_off(lane.fail(failure))
            if not lane.is_batch:
                telling.finish(_outcome(telling, call))
                raise
        if call.error is not None:
            lane.ended(call.error, call.attempts)
        outcome = _outcome(telling, call)
        if self.emits_all or outcome.error is not None:
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
        telling = CallReporter(self.teller, command, index, 0.0, self.emits_all)
        if self.emits_all:
            telling.begin()
        telling.finish(outcome)
        return outcome


def _outcome(telling: CallReporter, tries: RetryingRequest) -> StopOutcome:
    if tries.error is not None:
        tries.error.command = telling.command
    return StopOutcome(
        telling.command,
        telling.index,
        Verdict.RELAYED if tries.error is None else tries.error.verdict,
        tries.error,
        tries.attempts,
        tries.lane.time() - telling.started,
        tries.maybe_applied,
    )
