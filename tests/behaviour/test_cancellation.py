"""Cancelling, closing, and many callers at once, on real sockets."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp
import msgspec
import pytest
import trustme

from tests import virtual_time
from tests.conftest import KEY, TAG, Rests
from tests.fake_transport import FakeTransport, fleet
from thor_async import (
    ChargeboxNotFound,
    ConnectionLost,
    IndeterminateError,
    NotInTransaction,
    NotSentError,
    RejectedError,
    RetryPolicy,
    ServerError,
    StopCharge,
    StopOutcome,
    ThorClient,
    ThorError,
    TooManyRequests,
)
from thor_async._protocol.http_messages import Answer as Said
from thor_async.emulator import Faults, ScriptedAnswer, ThorEmulator

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
BROKEN = b"HTTP/1.1 500 Odd\r\nContent-Length: 0\r\n\r\n"
NOTHING = b""

AT_ONCE = 1.0  # the rule is 0.05; the rest is what a busy machine may add
SETTLED = 0.05

Stop = Callable[[ThorClient, StopCharge], Coroutine[Any, Any, object]]


def thor_at(url: str, **settings: Any) -> ThorClient:
    return ThorClient(KEY, base_url=url, allow_http=True, **settings)


class Wire:
    """A server with the same answer for every request; after none, or a part, the client waits.

    At its end every client must have left.
    """

    def __init__(self, answer: bytes = NOTHING) -> None:
        self.answer = answer
        self.requests = 0
        self.tls: ssl.SSLContext | None = None
        self.met = asyncio.Event()
        self.got = asyncio.Event()
        self._handlers: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        await self.listen(socket.create_server(("127.0.0.1", 0)))
        return self

    async def listen(self, listener: socket.socket) -> None:
        self._server = await asyncio.start_server(self._serve, sock=listener)
        self.port = listener.getsockname()[1]

    async def __aexit__(self, *exc_info: object) -> None:
        if self._server is not None:
            self._server.close()
        async with asyncio.timeout(60):
            await self.all_left()

    async def all_left(self) -> None:
        await asyncio.gather(*self._handlers)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        task.add_done_callback(self._handlers.discard)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            if self.tls is not None:
                await writer.start_tls(self.tls)
            self.met.set()
            while True:
                await self._answer(reader, writer)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
        await reader.readexactly(int(length))
        self.requests += 1
        self.got.set()
        writer.write(self.answer)


@dataclass
class Scene:
    """A wait in which a call hangs. `reached` is set in it; `heal` makes the next call succeed."""

    wire: Wire
    url: str
    reached: asyncio.Event
    settings: dict[str, Any] = field(default_factory=dict)
    is_behind: bool = False

    async def heal(self) -> None:
        self.wire.answer = OK


@asynccontextmanager
async def permit_wait() -> AsyncIterator[Scene]:
    async with Wire() as wire:
        yield Scene(wire, wire.url, wire.got, is_behind=True)


@asynccontextmanager
async def name_lookup() -> AsyncIterator[Scene]:
    begun, allowed = asyncio.Event(), asyncio.Event()
    async with Wire() as wire:

        async def look_up(*_: Any, **__: Any) -> list[Any]:
            begun.set()
            await allowed.wait()
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", wire.port))]

        class LookupScene(Scene):
            async def heal(self) -> None:
                allowed.set()
                await super().heal()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
            yield LookupScene(wire, f"http://thor.test:{wire.port}", begun)


@asynccontextmanager
async def connect() -> AsyncIterator[Scene]:
    """A listener whose backlog is full answers no SYN."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    fillers = [socket.socket() for _ in range(4)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
    wire = Wire()
    reached = asyncio.Event()
    reached.set()

    class Accepting(Scene):
        async def heal(self) -> None:
            for filler in fillers:
                filler.close()
            await wire.listen(listener)
            await super().heal()

    yield Accepting(wire, f"http://127.0.0.1:{listener.getsockname()[1]}", reached)
    await wire.__aexit__()


@asynccontextmanager
async def handshake() -> AsyncIterator[Scene]:
    authority = trustme.CA()
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(theirs)
    ours = ssl.create_default_context()
    authority.configure_trust(ours)
    async with Wire() as wire:

        class Speaking(Scene):
            async def heal(self) -> None:
                wire.tls = theirs
                await super().heal()

        yield Speaking(wire, f"https://127.0.0.1:{wire.port}", wire.met, {"ssl": ours})


