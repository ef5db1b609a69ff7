"""Batches: one outcome per input, bounded, lazy, cancellable at any time."""

from __future__ import annotations

import asyncio
import pickle
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests import virtual_time
from tests.conftest import Rests
from tests.fake_transport import OK, FakeTransport, fleet, thor_says
from thor_async import (
    BatchGaveUp,
    IndeterminateError,
    NotInTransaction,
    NotSentError,
    RetryPolicy,
    ServerError,
    StopCharge,
    StopOutcome,
    ThorClient,
    Verdict,
)
from thor_async._protocol.http_messages import Answer


async def as_async(commands: Iterator[StopCharge], pause: float = 0.0) -> AsyncIterator[StopCharge]:
    for command in commands:
        await asyncio.sleep(pause)
        yield command


async def test_outcomes_come_in_input_order_whatever_ended_first() -> None:
    pace = random.Random(1)
    thor = FakeTransport(lambda *_: OK)

    def reply(command: StopCharge, now: float) -> Answer:
        thor.latency = pace.uniform(0, 0.002)
        return OK

    thor.reply = reply
    with thor.installed():
        async with thor.client() as client:
            outcomes = await client.stop_many(fleet(300))
            again = await client.stop_many(as_async(fleet(300)))
    for listed in (outcomes, again):
        assert [outcome.index for outcome in listed] == list(range(300))
        assert [outcome.command for outcome in listed] == list(fleet(300))


async def test_failures_are_values_and_do_not_touch_the_others() -> None:
    def reply(command: StopCharge, now: float) -> Answer:
        return thor_says("NotInTransaction", 400) if command.chargebox == "box-7" else OK

    thor = FakeTransport(reply)
    with thor.installed():
        async with thor.client() as client:
            outcomes = await client.stop_many(fleet(20))
    assert isinstance(outcomes[7].error, NotInTransaction)
    assert outcomes[7].error.command is outcomes[7].command
    assert [o.verdict for o in outcomes].count(Verdict.RELAYED) == 19


@pytest.mark.parametrize("max_in_flight", [1, 5, 32])
async def test_never_more_in_flight_than_allowed_over_all_calls(max_in_flight: int) -> None:
    thor = FakeTransport(lambda *_: OK, 0.001)
    with thor.installed():
        async with thor.client(max_in_flight=max_in_flight) as client:
            await asyncio.gather(
                client.stop_many(fleet(100)),
                client.stop_many(fleet(100, start=100)),
                *(client.stop_charge(command) for command in fleet(50, start=200)),
            )
    assert thor.most_in_flight == max_in_flight
    assert thor.in_flight == 0


def test_a_single_stop_goes_before_a_batch() -> None:
    thor = FakeTransport(lambda *_: OK, 1.0)

    async def main() -> None:
        with thor.installed():
            async with thor.client(max_in_flight=4) as client:
                batches = [
                    asyncio.create_task(client.stop_many(fleet(40, start=n))) for n in (0, 100)
                ]
                await asyncio.sleep(0.5)
                outcome = await client.stop_charge(StopCharge("single", 1, "tag"))
                assert outcome.elapsed <= 0.5 + 1.0
                await asyncio.gather(*batches)

    virtual_time.run(main)


def test_no_permit_is_held_during_backoff() -> None:
    def reply(command: StopCharge, now: float) -> Answer:
        return Answer(503) if command.chargebox == "sick" else OK

    thor = FakeTransport(reply, 0.01)
    commands = [StopCharge("sick", n, "tag") for n in range(1, 5)] + list(fleet(400))

    async def main() -> None:
        with thor.installed():
            policy = RetryPolicy(initial_delay=8.0, random=lambda low, high: high)
            async with thor.client(max_in_flight=4, retry=policy) as client:
                outcomes = await client.stop_many(commands)
        assert max(o.elapsed for o in outcomes if o.verdict is Verdict.RELAYED) < 0.1
        healthy = [time for time, command in thor.requests if command.chargebox != "sick"]
        assert max(healthy) < 2.0  # 400 x 0.01 s / 4, while the sick ones wait for 16 s
        assert [type(o.error) for o in outcomes[:4]] == [ServerError] * 4

    virtual_time.run(main)


