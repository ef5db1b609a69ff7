"""One task advances the input of a batch, in the caller's context, and closes it."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import anyio
import pytest
from opentelemetry import context as otel_context

from tests import virtual_time
from tests.fake_transport import OK, FakeTransport, fleet
from thor_async import BatchGaveUp, RetryPolicy, StopCharge, StopOutcome, ThorClient, Verdict
from thor_async._protocol.http_messages import Answer

Commands = Iterable[StopCharge] | AsyncIterable[StopCharge]
TENANT = contextvars.ContextVar("TENANT", default="nobody")
MAKE = contextvars.ContextVar("MAKE", default="nobody")


async def read(
    client: ThorClient, commands: Commands, outcomes: list[StopOutcome], pause: float = 0.0
) -> None:
    async with client.stop_stream(commands) as stream:
        async for outcome in stream:
            outcomes.append(outcome)
            await asyncio.sleep(pause)


async def stop_all(commands: Commands, *, pause: float = 0.0) -> list[StopOutcome]:
    """Stops them by a stream of four at once, whose reader rests after each outcome."""
    outcomes: list[StopOutcome] = []
    with FakeTransport(lambda *_: OK, 0.02).installed():
        async with FakeTransport(lambda *_: OK).client(max_in_flight=4) as client:
            await read(client, commands, outcomes, pause)
    return outcomes


async def list_all(commands: Commands) -> list[StopOutcome]:
    """Stops them by `stop_many`."""
    with FakeTransport(lambda *_: OK, 0.02).installed():
        async with FakeTransport(lambda *_: OK).client(max_in_flight=4) as client:
            return await client.stop_many(commands)


ways = pytest.mark.parametrize("stop", [stop_all, list_all])


def noting(seen: list[Any]) -> Iterator[StopCharge]:
    token = TENANT.set("acme")
    for command in fleet(42):
        seen.append((TENANT.get(), asyncio.current_task()))
        yield command
    TENANT.reset(token)


async def noting_live(seen: list[Any]) -> AsyncIterator[StopCharge]:
    token = TENANT.set("acme")
    for command in fleet(42):
        await asyncio.sleep(0)
        seen.append((TENANT.get(), asyncio.current_task()))
        yield command
    TENANT.reset(token)


@ways
@pytest.mark.parametrize("make", [noting, noting_live])
def test_one_task_advances_an_input_that_holds_a_context_variable(
    make: Callable[[list[Any]], Commands],
    stop: Callable[[Commands], Any],
) -> None:
    seen: list[Any] = []
    outcomes = virtual_time.run(lambda: stop(make(seen)))
    assert len(outcomes) == 42
    assert {tenant for tenant, _ in seen} == {"acme"}
    assert len({task for _, task in seen}) == 1


def test_the_context_is_that_in_which_the_stream_was_made() -> None:
    seen: list[tuple[str, str]] = []

    async def live() -> AsyncIterator[StopCharge]:
        for command in fleet(3):
            seen.append((MAKE.get(), TENANT.get()))
            yield command

    async def main() -> None:
        with FakeTransport(lambda *_: OK).installed():
            async with FakeTransport(lambda *_: OK).client() as client:
                MAKE.set("maker")
                batch = client.stop_stream(live())
                MAKE.set("reader")
                async with batch as stream:
                    assert len([outcome async for outcome in stream]) == 3

    virtual_time.run(main)
    assert seen == [("maker", "nobody")] * 3


def test_what_an_input_sets_reaches_no_command() -> None:
    seen: list[str] = []

    def reply(command: StopCharge, now: float) -> Any:
        seen.append(TENANT.get())
        return OK

    async def main() -> None:
        thor = FakeTransport(reply, 0.01)
        with thor.installed():
            async with thor.client(max_in_flight=2) as client:
                await read(client, noting_live([]), [])

    virtual_time.run(main)
    assert set(seen) == {"nobody"}


async def in_scope() -> AsyncIterator[StopCharge]:
    with anyio.CancelScope():
        for command in fleet(42):
            await asyncio.sleep(0)
            yield command


def in_plain_scope() -> Iterator[StopCharge]:
    with anyio.CancelScope():
        yield from fleet(42)


async def in_anyio_group() -> AsyncIterator[StopCharge]:
    give, take = anyio.create_memory_object_stream[StopCharge](5)

    async def feed() -> None:
        async with give:
            for command in fleet(42):
                await give.send(command)

    async with anyio.create_task_group() as group, take:
        group.start_soon(feed)
        async for command in take:
            yield command


async def in_group() -> AsyncIterator[StopCharge]:
    queue: asyncio.Queue[StopCharge | None] = asyncio.Queue(5)

    async def feed() -> None:
        for command in fleet(42):
            await queue.put(command)
        await queue.put(None)

    async with asyncio.TaskGroup() as group:
        group.create_task(feed())
        while (command := await queue.get()) is not None:
            yield command


async def in_span() -> AsyncIterator[StopCharge]:
    token = otel_context.attach(otel_context.set_value("span", "export"))
    for command in fleet(42):
        await asyncio.sleep(0)
        assert otel_context.get_value("span") == "export"
        yield command
    otel_context.detach(token)


@ways
@pytest.mark.parametrize("make", [in_scope, in_plain_scope, in_anyio_group, in_group, in_span])
def test_an_input_may_hold_what_belongs_to_its_task(
    make: Callable[[], Commands],
    stop: Callable[[Commands], Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    outcomes = virtual_time.run(lambda: stop(make()))
    assert [outcome.verdict for outcome in outcomes] == [Verdict.RELAYED] * 42
    assert not [record for record in caplog.records if record.name.startswith("opentelemetry")]


@pytest.mark.parametrize("rest", [0.005, 1000.0])
@pytest.mark.parametrize("pause", [0.0, 0.05])
def test_a_timeout_that_an_input_holds_cuts_the_input_and_no_command(
    rest: float, pause: float
) -> None:
    """It ends in the input, in a wait for a place (with `pause`), or for a reader."""

    async def limited() -> AsyncIterator[StopCharge]:
        async with asyncio.timeout(0.25):
            for command in fleet(100):
                await asyncio.sleep(rest if command.transaction == 20 else 0.001)
                yield command

    outcomes: list[StopOutcome] = []

    async def main() -> None:
        thor = FakeTransport(lambda *_: OK, 0.11)
        with thor.installed():
            async with thor.client(max_in_flight=4) as client:
                with pytest.raises(TimeoutError):
                    await read(client, limited(), outcomes, pause)

    virtual_time.run(main)
    assert 8 <= len(outcomes) <= 19
    assert {outcome.verdict for outcome in outcomes} == {Verdict.RELAYED}
    assert sorted(outcome.index for outcome in outcomes) == list(range(len(outcomes)))


def passing() -> Iterator[StopCharge]:
    with anyio.move_on_after(0.25):
        yield from fleet(100)
    yield from fleet(2, start=200)


async def passing_live() -> AsyncIterator[StopCharge]:
    with anyio.move_on_after(0.25):
        for command in fleet(100):
            yield command
    for command in fleet(2, start=200):
        yield command


@pytest.mark.parametrize("make", [passing, passing_live])
def test_an_input_may_go_on_after_a_scope_of_its_own_has_ended(
    make: Callable[[], Commands],
) -> None:
    outcomes: list[StopOutcome] = []

    async def main() -> None:
        thor = FakeTransport(lambda *_: OK, 0.1)
        with thor.installed():
            async with thor.client(max_in_flight=4) as client:
                await read(client, make(), outcomes)

    virtual_time.run(main)
    assert 8 <= len(outcomes) <= 18
    assert {outcome.verdict for outcome in outcomes} == {Verdict.RELAYED}
    numbers = sorted(outcome.command.transaction or 0 for outcome in outcomes)
    assert numbers[-2:] == [201, 202]


async def test_a_child_that_fails_in_a_group_of_an_input_is_raised() -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise LookupError("the database is gone")

    async def failing() -> AsyncIterator[StopCharge]:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            for command in fleet(100):
                yield command

    outcomes: list[StopOutcome] = []
    thor = FakeTransport(lambda *_: OK, 0.01)
    with thor.installed():
        async with thor.client(max_in_flight=4) as client:
            with pytest.RaisesGroup(LookupError):
                await read(client, failing(), outcomes)
    assert [outcome.verdict for outcome in outcomes] == [Verdict.RELAYED] * 4


class Closing:
    """Notes in which task and context each kind of input is closed."""

    def __init__(self) -> None:
        self.began: list[Any] = []
        self.ended: list[Any] = []

    def here(self) -> Any:
        return asyncio.current_task(), TENANT.get()

    def plain(self) -> Iterator[StopCharge]:
        TENANT.set("acme")
        self.began.append(self.here())
        try:
            yield from fleet(100)
        finally:
            self.ended.append(self.here())

    async def live(self) -> AsyncIterator[StopCharge]:
        TENANT.set("acme")
        self.began.append(self.here())
        try:
            for command in fleet(100):
                yield command
        finally:
            await asyncio.sleep(0)
            self.ended.append(self.here())

    async def waiting(self) -> AsyncIterator[StopCharge]:
        TENANT.set("acme")
        self.began.append(self.here())
        try:
            for command in fleet(3):
                yield command
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.ended.append(self.here())


@pytest.mark.parametrize("kind", ["plain", "live", "waiting"])
@pytest.mark.parametrize("end", ["leave", "stop_sending", "within", "gave_up"])
def test_a_generator_is_closed_when_it_is_left(kind: str, end: str) -> None:
    closing = Closing()

    async def main() -> None:
        thor = FakeTransport(lambda *_: OK, 0.2)
        with thor.installed():
            async with thor.client(max_in_flight=2) as client:
                within = 0.3 if end == "within" else None
                async with client.stop_stream(getattr(closing, kind)(), within=within) as stream:
                    await anext(stream)
                    if end == "stop_sending":
                        stream.stop_sending()
                    if end == "gave_up":
                        stream._dispatcher.stop("gave_up")
                    if end != "leave":
                        with suppress(BatchGaveUp):
                            async for _ in stream:
                                pass
                        assert closing.ended

    virtual_time.run(main)
    assert closing.ended == closing.began
    assert closing.began[0][1] == "acme"


@pytest.mark.parametrize("kind", ["plain", "live", "waiting"])
def test_a_generator_that_outlasts_the_time_of_stop_many_is_closed(kind: str) -> None:
    closing = Closing()

    async def slow() -> AsyncIterator[StopCharge]:
        source: Any = getattr(closing, kind)()
        try:
            if isinstance(source, AsyncIterable):
                async for command in source:
                    await asyncio.sleep(0.2)
                    yield command
            for command in source:
                await asyncio.sleep(0.2)
                yield command
        finally:
            await source.aclose() if hasattr(source, "aclose") else source.close()

    async def main() -> None:
        with FakeTransport(lambda *_: OK).installed():
            async with FakeTransport(lambda *_: OK).client() as client:
                outcomes = await client.stop_many(slow(), within=0.5)
                assert [outcome.verdict for outcome in outcomes] == [Verdict.NOT_SENT] * 2

    virtual_time.run(main)
    assert closing.ended == closing.began


def ticking(clock: Callable[[], Any]) -> Iterator[StopCharge]:
    for command in fleet(10):
        clock()
        yield command


async def ticking_live(clock: Callable[[], Any]) -> AsyncIterator[StopCharge]:
    for command in ticking(clock):
        yield command


@pytest.mark.parametrize("make", [ticking, ticking_live])
def test_each_command_that_was_read_has_an_outcome_also_at_the_end_of_the_time(
    make: Callable[[Callable[[], Any]], Commands],
) -> None:
    read: list[None] = []

    async def main() -> None:
        clock = asyncio.get_running_loop()._selector.clock  # type: ignore[attr-defined]

        def tick() -> None:
            read.append(None)
            clock.advance(0.4)

        with FakeTransport(lambda *_: OK).installed():
            async with FakeTransport(lambda *_: OK).client() as client:
                outcomes = await client.stop_many(make(tick), within=1.0)
        assert len(outcomes) == len(read) == 3
        assert {outcome.verdict for outcome in outcomes} == {Verdict.NOT_SENT}

    virtual_time.run(main)


class Own:
    """An iterator of the caller's own, with more to come."""

    is_closed = False

    def __init__(self) -> None:
        self.commands = deque(fleet(100))

    def __aiter__(self) -> Own:
        return self

    async def __anext__(self) -> StopCharge:
        return self.commands.popleft()

    async def aclose(self) -> None:
        self.is_closed = True