@asynccontextmanager
async def header_wait() -> AsyncIterator[Scene]:
    async with Wire() as wire:
        yield Scene(wire, wire.url, wire.got)


@asynccontextmanager
async def headers_in_part() -> AsyncIterator[Scene]:
    async with Wire(OK[:20]) as wire:
        yield Scene(wire, wire.url, wire.got)


@asynccontextmanager
async def body_read() -> AsyncIterator[Scene]:
    async with Wire(OK[:-1]) as wire:
        yield Scene(wire, wire.url, wire.got)


@asynccontextmanager
async def body_read_of_a_500() -> AsyncIterator[Scene]:
    async with Wire(BROKEN.replace(b": 0", b": 9") + b"{") as wire:
        yield Scene(wire, wire.url, wire.got)


@asynccontextmanager
async def backoff() -> AsyncIterator[Scene]:
    resting = asyncio.Event()

    async def sleep(seconds: float) -> None:
        resting.set()
        await asyncio.sleep(60)

    async with Wire(BROKEN) as wire:
        yield Scene(wire, wire.url, resting, {"retry": RetryPolicy(sleep=sleep)})


SCENES = [
    permit_wait,
    name_lookup,
    connect,
    handshake,
    header_wait,
    headers_in_part,
    body_read,
    body_read_of_a_500,
    backoff,
]


def stop_one(thor: ThorClient, command: StopCharge) -> Coroutine[Any, Any, object]:
    return thor.stop_charge(command)


def stop_many(thor: ThorClient, command: StopCharge) -> Coroutine[Any, Any, object]:
    return thor.stop_many(fleet(3))


async def stop_streamed(thor: ThorClient, command: StopCharge) -> None:
    async with thor.stop_stream([command, command, command]) as stream:
        async for _ in stream:
            pass


async def cancel(doing: Awaitable[object], reached: asyncio.Event) -> None:
    """C1: the task that waits is cancelled."""
    task = asyncio.ensure_future(doing)
    await settle(reached)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def time_out(doing: Awaitable[object], reached: asyncio.Event) -> None:
    """C7: the caller's own limit ends: a plain `TimeoutError` is raised."""

    async def limited() -> None:
        async with asyncio.timeout(None) as limit:
            asyncio.ensure_future(end_of(limit)).add_done_callback(lambda ended: ended.result())
            await doing

    async def end_of(limit: asyncio.Timeout) -> None:
        await settle(reached)
        limit.reschedule(asyncio.get_running_loop().time())

    with pytest.raises(TimeoutError) as ended:
        await limited()
    assert type(ended.value) is TimeoutError


async def settle(reached: asyncio.Event) -> None:
    async with asyncio.timeout(60):
        await reached.wait()
    await asyncio.sleep(SETTLED)


@pytest.mark.parametrize("stop", [stop_one, stop_many, stop_streamed])
@pytest.mark.parametrize("end", [cancel, time_out])
@pytest.mark.parametrize("scene_of", SCENES)
async def test_c1_c7_ending_a_wait_ends_it_at_once_and_frees_everything(
    scene_of: Any, end: Any, stop: Stop, command: StopCharge
) -> None:
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        scene = await stack.enter_async_context(scene_of())
        thor = thor_at(scene.url, max_in_flight=1, **scene.settings)
        await stack.enter_async_context(thor)
        first = asyncio.ensure_future(thor.stop_charge(command)) if scene.is_behind else None
        await asyncio.sleep(0)
        started = loop.time()
        await end(stop(thor, command), scene.reached)
        assert loop.time() - started < SETTLED + AT_ONCE
        seen = scene.wire.requests
        if first is not None:
            await cancel(first, scene.reached)
        assert "in_flight=0" in repr(thor)
        if scene_of is not connect:  # its fillers stay
            await all_gone(scene)
        await scene.heal()
        async with asyncio.timeout(5):
            assert (await thor.stop_charge(command)).attempts == 1
        # Of what was ended nothing was sent again: the one more is the next call's.
        assert scene.wire.requests == seen + 1


async def all_gone(scene: Scene) -> None:
    """A connection on which a request was cut is closed, not kept; one between tries may be."""
    if "retry" not in scene.settings:
        async with asyncio.timeout(AT_ONCE):
            await scene.wire.all_left()