def test_live_tasks_and_pulled_commands_are_bounded_while_all_back_off() -> None:
    thor = FakeTransport(lambda *_: thor_says("InternalServerError", 500))
    pulled: list[StopCharge] = []

    async def main() -> None:
        with thor.installed():
            policy = RetryPolicy(initial_delay=8.0, random=lambda low, high: high)
            async with (
                thor.client(max_in_flight=8, retry=policy) as client,
                client.stop_stream(noted(pulled, fleet(1000))) as stream,
            ):
                first = asyncio.ensure_future(anext(stream))
                await asyncio.sleep(4)
                assert len(pulled) == 32
                assert len(asyncio.all_tasks()) <= 32 + 3
                await first

    virtual_time.run(main)


def noted(pulled: list[StopCharge], commands: Iterator[StopCharge]) -> Iterator[StopCharge]:
    for command in commands:
        pulled.append(command)
        yield command


def test_a_batch_without_a_free_permit_waits_with_one_command() -> None:
    """Each that waits costs a task; there may be hundreds of batches."""
    thor = FakeTransport(lambda *_: OK, latency=1.0)
    pulled = [0] * 10

    async def main() -> None:
        async def stop(batch: int) -> None:
            def commands() -> Iterator[StopCharge]:
                for command in fleet(20):
                    pulled[batch] += 1
                    yield command

            async with client.stop_stream(commands()) as stream:
                async for _ in stream:
                    pass

        async with thor.client(max_in_flight=4) as client:
            batches = [asyncio.ensure_future(stop(batch)) for batch in range(10)]
            for second in range(45):
                await asyncio.sleep(second + 0.5 - asyncio.get_running_loop().time())
                assert thor.in_flight == 4
                assert sum(pulled) <= len(thor.requests) + 20
            await asyncio.gather(*batches)
            assert asyncio.get_running_loop().time() == pytest.approx(50.0)

    with thor.installed():
        virtual_time.run(main)


def test_hardly_more_is_pulled_than_the_pace_allows() -> None:
    thor = FakeTransport(lambda *_: OK, latency=0.05)
    pulled = 0

    def commands() -> Iterator[StopCharge]:
        nonlocal pulled
        for command in fleet(200):
            pulled += 1
            assert pulled <= len(thor.requests) + 2
            yield command

    async def main() -> None:
        async with (
            thor.client(max_rate=20.0) as client,
            client.stop_stream(commands()) as stream,
        ):
            async for _ in stream:
                pass
        assert asyncio.get_running_loop().time() == pytest.approx(199 / 20 + 0.05)

    with thor.installed():
        virtual_time.run(main)


async def test_a_consumer_that_stops_reading_stops_the_pulling() -> None:
    thor = FakeTransport(lambda *_: OK)
    pulled: list[StopCharge] = []
    with thor.installed():
        async with (
            thor.client(max_in_flight=4) as client,
            client.stop_stream(noted(pulled, fleet(10_000))) as stream,
        ):
            for read in (1, 2, 3):
                await anext(stream)
                for _ in range(50):
                    await asyncio.sleep(0)
                assert len(pulled) == 16 + read
    assert len(pulled) == 19
    assert len(stream.unread) == 16


GROWTH = """
import asyncio, gc, resource, sys
sys.path.insert(0, ".")
from tests.fake_transport import FakeTransport, OK, fleet

async def main():
    thor = FakeTransport(lambda *_: OK)
    thor.is_forgetful = True
    with thor.installed():
        async with thor.client() as client:
            async def stream(count):
                seen = 0
                async with client.stop_stream(fleet(count)) as outcomes:
                    async for outcome in outcomes:
                        seen += 1
                assert seen == count
            await stream(5_000)
            gc.collect()
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            await stream(int(sys.argv[1]))
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)

asyncio.run(main())
"""


def test_a_long_stream_costs_no_more_memory_than_a_short_one() -> None:
    """A tenth of the million that `benchmarks.memory` runs, with the same limit."""
    printed = subprocess.run(
        [sys.executable, "-c", GROWTH, "100000"], capture_output=True, text=True, check=True
    )
    assert int(printed.stdout) < 2048  # KiB


async def test_stop_sending_ends_a_batch_and_tells_every_command_that_was_pulled() -> None:
    thor = FakeTransport(lambda *_: OK)
    thor.latency = 0.05
    outcomes: list[StopOutcome] = []
    with thor.installed():
        async with (
            thor.client(max_in_flight=4) as client,
            client.stop_stream(fleet(10**9)) as stream,
        ):
            async for outcome in stream:
                outcomes.append(outcome)
                stream.stop_sending()
    assert 4 <= len(outcomes) <= 16
    assert sorted(outcome.index for outcome in outcomes) == list(range(len(outcomes)))
    assert {outcome.verdict for outcome in outcomes} <= {Verdict.RELAYED, Verdict.NOT_SENT}
    assert sum(outcome.verdict is Verdict.RELAYED for outcome in outcomes) <= 8


