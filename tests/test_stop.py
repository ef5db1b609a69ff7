"""One stop: its calls of dispatcher and transport, and the outcome that it returns."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.pretty import pretty_repr

from tests import virtual_time
from tests.conftest import KEY, TAG, Rests
from tests.fake_transport import OK, FakeTransport, Reply, refused, thor_says
from thor_async import (
    ChargeboxNotFound,
    IndeterminateError,
    NotSentError,
    ResponseTimeout,
    RetryPolicy,
    StopCharge,
    StopOutcome,
    Verdict,
)
from thor_async._config import ApiKey, check_key, resolve_key
from thor_async._dispatch.dispatcher import Dispatcher
from thor_async._dispatch.limiter import PriorityLimiter
from thor_async._protocol.http_messages import Answer
from thor_async._protocol.stop import build_stop_request, parse_stop_answer
from thor_async._retry import RetryBudget
from thor_async._stop import RequestContext, RetryingRequest, StopOperation
from thor_async._telemetry.emitter import EventEmitter


def make_stop_operation(
    transport: FakeTransport, policy: RetryPolicy, key: ApiKey | None = None
) -> StopOperation:
    real: Any = transport
    context = RequestContext(real, key or check_key(KEY), policy, RetryBudget(), 10.0)
    return StopOperation(context, "http://thor.example", EventEmitter())


async def stop(
    command: StopCharge, reply: Reply, *, is_batch: bool = False, **settings: Any
) -> StopOutcome:
    policy = settings.pop("policy", None) or Rests().policy()
    stops = make_stop_operation(FakeTransport(reply), policy, settings.pop("key", None))
    dispatcher = Dispatcher(PriorityLimiter(1), is_batch=is_batch)
    try:
        return await stops.run(dispatcher, 7, command, 30.0, **settings)
    finally:
        dispatcher.close()


async def test_every_end_is_an_outcome_and_none_is_raised(command: StopCharge) -> None:
    relayed = await stop(command, lambda *_: OK)
    assert (relayed.verdict, relayed.error, relayed.attempts, relayed.index) == (
        Verdict.RELAYED,
        None,
        1,
        7,
    )
    rejected = await stop(command, lambda *_: thor_says("ChargeboxNotFound", 404))
    assert isinstance(rejected.error, ChargeboxNotFound)
    assert rejected.error.command is command
    lost = await stop(command, lambda *_: ResponseTimeout("no answer in time"))
    assert (lost.verdict, lost.maybe_applied) == (Verdict.INDETERMINATE, True)


async def test_an_item_that_is_no_command_is_refused_with_its_index() -> None:
    wrong: Any = {"chargebox": "A"}
    with pytest.raises(TypeError, match="command 7 must be a StopCharge, not a dict"):
        await stop(wrong, lambda *_: OK)


async def test_attempts_of_the_error_count_a_later_try_that_was_never_sent(
    command: StopCharge, rests: Rests
) -> None:
    ends = iter((Answer(503), refused()))
    outcome = await stop(command, lambda *_: next(ends), policy=rests.policy())
    assert outcome.error is not None
    assert (type(outcome.error).__name__, outcome.attempts) == ("ServerError", 2)
    assert outcome.error.attempts == 2
    assert outcome.error.maybe_applied


def test_elapsed_counts_from_the_time_that_is_given(command: StopCharge) -> None:
    async def main() -> None:
        await asyncio.sleep(5)
        outcome = await stop(command, lambda *_: OK, started=2.0)
        assert outcome.elapsed == pytest.approx(3.0)
        outcome = await stop(command, lambda *_: OK, started=0.0)
        assert outcome.elapsed == pytest.approx(5.0)
        assert (await stop(command, lambda *_: OK)).elapsed == pytest.approx(0.0)

    virtual_time.run(main)


async def test_nothing_is_sent_past_not_after(rests: Rests) -> None:
    past = StopCharge("A", 1, TAG, not_after=datetime(2020, 1, 1, tzinfo=UTC))
    outcome = await stop(past, lambda *_: OK)
    assert isinstance(outcome.error, NotSentError)
    assert (outcome.error.reason, outcome.attempts) == ("expired", 0)


def failing_key() -> str:
    raise OSError("the vault is closed")


@pytest.mark.parametrize("is_batch", [False, True])
async def test_a_key_function_that_fails_raises_from_a_single_call_only(
    command: StopCharge, is_batch: bool
) -> None:
    key = resolve_key(failing_key)
    if not is_batch:
        with pytest.raises(OSError, match="vault"):
            await stop(command, lambda *_: OK, key=key)
        return
    outcome = await stop(command, lambda *_: OK, key=key, is_batch=True)
    assert isinstance(outcome.error, NotSentError)
    assert outcome.error.reason == "gave_up"


async def test_a_key_function_is_called_for_each_try(command: StopCharge, rests: Rests) -> None:
    keys = iter(["one", "two"])
    ends = iter([Answer(503), OK])
    outcome = await stop(
        command, lambda *_: next(ends), key=resolve_key(lambda: next(keys)), policy=rests.policy()
    )
    assert outcome.attempts == 2
    assert next(keys, None) is None


def test_a_try_gets_what_is_left_of_the_call(command: StopCharge) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        stops = make_stop_operation(FakeTransport(lambda *_: None), RetryPolicy())
        dispatcher = Dispatcher(PriorityLimiter(1))
        for timeout, seconds in ((30.0, 10.0), (4.0, 4.0)):
            started = loop.time()
            outcome = await stops.run(dispatcher, 0, command, timeout)
            assert isinstance(outcome.error, ResponseTimeout)
            assert loop.time() - started == pytest.approx(seconds)
        dispatcher.close()

    virtual_time.run(main)


def test_an_abort_says_that_the_stop_was_cut_off(command: StopCharge) -> None:
    async def main() -> None:
        stops = make_stop_operation(FakeTransport(lambda *_: None), RetryPolicy())
        dispatcher = Dispatcher(PriorityLimiter(1))
        stopping = asyncio.ensure_future(stops.run(dispatcher, 0, command, 30.0))
        await asyncio.sleep(1)
        dispatcher.abort()
        outcome = await stopping
        assert type(outcome.error) is IndeterminateError
        assert outcome.elapsed == pytest.approx(1.0)

    virtual_time.run(main)


@pytest.mark.parametrize("is_batch", [False, True])
def test_a_cancelled_stop_gives_its_permit_back(command: StopCharge, is_batch: bool) -> None:
    async def main() -> None:
        limiter = PriorityLimiter(1)
        dispatcher = Dispatcher(limiter, is_batch=is_batch)
        stops = make_stop_operation(FakeTransport(lambda *_: None), RetryPolicy())
        stopping = asyncio.ensure_future(stops.run(dispatcher, 0, command, 30.0))
        await asyncio.sleep(1)
        assert limiter.in_flight == 1
        stopping.cancel()
        [end] = await asyncio.gather(stopping, return_exceptions=True)
        assert limiter.in_flight == 0
        if is_batch:
            assert isinstance(end, StopOutcome)
            assert (end.verdict, end.attempts) == (Verdict.INDETERMINATE, 1)
        else:
            assert isinstance(end, asyncio.CancelledError)
        dispatcher.close()

    virtual_time.run(main)


async def test_no_repr_of_its_parts_shows_key_or_tag(command: StopCharge) -> None:
    stops = make_stop_operation(FakeTransport(lambda *_: OK), RetryPolicy())
    assert KEY not in repr(stops)
    assert TAG not in repr(stops)


async def test_no_repr_of_a_request_shows_the_tag_also_where_rich_looks_into_it(
    command: StopCharge,
) -> None:
    stops = make_stop_operation(FakeTransport(lambda *_: OK), RetryPolicy())
    dispatcher = Dispatcher(PriorityLimiter(1))
    request = RetryingRequest(
        stops.context,
        dispatcher,
        build_stop_request(stops.base_url, command),
        parse_stop_answer,
        until=1.0,
        secrets=(command.id_tag,),
    )
    for text in (repr(request), pretty_repr(request)):
        assert TAG not in text
        assert "attempts=0" in text
    dispatcher.close()