@pytest.mark.parametrize("seed", range(8))
async def test_c1_cancelling_at_any_moment_loses_no_permit(seed: int) -> None:
    """Also while a permit is handed over, or an answer arrives."""
    dice = random.Random(seed)
    async with ThorEmulator(api_key=KEY, faults=Faults(latency=(0.0, 0.002))) as emulator:
        policy = RetryPolicy(initial_delay=0.001)
        async with thor_at(emulator.base_url, max_in_flight=2, retry=policy) as thor:
            emulator.always(500, chargebox="box-3")
            tasks = [asyncio.ensure_future(thor.stop_charge(c)) for c in fleet(60)]
            for task in dice.sample(tasks, 50):
                task.cancel()
                if dice.random() < 0.5:
                    await asyncio.sleep(dice.uniform(0, 0.002))
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            for end in ended:
                assert isinstance(end, asyncio.CancelledError | ChargeboxNotFound | ServerError)
            assert "in_flight=0" in repr(thor)
            both = await asyncio.gather(
                *(thor.stop_charge(c) for c in fleet(2)), return_exceptions=True
            )
            assert all(isinstance(error, ChargeboxNotFound) for error in both)


# C2


@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
@pytest.mark.parametrize("seed", range(10))
async def test_c2_a_cancelled_stream_accounts_for_every_command(seed: int, twice: bool) -> None:
    dice = random.Random(seed)
    faults = Faults(
        error_before=0.1, error_after=0.1, drop_before=0.1, drop_after=0.1, latency=(0.0, 0.01)
    )
    emulator = ThorEmulator(api_key=KEY, faults=faults, seed=seed)
    commands = list(fleet(300))
    pulled: list[StopCharge] = []
    read: list[StopOutcome] = []
    streams = []

    def source() -> Iterator[StopCharge]:
        for command in commands:
            pulled.append(command)
            yield command

    async def consume() -> None:
        policy = RetryPolicy(initial_delay=0.01)
        async with (
            thor_at(emulator.base_url, max_in_flight=8, retry=policy) as thor,
            thor.stop_stream(source()) as stream,
        ):
            streams.append(stream)
            async for outcome in stream:
                read.append(outcome)
                if dice.random() < 0.1:
                    await asyncio.sleep(0.003)

    async with emulator:
        for command in commands[::2]:
            emulator.start_charge(
                command.chargebox, command.connector, command.id_tag, command.transaction
            )
        for command in commands[1::2]:
            emulator.add_chargebox(command.chargebox)
        task = asyncio.ensure_future(consume())
        await asyncio.sleep(dice.uniform(0, 0.4))
        task.cancel()
        if twice:
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(SETTLED)
    outcomes = read + [outcome for stream in streams for outcome in stream.unread]
    assert sorted(outcome.index for outcome in outcomes) == list(range(len(pulled)))
    assert all(outcome.command is commands[outcome.index] for outcome in outcomes)
    assert emulator.ledger.overclaims(outcomes) == []
    untouched = {command.chargebox for command in commands[len(pulled) :]}
    requested = {
        request.command.chargebox for request in emulator.ledger.requests if request.command
    }
    assert not requested & untouched


# C3


async def test_c3_closing_lets_the_wire_finish_and_sends_nothing_more() -> None:
    async with ThorEmulator(api_key=KEY) as emulator:
        emulator.always(ScriptedAnswer(200, b"{}", delay=0.3))
        async with thor_at(emulator.base_url, max_in_flight=100) as thor:
            calls = [asyncio.ensure_future(thor.stop_charge(c)) for c in fleet(150)]
            await received(emulator, 100)
            await asyncio.gather(thor.aclose(), thor.aclose())
            await thor.aclose()
            # All have ended before closing did, or end with it.
            async with asyncio.timeout(AT_ONCE):
                ended = await asyncio.gather(*calls, return_exceptions=True)
            check_closed(thor)
    relayed = [end for end in ended if isinstance(end, StopOutcome)]
    waiting = [end for end in ended if isinstance(end, NotSentError)]
    assert (len(relayed), len(waiting)) == (100, 50)
    assert {(error.reason, error.attempts) for error in waiting} == {("closed", 0)}
    assert len(emulator.ledger.requests) == 100


async def received(emulator: ThorEmulator, requests: int) -> None:
    async with asyncio.timeout(60):
        while len(emulator.ledger.requests) < requests:
            await asyncio.sleep(0.005)


def check_closed(thor: ThorClient) -> None:
    command = next(fleet(1))
    for call in (thor.stop_charge(command), thor.stop_many([command])):
        with pytest.raises(RuntimeError, match="is closed: build a new one"):
            call.send(None)