def test_within_ends_a_batch_on_time_and_truthfully() -> None:
    thor = FakeTransport(lambda *_: OK, 0.4)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with thor.installed():
            async with thor.client(max_in_flight=10) as client:
                started = loop.time()
                outcomes = await client.stop_many(fleet(1000), within=1.0)
                assert loop.time() - started == pytest.approx(1.0, abs=0.001)
        assert [o.verdict for o in outcomes[:20]] == [Verdict.RELAYED] * 20
        assert [o.verdict for o in outcomes[20:30]] == [Verdict.INDETERMINATE] * 10
        for outcome in outcomes[30:]:
            assert isinstance(outcome.error, NotSentError)
            assert outcome.error.reason == "timeout"
        assert len(thor.requests) == 30

    virtual_time.run(main)


def test_within_counts_the_reading_of_the_input_and_ends_backoff() -> None:
    thor = FakeTransport(lambda *_: Answer(503, retry_after="20"))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with thor.installed():
            async with thor.client() as client:
                started = loop.time()
                slow = await client.stop_many(as_async(fleet(1000), pause=0.9), within=2.0)
                assert loop.time() - started == pytest.approx(2.0)
                assert [(o.verdict, o.command) for o in slow] == [
                    (Verdict.NOT_SENT, command) for command in fleet(2)
                ]
                with pytest.raises(NotSentError, match="out of time before the input"):
                    await client.stop_many(as_async(fleet(3), pause=9.0), within=2.0)
                assert not thor.requests
                started = loop.time()
                outcomes = await client.stop_many(fleet(3), within=25.0)
                assert loop.time() - started == pytest.approx(20.0, abs=0.1)
        assert [(type(o.error), o.attempts) for o in outcomes] == [(ServerError, 2)] * 3

    virtual_time.run(main)


def test_a_stream_raises_when_its_time_ended_before_its_input() -> None:
    thor = FakeTransport(lambda *_: OK, 0.1)

    async def main() -> None:
        with thor.installed():
            async with thor.client(max_in_flight=2) as client:
                outcomes = []
                with pytest.raises(BatchGaveUp, match="out of time") as raised:
                    async with client.stop_stream(as_async(fleet(10**9)), within=1.0) as stream:
                        async for outcome in stream:
                            outcomes.append(outcome)
                assert len(outcomes) == len(thor.requests)
                assert isinstance(raised.value.cause, NotSentError)
                assert raised.value.cause.reason == "timeout"
                async with client.stop_stream(fleet(3), within=1.0) as stream:
                    assert len([o async for o in stream]) == 3

    virtual_time.run(main)


async def test_an_input_that_raises_sends_nothing_in_stop_many() -> None:
    def broken() -> Iterator[StopCharge]:
        yield from fleet(5)
        raise LookupError("the database is gone")

    thor = FakeTransport(lambda *_: OK)
    with thor.installed():
        async with thor.client() as client:
            with pytest.raises(LookupError):
                await client.stop_many(broken())
            with pytest.raises(LookupError):
                await client.stop_many(as_async(broken()))
    assert thor.requests == []


@pytest.mark.parametrize("make", [lambda it: it, as_async])
async def test_a_stream_input_that_raises_delivers_what_was_dispatched(make: object) -> None:
    def broken() -> Iterator[StopCharge]:
        yield from fleet(5)
        raise LookupError("the database is gone")

    thor = FakeTransport(lambda *_: OK, 0.001)
    outcomes = []
    with thor.installed():
        async with thor.client() as client:
            with pytest.raises(LookupError, match="the database is gone"):
                async with client.stop_stream(make(broken())) as stream:  # type: ignore[operator]
                    async for outcome in stream:
                        outcomes.append(outcome)
    assert {o.index for o in outcomes} == {0, 1, 2, 3, 4}


async def test_a_timeout_of_the_inputs_own_is_raised_as_it_is() -> None:
    async def late() -> AsyncIterator[StopCharge]:
        yield next(fleet(1))
        raise TimeoutError("the database is slow")

    outcomes = []
    with (thor := FakeTransport(lambda *_: OK)).installed():
        async with thor.client() as client:
            with pytest.raises(TimeoutError, match="the database is slow"):
                async with client.stop_stream(late()) as stream:
                    async for outcome in stream:
                        outcomes.append(outcome)
    assert [o.verdict for o in outcomes] == [Verdict.RELAYED]