class Opened:
    """Gives a new iterator to each reader."""

    def __init__(self) -> None:
        self.given: list[Own] = []

    def __aiter__(self) -> Own:
        self.given.append(Own())
        return self.given[-1]


async def test_only_what_the_stream_has_opened_is_closed() -> None:
    own, opened = Own(), Opened()
    thor = FakeTransport(lambda *_: OK, 0.001)
    with thor.installed():
        async with thor.client(max_in_flight=2) as client:
            for source in (own, opened):
                async with client.stop_stream(source) as stream:
                    await anext(stream)
    assert not own.is_closed
    assert [given.is_closed for given in opened.given] == [True]


async def slow_to_end(rest: float, seconds: list[float]) -> AsyncIterator[StopCharge]:
    loop = asyncio.get_running_loop()
    try:
        for command in fleet(1):
            yield command
        await asyncio.Event().wait()
    finally:
        began = loop.time()
        try:
            await asyncio.sleep(rest)
        finally:
            seconds.append(loop.time() - began)


def test_a_leave_waits_for_the_clean_up_of_its_input() -> None:
    seconds: list[float] = []

    async def main() -> None:
        with FakeTransport(lambda *_: OK).installed():
            async with FakeTransport(lambda *_: OK).client() as client:
                async with client.stop_stream(slow_to_end(30.0, seconds)) as stream:
                    await anext(stream)
                assert seconds == [30.0]

    virtual_time.run(main)


