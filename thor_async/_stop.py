"""One stop: its request, its tries, and its outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import msgspec

from ._config import ApiKey, check_command
from ._dispatch.dispatcher import Dispatcher, Permit
from ._errors import (
    IndeterminateError,
    NotSentError,
    ResponseTimeout,
    ThorError,
    TooManyRequests,
    Verdict,
)
from ._models import MaskedText, StopCharge, StopOutcome
from ._protocol.error_responses import parse_request_id
from ._protocol.http_messages import Answer, Request
from ._protocol.stop import build_stop_request, parse_stop_answer
from ._retry import RetryBudget, RetryPolicy, may_pass, retry_loop
from ._telemetry.emitter import CallReporter, EventEmitter
from ._transport.http import Transport

Parse = Callable[[Answer, tuple[str, ...], float], ThorError | None]
"""Parses an answer, given the secrets to keep out of its error, and the wall clock."""

BeforeRetry = Callable[[float], Awaitable[Request | None]]
"""Returns the request of all further tries by loop time `until`, or None to make no further try."""

FindTransaction = Callable[[StopCharge, float], Awaitable[StopCharge | None]]
"""Returns the command with its transaction by loop time `until`, or None if it is not known."""


class RequestContext(msgspec.Struct, frozen=True):
    """What all requests of a client, or of one batch of it, have in common."""

    transport: Transport
    key: ApiKey
    policy: RetryPolicy
    budget: RetryBudget
    attempt_timeout: float


class RetryingRequest(msgspec.Struct, eq=False):
    """One request and its tries, until loop time `until`.

    `attempts` counts the tries begun, and `throttled` those of them that were sent again after a
    429. `error` is that of the last one, None for a success, and `request_id` the id of its answer.
    `maybe_applied` says that one of them may have worked. No try begins past
    epoch second `expires`. With `raises`, a key function that fails before the first try raises.
    `subject` is the chargebox. `left` is the time that was left when the last try began, and `took`
    the time that it took.
    `before_retry` is asked once, before the first retry after a try that may have worked.
    """

    # A struct, and no closures: one is made for each stop, and the collector counts them.

    context: RequestContext
    dispatcher: Dispatcher
    request: Request
    parse: Parse
    until: float
    secrets: tuple[str, ...] = ()
    expires: float | None = None
    reporter: CallReporter | None = None
    raises: bool = True
    subject: str = ""
    left: float = 0.0
    took: float = 0.0
    before_retry: BeforeRetry | None = None
    attempts: int = 0
    throttled: int = 0
    error: ThorError | None = None
    maybe_applied: bool = False
    request_id: str | None = None

    def __rich_repr__(self) -> list[tuple[str, int]]:
        """Shows nothing of what it holds: an id_tag is in the request and in `secrets`."""
        return [("attempts", self.attempts)]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(attempts={self.attempts})"

    async def attempt(self) -> bool:
        """Makes one try. Returns False when the policy must not look at its error."""
        dispatcher, context, reporter = self.dispatcher, self.context, self.reporter
        key: MaskedText | NotSentError
        if isinstance(context.key, str):
            key = context.key
        elif isinstance(key := await self._ask_for_key(context.key), NotSentError):
            return self._record(key)
        probe = 0
        if not dispatcher.try_acquire(self.until):
            permit = await self._acquire()
            if isinstance(permit, NotSentError):
                return self._record(permit)
            probe = permit.probe
        error: ThorError | None
        begun = dispatcher.time()
        self.left = self.until - begun
        try:
            if self.expires is not None and self._is_expired():
                error = NotSentError("its not_after has passed", reason="expired")
            else:
                self.attempts += 1
                if reporter is not None and reporter.emits_all:
                    reporter.attempt_started(self.attempts, self.request.url)
                seconds = min(context.attempt_timeout, self.left)
                answer = await context.transport.send(
                    self.request, key, seconds, dispatcher.deadlines
                )
                if isinstance(answer, Answer):
                    error = self._parse(answer, key)
                elif isinstance(answer, ResponseTimeout) and dispatcher.is_aborted:
                    error = IndeterminateError("cut off while it was in flight")
                else:
                    error = answer
                if reporter is not None and reporter.emits_all:
                    reporter.attempt_finished(error)
        except BaseException:
            dispatcher.release_unused(probe)
            raise
        self.took = dispatcher.time() - begun
        dispatcher.release(error, probe, begun, self.subject)
        return self._record(error)

    def _parse(self, answer: Answer, key: MaskedText) -> ThorError | None:
        secrets = (key, *self.secrets)
        error = self.parse(answer, secrets, self.context.policy.now())
        self.request_id = parse_request_id(answer, secrets)
        if error is not None:
            error.request_id = self.request_id
        return error

    async def _acquire(self) -> Permit | NotSentError:
        """Waits for a permit, or returns why no try may begin."""
        if self._is_expired():  # it would only take a slot of the pace
            return NotSentError("its not_after has passed", reason="expired")
        # A try without the time for its answer would leave open what a 429 has told for certain.
        needed = self.took if isinstance(self.error, TooManyRequests) else 0.0
        permit = await self.dispatcher.acquire(self.until - needed)
        if permit is None:
            return self.dispatcher.refusal()
        self.until = min(self.until + permit.paced, self.dispatcher.until)
        return permit

    def _is_expired(self) -> bool:
        return self.expires is not None and self.context.policy.now() > self.expires

    async def retry(self) -> None:
        """Tries again until policy, budget or time ends it. The first try has failed."""
        policy = self.context.policy
        await self._outlast_throttling()
        may_go_on = policy.should_retry(self.error)
        if not may_go_on:
            return
        is_first = True
        async for attempt in retry_loop(policy, self.context.budget, self):
            # The first try is tenacity's attempt 1: made bare, because tenacity costs 60 us.
            if not is_first:
                may_go_on = (
                    self.before_retry is None or await self._prepare_retry(self.before_retry)
                ) and await self.attempt()
                if may_go_on:
                    await self._outlast_throttling()
                    may_go_on = policy.should_retry(self.error)
            is_first = False
            attempt.retry_state.set_result(may_go_on)

    async def _outlast_throttling(self) -> None:
        """Sends a throttled request again and again, as the pace allows.

        That costs no attempt of the policy, and no retry token: it certainly had no effect.
        """
        policy, throttled = self.context.policy, 0
        while policy.should_outlast(self.error):
            throttled += 1
            self.throttled += 1
            wait = self.plan_throttled_wait(policy.throttled_delay(throttled, self.error))
            if wait + self.took >= self.time_left():
                break
            await self.backoff(wait)
            if not await self.attempt():
                break
        if throttled and isinstance(self.error, TooManyRequests):
            times = "once" if throttled == 1 else f"{throttled} times"
            self.error.explain(f"sent again {times} at the pace that Thor allows")

    def plan_throttled_wait(self, wait: float) -> float:
        """Returns how long to wait after a 429, of which the policy says `wait`.

        A batch waits a round trip at least, until what was sent at the old pace is answered: then
        a second 429 tells that the chargebox alone is throttled. It gets the time of the try and of
        the wait back, if the limit of the account was met.
        """
        dispatcher = self.dispatcher
        if not dispatcher.is_batch:
            return wait
        wait = max(wait, self.took)
        if not dispatcher.pace.is_self_limited(self.subject):
            self.until = min(dispatcher.time() + wait + self.left, dispatcher.until)
        return wait

    async def _prepare_retry(self, before_retry: BeforeRetry) -> bool:
        """Returns whether another try may be made."""
        if self.maybe_applied:
            request = await before_retry(self.until)
            if request is None:
                return False
            self.request, self.before_retry = request, None
        return True

    def time_left(self) -> float:
        return self.until - self.dispatcher.time()

    async def backoff(self, seconds: float) -> None:
        if self.reporter is not None:
            self.reporter.retry_scheduled(self.attempts, self.error, seconds)
        if seconds:
            sleep = self.context.policy.sleep(seconds)
            await self.dispatcher.wait_unpermitted(sleep, self.until)

    def interrupt(self, refusal: NotSentError) -> None:
        """Ends it in the middle: `refusal` is its error if no try was begun."""
        self._record(IndeterminateError("broken off") if self.attempts else refusal)

    async def _ask_for_key(
        self, function: Callable[[], MaskedText | Awaitable[MaskedText]]
    ) -> MaskedText | NotSentError:
        """Returns the current key, or the error why no try may begin.

        It is asked for before the permit: a slow vault then holds up no stop of another client.
        """
        dispatcher = self.dispatcher
        if dispatcher.stop_reason is not None:
            return dispatcher.refusal()
        try:
            found = function()
            if isinstance(found, str):
                return found
            key = await dispatcher.wait_unpermitted(found, self.until)
        except Exception as failure:
            refusal = dispatcher.record_local_failure(failure, "the api_key function")
            if self.attempts == 0 and self.raises:
                self._record(refusal)
                raise
            # Tries before this one, and other commands of a batch, still need their outcomes.
            return refusal
        if key is not None:
            return key
        if dispatcher.stop_reason is not None:
            return dispatcher.refusal()
        return NotSentError("the api_key function did not return in time", reason="timeout")

    def _record(self, error: ThorError | None) -> bool:
        """Takes in how a try ended; False when it was not sent, and the error before it stands."""
        if error is None:
            self.error = None
            if not self.context.budget.is_full:
                self.context.budget.record_success(self.attempts - self.throttled)
            return False
        if isinstance(error, NotSentError) and self.error is not None:
            is_alike = isinstance(self.error, NotSentError) and may_pass(error)
            if not is_alike:
                self.error.attempts = self.attempts
                return False
        self.error = error
        self.maybe_applied |= error.verdict is Verdict.INDETERMINATE
        error.attempts = self.attempts
        error.maybe_applied = self.maybe_applied
        return True


class StopOperation(msgspec.Struct, frozen=True):
    """Makes the stops of a client, or of one batch of it."""

    context: RequestContext
    base_url: str
    emitter: EventEmitter

    async def run(
        self,
        dispatcher: Dispatcher,
        index: int,
        command: StopCharge,
        timeout: float,
        started: float | None = None,
        *,
        find_transaction: FindTransaction | None = None,
    ) -> StopOutcome:
        """Stops one charge, and returns its outcome `timeout` seconds from now at the latest.

        `elapsed` counts from loop time `started`, which is now when None. With `find_transaction`,
        a command without a transaction that may have been applied is only sent again with the one
        that is found. Raises TypeError for what is no command; of a single call also what its hooks
        raise, and CancelledError.
        """
        if not isinstance(command, StopCharge):
            check_command(command, index)
        now = dispatcher.time()
        started = now if started is None else started
        reporter = CallReporter(self.emitter, command, index, self.emitter.emits_all)
        if reporter.emits_all:
            reporter.call_started()
        request = RetryingRequest(
            self.context,
            dispatcher,
            build_stop_request(self.base_url, command),
            parse_stop_answer,
            until=min(now + timeout, dispatcher.until),
            secrets=(MaskedText(command.id_tag),),
            subject=command.chargebox,
            expires=None if command.not_after is None else command.not_after.timestamp(),
            reporter=reporter,
            raises=not dispatcher.is_batch,
        )
        if find_transaction is not None and command.transaction is None:
            request.before_retry = partial(self._pin_request, find_transaction, reporter)
        try:
            await request.attempt()
            if request.error is not None:
                await request.retry()
        except (Exception, asyncio.CancelledError, KeyboardInterrupt, SystemExit) as failure:
            # Cancelled from outside, or a hook that raises: the outcome must still be known.
            request.interrupt(dispatcher.record_local_failure(failure))
            if not dispatcher.is_batch:
                reporter.call_finished(_outcome(request, reporter, started))
                raise
            if isinstance(failure, KeyboardInterrupt | SystemExit):
                self.emitter.end_program(failure)
        if request.error is not None:
            dispatcher.record_final(request.error, request.attempts)
        outcome = _outcome(request, reporter, started)
        if reporter.emits_all or request.error is not None:
            reporter.call_finished(outcome)
        return outcome

    async def _pin_request(
        self, find_transaction: FindTransaction, reporter: CallReporter, until: float
    ) -> Request | None:
        """Pins the reporter's command, and returns its request; None if it cannot be pinned."""
        pinned = await find_transaction(reporter.command, until)
        if pinned is None:
            return None
        reporter.command = pinned
        return build_stop_request(self.base_url, pinned)

    def report_unsent(
        self, command: StopCharge, index: int, error: NotSentError, elapsed: float = 0.0
    ) -> StopOutcome:
        """Returns the outcome of a command for which no try was made, because of `error`."""
        error.command = command
        outcome = StopOutcome(command, index, error.verdict, error, 0, elapsed, maybe_applied=False)
        reporter = CallReporter(self.emitter, command, index, self.emitter.emits_all)
        if reporter.emits_all:
            reporter.call_started()
        reporter.call_finished(outcome)
        return outcome


def _outcome(request: RetryingRequest, reporter: CallReporter, started: float) -> StopOutcome:
    command, error = reporter.command, request.error
    if error is not None:
        error.command = command
    return StopOutcome(
        command,
        reporter.index,
        Verdict.RELAYED if error is None else error.verdict,
        error,
        request.attempts,
        request.dispatcher.time() - started,
        request.maybe_applied,
        request.request_id if error is None else error.request_id,
    )