@pytest.mark.parametrize("bad", [None, {"chargebox": "x"}, "x", 5])
async def test_an_input_that_is_no_command_is_named(bad: object) -> None:
    thor = FakeTransport(lambda *_: OK)
    mixed: list[object] = [*fleet(2), bad]
    with thor.installed():
        async with thor.client() as client:
            with pytest.raises(TypeError, match="command 2 must be a StopCharge, not a"):
                await client.stop_many(mixed)  # type: ignore[arg-type]
            assert thor.requests == []
            outcomes = []
            with pytest.raises(TypeError, match="command 2 must be a StopCharge, not a"):
                async with client.stop_stream(mixed) as stream:  # type: ignore[arg-type]
                    async for outcome in stream:
                        outcomes.append(outcome)
            assert len(outcomes) == 2
            with pytest.raises(TypeError, match="command 0 must be a StopCharge"):
                await client.stop_charge(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [None, 5, StopCharge("a", 1, "b")])
async def test_commands_that_are_no_iterable_are_refused(bad: object) -> None:
    async with FakeTransport(lambda *_: OK).client() as client:
        with pytest.raises(TypeError, match="commands must be an iterable of StopCharge"):
            await client.stop_many(bad)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="commands must be an iterable of StopCharge"):
            client.stop_stream(bad)  # type: ignore[arg-type]


async def test_bad_numbers_are_refused_before_the_input_is_read() -> None:
    async with FakeTransport(lambda *_: OK).client() as client:
        for within in (0, -1, float("nan"), float("inf"), True, "5"):
            with pytest.raises(ValueError, match="within must be seconds above 0, not"):
                await client.stop_many(fleet(1), within=within)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="give_up_after must be seconds"):
            client.stop_stream(fleet(1), give_up_after=-1)
        with pytest.raises(ValueError, match="timeout must be seconds above 0, not 0"):
            await client.stop_charge(next(fleet(1)), timeout=0)


async def test_a_stream_must_be_entered_once_and_is_not_awaited() -> None:
    thor = FakeTransport(lambda *_: OK)
    with thor.installed():
        async with thor.client() as client:
            stream = client.stop_stream(fleet(3))
            with pytest.raises(RuntimeError, match=r"^use `async with .*, then `async for`$"):
                await anext(stream)  # type: ignore[call-overload]
            with pytest.raises(TypeError, match=r"^use `async with`, not `with`$"), stream:  # type: ignore[attr-defined]
                pass
            with pytest.raises(TypeError, match=r"^a stream is not awaited: use `async with"):
                await stream  # type: ignore[misc]
            with pytest.raises(TypeError, match=r"^a stream cannot be copied or pickled"):
                pickle.dumps(stream)
            async with stream as entered:
                await anext(entered)
            with pytest.raises(RuntimeError, match=r"^this stream was left: .* in its `unread`$"):
                await anext(entered)
            with pytest.raises(RuntimeError, match=r"^a stream is used once: .* again$"):
                await stream.__aenter__()
            async with client.stop_stream(()) as stream:
                assert [outcome async for outcome in stream] == []
            assert await client.stop_many([]) == []


async def test_a_batch_that_gave_up_says_so_even_when_nothing_was_left_to_pull() -> None:
    thor = FakeTransport(lambda *_: thor_says("APIKeyNotFound", 403), 0.01)
    outcomes = []
    with thor.installed():
        async with thor.client() as client:
            with pytest.raises(BatchGaveUp, match="APIKeyNotFound"):
                async with client.stop_stream(fleet(1)) as stream:
                    async for outcome in stream:
                        outcomes.append(outcome)
    assert [o.verdict for o in outcomes] == [Verdict.REJECTED]


async def test_workers_that_are_cancelled_from_outside_keep_their_outcomes() -> None:
    thor = FakeTransport(lambda *_: None)
    with thor.installed():
        async with thor.client(max_in_flight=3) as client:
            batch = asyncio.ensure_future(client.stop_many(fleet(10)))
            while len(thor.requests) < 3:
                await asyncio.sleep(0)
            for task in asyncio.all_tasks() - {asyncio.current_task(), batch}:
                if "OutcomeStream._run_one" in repr(task):
                    task.cancel()
            outcomes = await batch
    for outcome in outcomes:
        sent = thor.sent[outcome.command.chargebox]
        assert (outcome.verdict is Verdict.NOT_SENT) == (sent == 0)
        assert (outcome.verdict is Verdict.INDETERMINATE) == (sent == 1)