def test_a_leave_that_is_cancelled_cuts_the_clean_up_of_its_input() -> None:
    seconds: list[float] = []

    async def main() -> None:
        with FakeTransport(lambda *_: OK).installed():
            async with FakeTransport(lambda *_: OK).client() as client:
                with pytest.raises(TimeoutError):
                    async with (
                        asyncio.timeout(2.0),
                        client.stop_stream(slow_to_end(30.0, seconds)) as stream,
                    ):
                        await anext(stream)
        assert asyncio.get_running_loop().time() < 3.0

    virtual_time.run(main)
    assert seconds == [pytest.approx(2.0)]


class Rounds:
    """Counts the rounds of a loop while anything waits."""

    def __init__(self) -> None:
        self.count = 0
        self._loop = asyncio.get_running_loop()
        self._run_once = self._loop._run_once  # type: ignore[attr-defined]
        self._loop._run_once = self._count  # type: ignore[attr-defined]

    def _count(self) -> None:
        self.count += 1
        self._run_once()


async def stubborn(end: asyncio.Event) -> AsyncIterator[StopCharge]:
    try:
        for command in fleet(1):
            yield command
        await asyncio.Event().wait()
    finally:
        while not end.is_set():
            with suppress(asyncio.CancelledError):
                await end.wait()