async def test_c3_closing_takes_at_most_one_attempt_timeout(command: StopCharge) -> None:
    """Also for a body whose end never comes."""
    loop = asyncio.get_running_loop()
    async with Wire(OK[:-1]) as wire, thor_at(wire.url, attempt_timeout=0.3) as thor:
        calls = [asyncio.ensure_future(thor.stop_charge(command)) for _ in range(20)]
        await settle(wire.got)
        started = loop.time()
        await thor.aclose()
        assert loop.time() - started < 0.3 + AT_ONCE
        async with asyncio.timeout(AT_ONCE):
            ended = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(error, IndeterminateError) for error in ended)


@pytest.mark.parametrize("given", [False, True], ids=["own", "given"])
async def test_c3_cancelling_the_close_cuts_at_once(given: bool, command: StopCharge) -> None:
    """A given session is not closed, so nothing but the cut ends its requests."""
    loop = asyncio.get_running_loop()
    async with (
        Wire() as wire,
        aiohttp.ClientSession() as session,
        thor_at(wire.url, max_in_flight=50, session=session if given else None) as thor,
    ):
        calls = [asyncio.ensure_future(thor.stop_charge(command)) for _ in range(100)]
        await settle(wire.got)
        started = loop.time()
        closings = [asyncio.ensure_future(thor.aclose()) for _ in range(2)]
        await asyncio.sleep(SETTLED)
        closings[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await closings[0]
        await closings[1]
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert loop.time() - started < SETTLED + AT_ONCE
        check_closed(thor)
    assert [isinstance(e, IndeterminateError) for e in ended] == [True] * 50 + [False] * 50
    assert all(isinstance(e, NotSentError) and e.reason == "closed" for e in ended[50:])
    assert wire.requests == 50


async def test_c3_a_call_in_backoff_ends_with_its_500(command: StopCharge) -> None:
    async with backoff() as scene, thor_at(scene.url, **scene.settings) as thor:
        call = asyncio.ensure_future(thor.stop_charge(command))
        await settle(scene.reached)
        await thor.aclose()
        async with asyncio.timeout(AT_ONCE):
            with pytest.raises(ServerError) as ended:
                await call
        assert (ended.value.status, ended.value.attempts) == (500, 1)
        assert ended.value.maybe_applied
        assert scene.wire.requests == 1


# C4


def echo(command: StopCharge) -> bytes:
    return msgspec.json.encode({"message": command.chargebox.replace("-", "_")})


def own_answers(n: int, command: StopCharge) -> tuple[list[ScriptedAnswer | str | int], Any]:
    """Returns the answers to one command; its error class, attempts, maybe_applied, retry_after."""
    body = echo(command)
    kinds: list[tuple[list[ScriptedAnswer | str | int], Any]] = [
        ([ScriptedAnswer(200, body)], (None, 1, False, None)),
        ([ScriptedAnswer(400, body)], (RejectedError, 1, False, None)),
        ([ScriptedAnswer(500, body)] * 3, (ServerError, 3, True, None)),
        ([ScriptedAnswer(502), ScriptedAnswer(200, body)], (None, 2, True, None)),
        ([ScriptedAnswer(drop=True)], (ConnectionLost, 1, True, None)),
        ([500, 500, ScriptedAnswer(409, body)], (RejectedError, 3, True, None)),
        (
            [ScriptedAnswer(429, body, {"Retry-After": str(n)})],
            (TooManyRequests, 1, False, float(n)),
        ),
        (["InternalServerError", "NotInTransaction"], (NotInTransaction, 2, True, None)),
    ]
    # Half of them plain, so that the retries of all fit into the budget. Few are throttled, or the
    # others would have to wait for the pace.
    plain = [kinds[0], kinds[1], kinds[4], kinds[0]]
    return (kinds + plain * 2)[n % 16]


async def test_c4_every_one_of_200_callers_gets_its_own_answer(rests: Rests) -> None:
    commands = list(fleet(200))
    expected = []
    async with ThorEmulator(api_key=KEY, faults=Faults(latency=(0.0, 0.05))) as emulator:
        for n, command in enumerate(commands):
            answers, end = own_answers(n, command)
            emulator.script(*answers, chargebox=command.chargebox)
            expected.append(end)
        async with thor_at(emulator.base_url, retry=rests.policy()) as thor:
            ended = await asyncio.gather(
                *(thor.stop_charge(command) for command in commands), return_exceptions=True
            )
    assert [seen(end) for end in ended] == expected
    for command, end in zip(commands, ended, strict=True):
        assert isinstance(end, StopOutcome | ThorError)
        assert end.command is command
        if isinstance(end, ThorError) and end.code and not end.answered:
            assert end.code == command.chargebox.replace("-", "_")
    mute = [end for end in ended if not isinstance(end, ThorError) or end.code is None]
    assert all(isinstance(end, StopOutcome | ConnectionLost) for end in mute)
    assert len(emulator.ledger.requests) == sum(attempts for _, attempts, *_ in expected)


def seen(end: object) -> tuple[type | None, int, bool, float | None]:
    if isinstance(end, StopOutcome):
        return None, end.attempts, end.maybe_applied, None
    assert isinstance(end, ThorError)
    return type(end), end.attempts, end.maybe_applied, end.retry_after


async def test_c4_a_single_stop_during_batches_waits_for_one_answer_at_most() -> None:
    """It is the next, though 36 commands of batches were in the queue before it."""
    async with ThorEmulator(api_key=KEY, faults=Faults(latency=(0.1, 0.1))) as emulator:
        emulator.always(200)
        async with thor_at(emulator.base_url, max_in_flight=4) as thor:
            batches = [
                asyncio.ensure_future(thor.stop_many(fleet(100, start=n * 100))) for n in range(10)
            ]
            await received(emulator, 8)
            for n in range(3):
                before = len(emulator.ledger.requests)
                await thor.stop_charge(StopCharge(f"single-{n}", 1, TAG))
                later = emulator.ledger.requests[before:]
                boxes = [request.command.chargebox for request in later if request.command]
                assert boxes.index(f"single-{n}") < 4  # only those in flight can come before it
            for batch in batches:
                batch.cancel()
            await asyncio.gather(*batches, return_exceptions=True)


# C6


@pytest.mark.parametrize("seed", range(30))
def test_c6_slow_500s_never_outlast_the_timeout(seed: int) -> None:
    dice = random.Random(seed)
    timeout = dice.uniform(1, 30)
    slept: list[tuple[float, float]] = []

    async def sleep(seconds: float) -> None:
        now = asyncio.get_running_loop().time()
        slept.append((now, seconds))
        await asyncio.sleep(seconds)

    def reply(command: StopCharge, now: float) -> Said:
        thor.latency = dice.uniform(0, 12)
        return Said(500, retry_after=dice.choice([None, "1", "7"]))

    thor = FakeTransport(reply, 1.0)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        policy = RetryPolicy(sleep=sleep, max_attempts=9)
        with thor.installed():
            async with thor.client(retry=policy, timeout=timeout) as client:
                started = loop.time()
                with pytest.raises(IndeterminateError) as ended:
                    await client.stop_charge(next(fleet(1)))
                assert loop.time() - started <= timeout + 0.001
        assert all(now + seconds < started + timeout for now, seconds in slept)
        assert ended.value.attempts == len(thor.requests) == len(slept) + 1

    virtual_time.run(main)


def test_c6_no_sleep_for_a_retry_after_past_the_timeout(rests: Rests) -> None:
    thor = FakeTransport(lambda *_: Said(503, retry_after="7"), 4.0)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with thor.installed():
            async with thor.client(retry=rests.policy(), timeout=10.0) as client:
                with pytest.raises(ServerError) as ended:
                    await client.stop_charge(next(fleet(1)))
                assert loop.time() == pytest.approx(4.0, abs=0.01)
        assert (ended.value.attempts, ended.value.retry_after) == (1, 7.0)
        assert rests.waits == []

    virtual_time.run(main)


# C7


async def test_c7_many_callers_with_limits_of_their_own() -> None:
    """Each ends at its own limit, and its request is not sent again."""
    async with ThorEmulator(api_key=KEY, faults=Faults(latency=(0.0, 0.2))) as emulator:
        emulator.always(500)
        policy = RetryPolicy(initial_delay=0.05, max_attempts=50)
        async with thor_at(emulator.base_url, max_in_flight=10, retry=policy) as thor:

            async def limited(command: StopCharge, seconds: float) -> None:
                async with asyncio.timeout(seconds):
                    await thor.stop_charge(command)

            ended = await asyncio.gather(
                *(limited(command, 0.1 + 0.01 * n) for n, command in enumerate(fleet(40))),
                return_exceptions=True,
            )
            assert {type(error) for error in ended} == {TimeoutError}
            sent = len(emulator.ledger.requests)
            await asyncio.sleep(0.3)
            assert len(emulator.ledger.requests) == sent
            assert "in_flight=0" in repr(thor)