@pytest.mark.parametrize("error", [RuntimeError("a hook"), asyncio.CancelledError()])
async def test_a_hook_that_raises_costs_no_outcome(error: BaseException) -> None:
    def reply(command: StopCharge, now: float) -> Answer:
        return Answer(503) if command.chargebox == "box-3" else OK

    def fail(low: float, high: float) -> float:
        raise error

    thor = FakeTransport(reply)
    with thor.installed():
        async with thor.client(retry=RetryPolicy(random=fail), max_in_flight=1) as client:
            outcomes = await client.stop_many(fleet(6))
    assert [o.verdict for o in outcomes[:3]] == [Verdict.RELAYED] * 3
    assert (outcomes[3].verdict, outcomes[3].attempts) == (Verdict.INDETERMINATE, 1)
    assert [o.verdict for o in outcomes[4:]] == [Verdict.NOT_SENT] * 2


async def test_an_input_that_was_cancelled_itself_is_no_quiet_end() -> None:
    async def cancelled() -> AsyncIterator[StopCharge]:
        yield next(fleet(1))
        raise asyncio.CancelledError

    thor = FakeTransport(lambda *_: OK)
    outcomes = []
    with thor.installed():
        async with thor.client() as client:
            with pytest.raises(asyncio.CancelledError):
                async with client.stop_stream(cancelled()) as stream:
                    async for outcome in stream:
                        outcomes.append(outcome)
    assert len(outcomes) == 1


@pytest.mark.parametrize("error", [LookupError("gone"), asyncio.CancelledError()])
async def test_an_input_that_raised_is_not_pulled_again(error: BaseException) -> None:
    class Source:
        pulls = 0

        def __aiter__(self) -> Source:
            return self

        async def __anext__(self) -> StopCharge:
            self.pulls += 1
            if self.pulls == 2:
                raise error
            return next(fleet(1, start=self.pulls))

    source = Source()
    with FakeTransport(lambda *_: OK, 0.001).installed():
        async with ThorClient("key", base_url="http://127.0.0.1:1") as client:
            with pytest.raises(type(error)):
                async with client.stop_stream(source) as stream:
                    async for _outcome in stream:
                        await asyncio.sleep(0.01)
    assert source.pulls == 2


async def test_a_worker_that_is_cancelled_in_a_pull_is_no_quiet_end() -> None:
    async def endless() -> AsyncIterator[StopCharge]:
        yield next(fleet(1))
        await asyncio.Event().wait()

    thor = FakeTransport(lambda *_: OK)
    with thor.installed():
        async with thor.client() as client, client.stop_stream(endless()) as stream:
            await anext(stream)
            await asyncio.sleep(0)
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                if "CommandPuller._pull_all" in repr(task):
                    task.cancel()
            with pytest.raises(BatchGaveUp, match="closed before it could be sent"):
                await anext(stream)


async def test_a_stream_may_be_the_input_of_a_batch() -> None:
    thor = FakeTransport(lambda *_: thor_says("APIKeyNotFound", 403))

    with thor.installed():
        async with thor.client() as client:

            async def relay() -> AsyncIterator[StopCharge]:
                async with client.stop_stream(fleet(3)) as stream:
                    async for outcome in stream:
                        yield outcome.command

            with pytest.raises(BatchGaveUp, match="APIKeyNotFound"):
                await client.stop_many(relay())


def test_leaving_early_leaves_an_outcome_of_everything_that_was_pulled() -> None:
    thor = FakeTransport(lambda command, now: OK if command.connector == 1 else None)
    pulled: list[StopCharge] = []
    commands = [StopCharge(f"box-{n}", 1 + n % 3, "tag") for n in range(100)]

    async def main() -> None:
        with thor.installed():
            async with thor.client(max_in_flight=4) as client:
                async with client.stop_stream(noted(pulled, iter(commands))) as stream:
                    read = [await anext(stream)]
                    await asyncio.sleep(1)
                outcomes = read + stream.unread
                assert sorted(o.index for o in outcomes) == list(range(len(pulled)))
                assert len(thor.requests) == len(pulled)
                cut = [o for o in outcomes if o.command.connector != 1]
                assert len(cut) == 4
                for outcome in cut:
                    assert type(outcome.error) is IndeterminateError
                    assert outcome.maybe_applied
                assert thor.in_flight == 0

    virtual_time.run(main)