def test_a_leave_within_a_cancelled_scope_of_anyio_ends_and_does_not_spin() -> None:
    """anyio cancels again in each round, whatever the clean-up does."""

    async def main() -> None:
        end = asyncio.Event()
        rounds = Rounds()
        with FakeTransport(lambda *_: OK).installed():
            async with FakeTransport(lambda *_: OK).client() as client:
                batch = client.stop_stream(stubborn(end))
                asyncio.get_running_loop().call_later(60.0, end.set)
                with anyio.move_on_after(1.0) as scope:
                    async with batch as stream:
                        async for _ in stream:
                            pass
        assert scope.cancelled_caught
        assert asyncio.get_running_loop().time() < 2.0
        assert rounds.count < 1000
        end.set()

    virtual_time.run(main)


def raising(error: Exception) -> Iterator[StopCharge]:
    try:
        yield from fleet(100)
    finally:
        raise error


async def raising_live(error: Exception) -> AsyncIterator[StopCharge]:
    try:
        for command in fleet(100):
            yield command
    finally:
        raise error


@pytest.mark.parametrize("make", [raising, raising_live])
def test_an_input_that_fails_when_it_is_left_is_raised(
    make: Callable[[Exception], Commands],
) -> None:
    async def main() -> None:
        with FakeTransport(lambda *_: OK).installed():
            async with FakeTransport(lambda *_: OK).client(max_in_flight=2) as client:
                batch = client.stop_stream(make(LookupError("no connection")))
                with pytest.raises(LookupError, match="no connection"):
                    async with batch as stream:
                        await anext(stream)
                assert stream.unread

    virtual_time.run(main)


def test_an_input_that_fails_when_it_is_left_replaces_no_other_exception() -> None:
    async def main() -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(context))
        with FakeTransport(lambda *_: OK).installed():
            async with FakeTransport(lambda *_: OK).client(max_in_flight=2) as client:
                batch = client.stop_stream(raising_live(LookupError("no connection")))
                with pytest.raises(KeyError, match="mine"):
                    async with batch as stream:
                        await anext(stream)
                        raise KeyError("mine")
        return told

    told = virtual_time.run(main)
    assert [repr(context["exception"]) for context in told] == ["LookupError('no connection')"]