@pytest.mark.parametrize("seed", range(20))
def test_cancelling_a_consumer_at_any_point_loses_no_command(seed: int) -> None:
    pace = random.Random(seed)
    thor = FakeTransport(lambda *_: pace.choice([OK, OK, Answer(503), None]), 0.05)
    pulled: list[StopCharge] = []
    read: list[StopOutcome] = []
    streams = []

    async def consume() -> None:
        async with thor.client(max_in_flight=5, attempt_timeout=1.0) as client:
            source = noted(pulled, fleet(200))
            async with client.stop_stream(as_async(source) if seed % 2 else source) as stream:
                streams.append(stream)
                async for outcome in stream:
                    read.append(outcome)

    async def main() -> None:
        with thor.installed():
            task = asyncio.create_task(consume())
            await asyncio.sleep(pace.uniform(0, 6))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    virtual_time.run(main)
    outcomes = read + (streams[0].unread if streams else [])
    assert sorted(outcome.index for outcome in outcomes) == list(range(len(pulled)))
    assert thor.in_flight == 0
    for outcome in outcomes:
        sent = thor.sent[outcome.command.chargebox]
        assert (outcome.verdict is Verdict.NOT_SENT) == (sent == 0)


def test_a_second_cancellation_loses_no_outcome_of_what_was_in_flight() -> None:
    thor = FakeTransport(lambda *_: None)
    outcomes: list[int] = []

    async def consume() -> None:
        async with thor.client(max_in_flight=4) as client:
            batch = client.stop_stream(fleet(100))
            try:
                async with batch as stream:
                    await anext(stream)
            finally:
                outcomes.extend(outcome.index for outcome in stream.unread)

    async def main() -> None:
        with thor.installed():
            task = asyncio.create_task(consume())
            await asyncio.sleep(1)
            for _ in range(3):
                task.cancel()
                await asyncio.sleep(0)
            with pytest.raises(asyncio.CancelledError):
                await task

    virtual_time.run(main)
    assert sorted(outcomes) == [0, 1, 2, 3]


def test_a_pull_that_waits_is_cut_when_the_stream_is_left() -> None:
    thor = FakeTransport(lambda *_: OK)

    async def endless() -> AsyncIterator[StopCharge]:
        yield next(fleet(1))
        await asyncio.Event().wait()

    async def main() -> None:
        with thor.installed():
            async with thor.client() as client:
                async with client.stop_stream(endless()) as stream:
                    await anext(stream)
                assert stream.unread == []

    virtual_time.run(main)


def test_closing_the_client_ends_a_batch_after_what_is_in_flight() -> None:
    thor = FakeTransport(lambda *_: OK, 1.0)

    async def main() -> None:
        with thor.installed():
            client = await thor.client(max_in_flight=4).__aenter__()
            batch = asyncio.create_task(client.stop_many(fleet(100)))
            await asyncio.sleep(1.5)
            await client.aclose()
            outcomes = await batch
        assert [o.verdict for o in outcomes[:8]] == [Verdict.RELAYED] * 8
        reasons = {o.error.reason for o in outcomes[8:] if isinstance(o.error, NotSentError)}
        assert reasons == {"closed"}
        assert len(outcomes) == 100

    virtual_time.run(main)


async def test_a_command_past_its_time_is_not_sent(rests: Rests) -> None:
    now = datetime(2026, 11, 23, tzinfo=UTC)
    clock = iter([now.timestamp()] * 3 + [now.timestamp() + 61] * 9)
    thor = FakeTransport(lambda *_: Answer(503))
    late = StopCharge("late", 1, "tag", not_after=now - timedelta(seconds=1))
    soon = StopCharge("soon", 1, "tag", not_after=now + timedelta(seconds=60))
    with thor.installed():
        async with thor.client(retry=rests.policy(now=lambda: next(clock))) as client:
            with pytest.raises(NotSentError) as expired:
                await client.stop_charge(late)
            assert expired.value.reason == "expired"
            assert (expired.value.attempts, thor.sent["late"]) == (0, 0)
            with pytest.raises(ServerError) as stands:
                await client.stop_charge(soon)
            assert (stands.value.attempts, thor.sent["soon"]) == (1, 1)