class Raising:
    """A plain or an asynchronous iterator that raises at its third command."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.commands = fleet(2)

    def next(self) -> StopCharge:
        for command in self.commands:
            return command
        raise self.error


class RaisingPlain(Raising):
    def __iter__(self) -> RaisingPlain:
        return self

    __next__ = Raising.next


class RaisingLive(Raising):
    def __aiter__(self) -> RaisingLive:
        return self

    async def value(self, command: StopCharge) -> StopCharge:
        return command

    def __anext__(self) -> Any:
        return self.value(self.next())


@pytest.mark.parametrize(
    "make",
    [lambda: RaisingPlain(StopAsyncIteration()), lambda: RaisingLive(StopIteration())],
)
async def test_the_wrong_kind_of_end_is_a_failure_of_the_input(make: Callable[[], Any]) -> None:
    thor = FakeTransport(lambda *_: OK)
    outcomes: list[StopOutcome] = []
    with thor.installed():
        async with thor.client() as client:
            with pytest.raises(RuntimeError, match=r"the input raised Stop(Async)?Iteration"):
                await read(client, make(), outcomes)
            assert len(outcomes) == len(thor.requests) == 2
            with pytest.raises(RuntimeError, match=r"the input raised Stop(Async)?Iteration"):
                await client.stop_many(make())
            assert len(thor.requests) == 2


async def test_a_failure_ends_a_pull_that_waits() -> None:
    """The other commands are delivered, and their reader does not wait for the next one."""

    async def wrong() -> AsyncIterator[Any]:
        yield next(fleet(1))
        yield "no command"
        await asyncio.Event().wait()

    outcomes: list[StopOutcome] = []
    with FakeTransport(lambda *_: OK, 0.001).installed():
        async with FakeTransport(lambda *_: OK).client() as client:
            with pytest.raises(TypeError, match="command 1 must be a StopCharge"):
                await read(client, wrong(), outcomes)
    assert len(outcomes) == 1


def test_a_failure_that_ends_a_pull_lets_the_other_commands_go_on() -> None:
    async def wrong() -> AsyncIterator[Any]:
        yield next(fleet(1))
        yield "no command"
        await asyncio.Event().wait()

    outcomes: list[StopOutcome] = []

    async def main() -> None:
        thor = FakeTransport(lambda _, now: OK if now > 0.1 else Answer(503), 0.01)
        policy = RetryPolicy(random=lambda low, high: high)
        with thor.installed():
            async with thor.client(retry=policy) as client:
                with pytest.raises(TypeError, match="command 1 must be a StopCharge"):
                    await read(client, wrong(), outcomes)

    virtual_time.run(main)
    assert [(outcome.verdict, outcome.attempts) for outcome in outcomes] == [(Verdict.RELAYED, 2)]


async def test_an_input_may_end_its_own_stream() -> None:
    streams: list[Any] = []
    ends: list[str] = []

    async def ending() -> AsyncIterator[StopCharge]:
        try:
            for command in fleet(100):
                if command.transaction == 3:
                    streams[0].stop_sending()
                yield command
        finally:
            await asyncio.sleep(0)
            ends.append("clean")

    with FakeTransport(lambda *_: OK).installed():
        async with (
            FakeTransport(lambda *_: OK).client() as client,
            client.stop_stream(ending()) as stream,
        ):
            streams.append(stream)
            outcomes = [outcome async for outcome in stream]
    assert sorted(outcome.index for outcome in outcomes) == [0, 1, 2]
    assert ends == ["clean"]


@pytest.mark.parametrize("rounds", range(12))
def test_commands_of_tasks_that_are_cancelled_before_they_begin_have_outcomes(rounds: int) -> None:
    pulled: list[StopCharge] = []
    outcomes: list[StopOutcome] = []
    thor = FakeTransport(lambda *_: OK, 0.01)

    def noted() -> Iterator[StopCharge]:
        for command in fleet(100):
            pulled.append(command)
            yield command

    async def main() -> None:
        reader = asyncio.current_task()
        with thor.installed():
            async with (
                thor.client(max_in_flight=4) as client,
                client.stop_stream(noted()) as stream,
            ):
                outcomes.append(await anext(stream))
                for _ in range(rounds):
                    await asyncio.sleep(0)
                for task in asyncio.all_tasks() - {reader}:
                    task.cancel()
                with pytest.raises(BatchGaveUp, match="closed"):
                    async for outcome in stream:
                        outcomes.append(outcome)

    virtual_time.run(main)
    assert sorted(outcome.index for outcome in outcomes) == list(range(len(pulled)))
    for outcome in outcomes:
        sent = thor.sent[outcome.command.chargebox]
        assert (outcome.verdict is Verdict.NOT_SENT) == (sent == 0)
