"""When the poller asks for the running list, and what failures and programming errors cause."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from tests import virtual_time
from tests.confirm.test_tracker import charge, ended, outcome
from tests.conftest import TAG
from thor_async import RunningCharge, ServerError, StopCharge, ThorError, TooManyRequests
from thor_async._confirm.poller import RunningChargePoller
from thor_async._confirm.snapshot import Snapshot
from thor_async._confirm.tracker import GONE, ChargeTracker

SECRET = "text-of-an-exception"
Answer = list[RunningCharge] | Exception | float
"""A list, an exception that is raised, or seconds for which the look hangs; a ThorError returns."""


class Thor:
    """Gives the answers in turn, the last one for ever; each look takes `seconds`."""

    def __init__(self, *answers: Answer, seconds: float = 0.1) -> None:
        self._answers = list(answers)
        self._seconds = seconds
        self.looks: list[float] = []

    async def look(self) -> list[RunningCharge] | ThorError:
        self.looks.append(now())
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        await asyncio.sleep(answer if isinstance(answer, float) else self._seconds)
        if isinstance(answer, ThorError):
            return answer
        if isinstance(answer, Exception):
            raise type(answer)(*answer.args)
        return [] if isinstance(answer, float) else list(answer)

    def gaps(self) -> list[float]:
        return [after - before for before, after in itertools.pairwise(self.looks)]


def now() -> float:
    return asyncio.get_running_loop().time()


def no_jitter(low: float, high: float) -> float:
    return low


def poller_of(thor: Thor, jitter: Callable[[float, float], float] = no_jitter) -> Any:
    return RunningChargePoller(thor.look, jitter)


Scene = Callable[[], Awaitable[None]]


def under_virtual_time(scene: Scene) -> Callable[[], None]:
    def test() -> None:
        virtual_time.run(scene)

    test.__doc__ = scene.__doc__
    return test


def command(transaction: int | None = 52) -> StopCharge:
    return StopCharge("A", 1, TAG, transaction)


async def watch(
    poller: RunningChargePoller, within: float, tracker: ChargeTracker | None = None
) -> Any:
    """Tracks a stop that is relayed at once; returns its confirmation."""
    tracker = tracker or ChargeTracker(command(), now())
    until = now() + within
    async with poller.track(tracker):
        await poller.wait_before_stop("A", 1, now())
        tracker.mark_sent()
        tracker.watch_from(now())
        await poller.wait_until_settled(tracker, until)
        return tracker.conclude(outcome())


# How often


@under_virtual_time
async def test_a_healthy_list_is_asked_for_every_2_to_10_seconds() -> None:
    thor = Thor([charge(52)])
    await watch(poller_of(thor), 60.0)
    assert thor.gaps()[:6] == pytest.approx([2.0, 3.0, 4.5, 6.75, 10.0, 10.0])


@under_virtual_time
async def test_a_failing_list_is_asked_for_less_and_less_often() -> None:
    thor = Thor(ServerError("down", status=500))
    await watch(poller_of(thor), 300.0)
    # From the end of a look, which takes 0.1 s.
    assert thor.gaps() == pytest.approx([4.1, 8.1, 16.1, 32.1, 60.1, 60.1, 60.1])


@under_virtual_time
async def test_a_failure_never_makes_the_next_look_sooner() -> None:
    thor = Thor(*[[charge(52)]] * 6, ServerError("down", status=500))
    await watch(poller_of(thor), 200.0)
    gaps = thor.gaps()
    assert gaps == sorted(gaps)
    assert gaps[6:] == pytest.approx([20.1, 40.1, 60.1])


@under_virtual_time
async def test_one_list_ends_the_backoff() -> None:
    thor = Thor(*[ServerError("down", status=500)] * 4, [charge(52)])
    await watch(poller_of(thor), 80.0)
    assert thor.gaps()[:8] == pytest.approx([4.1, 8.1, 16.1, 32.1, 2.0, 3.0, 4.5, 6.75], abs=0.01)


@under_virtual_time
async def test_retry_after_is_a_lower_bound() -> None:
    slow_down = TooManyRequests("slow down", status=429, retry_after=25.0)
    thor = Thor(slow_down, [charge(52)])
    await watch(poller_of(thor), 40.0)
    assert thor.gaps()[0] == pytest.approx(25.1)
    # A shorter one does not shorten the backoff.
    thor = Thor(TooManyRequests("slow down", status=429, retry_after=1.0))
    await watch(poller_of(thor), 20.0)
    assert thor.gaps()[:2] == pytest.approx([4.1, 8.1])


@under_virtual_time
async def test_a_retry_after_of_years_is_kept_for_an_hour() -> None:
    thor = Thor(ServerError("down", status=503, retry_after=999_999_999.0), [charge(52)])
    await watch(poller_of(thor), 4000.0)
    assert thor.gaps()[0] == pytest.approx(3600.1)


@under_virtual_time
async def test_a_new_waiter_does_not_shorten_the_backoff() -> None:
    thor = Thor(ServerError("down", status=500))
    poller = poller_of(thor)
    others = [asyncio.ensure_future(_later(poller, n * 0.7)) for n in range(80)]
    await watch(poller, 70.0)
    await asyncio.gather(*others)
    assert thor.gaps()[:4] == pytest.approx([4.1, 8.1, 16.1, 32.1])


async def _later(poller: RunningChargePoller, seconds: float) -> None:
    await asyncio.sleep(seconds)
    await watch(poller, 1.0)
    await poller.latest_showing("A", 1, now())


@under_virtual_time
async def test_during_the_backoff_a_caller_gets_the_last_failure_at_once() -> None:
    failure = ServerError("down", status=503, retry_after=30.0)
    thor = Thor(failure, [charge(52)])
    poller = poller_of(thor)
    assert await poller.latest_showing("A", 1, now()) is failure
    for _ in range(5):
        await asyncio.sleep(5.9)
        asked = now()
        assert await poller.latest_showing("A", 1, asked) is failure
        assert now() == asked
    assert len(thor.looks) == 1
    await asyncio.sleep(1.0)
    assert isinstance(await poller.latest_showing("A", 1, now()), Snapshot)


@under_virtual_time
async def test_a_caller_waits_for_the_look_that_ends_a_backoff() -> None:
    thor = Thor(ServerError("down", status=500), [charge(52)], seconds=1.0)
    poller = poller_of(thor)
    await poller.latest_showing("A", 1, now())
    await asyncio.sleep(4.1)
    first, second = await asyncio.gather(
        poller.latest_showing("A", 1, now()), _after(0.5, poller.latest_showing)
    )
    assert first is second
    assert isinstance(first, Snapshot)


async def _after(seconds: float, ask: Callable[[str, int, float], Awaitable[Any]]) -> Any:
    await asyncio.sleep(seconds)
    return await ask("A", 1, now())


@under_virtual_time
async def test_a_look_at_a_failing_list_that_is_broken_off_ends_no_backoff() -> None:
    failure = ServerError("down", status=500)
    thor = Thor(failure, 100.0, [])
    poller = poller_of(thor)
    await poller.latest_showing("A", 1, now())
    await asyncio.sleep(4.1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await poller.latest_showing("A", 1, now())
    await asyncio.sleep(2.5)
    assert await poller.latest_showing("A", 1, now()) is failure
    assert len(thor.looks) == 2


@under_virtual_time
async def test_looks_for_any_caller_begin_2_seconds_after_one_another() -> None:
    thor = Thor([charge(1, "elsewhere")], seconds=0.01)
    poller = poller_of(thor)
    for _ in range(6):
        await poller.latest_showing("empty", 1, now())
    assert thor.gaps() == pytest.approx([2.0] * 5)


@under_virtual_time
async def test_a_hundred_callers_share_one_look() -> None:
    thor = Thor([charge(1, "elsewhere")], seconds=0.01)
    poller = poller_of(thor)
    await poller.latest_showing("empty", 1, now())
    await asyncio.sleep(0.5)
    await asyncio.gather(*(poller.latest_showing("empty", 1, now()) for _ in range(100)))
    assert thor.looks == pytest.approx([0.0, 2.0])


@under_virtual_time
async def test_a_look_that_was_broken_off_counts_for_the_pause() -> None:
    thor = Thor(100.0)
    poller = poller_of(thor)
    for _ in range(10):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await poller.latest_showing("A", 1, now())
    assert min(thor.gaps()) >= 2.0


@pytest.mark.parametrize("jitter", [0.0, -5.0, math.nan])
def test_no_jitter_brings_looks_closer_together(jitter: float) -> None:
    async def run() -> None:
        thor = Thor([charge(52)])
        await watch(poller_of(thor, lambda low, high: jitter), 30.0)
        assert min(thor.gaps()) >= 2.0
        failing = Thor(ServerError("down", status=500))
        await watch(poller_of(failing, lambda low, high: jitter), 60.0)
        assert failing.gaps()[:3] == pytest.approx([4.1, 8.1, 16.1])

    virtual_time.run(run)


@under_virtual_time
async def test_the_stop_does_not_wait_for_a_list_that_hangs() -> None:
    poller = poller_of(Thor(100.0))
    async with poller.track(ChargeTracker(command(), now())):
        await poller.wait_before_stop("A", 1, now())
    assert now() == pytest.approx(2.0)


@under_virtual_time
async def test_a_recent_list_without_the_charge_is_asked_for_again() -> None:
    thor = Thor([charge(1, "elsewhere")], [charge(52)])
    poller = poller_of(thor)
    await poller.latest_showing("A", 1, now())
    await asyncio.sleep(1.0)
    tracker = ChargeTracker(command(None), now())
    async with poller.track(tracker):
        await poller.wait_before_stop("A", 1, now())
    assert thor.looks == pytest.approx([0.0, 2.0])
    tracker.mark_sent()
    tracker.trust_transaction()
    tracker.watch_from(now())
    tracker.notify(ended(52))
    assert tracker.state == "stopped"


@under_virtual_time
async def test_a_look_before_the_stop_has_its_2_seconds_from_its_begin() -> None:
    thor = Thor([charge(1, "elsewhere")], 1.9)
    poller = poller_of(thor)
    await poller.latest_showing("A", 1, now())
    async with poller.track(ChargeTracker(command(), now())):
        await poller.wait_before_stop("A", 1, now())
    assert now() == pytest.approx(2.0 + 1.9)


@under_virtual_time
async def test_a_long_list_lets_others_run_while_it_is_taken_in() -> None:
    charges = [charge(n, f"box-{n}") for n in range(1, 5001)]
    poller = poller_of(Thor(charges))
    look = asyncio.ensure_future(poller.latest_showing("box-7", 1, now()))
    await asyncio.sleep(0.1)
    turns = 0
    while not look.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 10
    snapshot = await look
    assert all(snapshot.find(c.chargebox, c.transaction or 0) for c in charges)
    assert len(snapshot.chargeboxes) == 5000


# Programming errors


class Bug(AttributeError):
    pass


def check_log(caplog: pytest.LogCaptureFixture, count: int) -> None:
    """Type and place of each fault, but not its text, which may hold anything."""
    records = [record for record in caplog.records if record.name == "thor_async"]
    assert len(records) == count
    for record in records:
        assert record.levelno == logging.ERROR
        assert "Bug" in record.getMessage()
        assert "test_poller.py" in record.getMessage()
        assert SECRET not in record.getMessage()
        assert record.exc_info is None


def test_a_look_that_raises_once_raises_to_its_callers_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def run() -> None:
        thor = Thor(Bug(SECRET), [charge(52)], [])
        poller = poller_of(thor)
        watching = asyncio.ensure_future(watch(poller, 60.0))
        for result in await asyncio.gather(
            *(poller.latest_showing("A", 1, now()) for _ in range(3)), return_exceptions=True
        ):
            assert isinstance(result, Bug)
        confirmation = await watching
        assert (confirmation.state, confirmation.evidence) == ("stopped", GONE)
        assert thor.gaps()[0] == pytest.approx(4.1)

    virtual_time.run(run)
    check_log(caplog, 1)


def test_looks_that_always_raise_raise_at_the_end_of_the_watch(
    caplog: pytest.LogCaptureFixture,
) -> None:
    looks = 0

    async def run() -> None:
        nonlocal looks
        thor = Thor(Bug(SECRET))
        poller = poller_of(thor)
        for within in (30.0, 1.0):
            began = now()
            with pytest.raises(Bug) as raised:
                await watch(poller, within)
            assert within <= now() - began <= within + 1.1
            assert _depth(raised.value) < 12
        looks = len(thor.looks)

    virtual_time.run(run)
    check_log(caplog, looks)
    assert looks == 4


def _depth(error: BaseException) -> int:
    trace, depth = error.__traceback__, 0
    while trace is not None:
        trace, depth = trace.tb_next, depth + 1
    return depth


@under_virtual_time
async def test_the_traceback_of_a_fault_does_not_grow() -> None:
    poller = poller_of(Thor(Bug(SECRET)))
    depths = set()
    for _ in range(50):
        with pytest.raises(Bug) as raised:
            await poller.latest_showing("A", 1, now())
        depths.add(_depth(raised.value))
    assert len(depths) == 1


@under_virtual_time
async def test_a_fault_before_the_stop_does_not_hold_it_up() -> None:
    poller = poller_of(Thor(Bug(SECRET)))
    async with poller.track(ChargeTracker(command(), now())):
        await poller.wait_before_stop("A", 1, now())
    assert now() == pytest.approx(0.1)


@under_virtual_time
async def test_a_proven_state_is_returned_in_spite_of_a_fault() -> None:
    poller = poller_of(Thor(Bug(SECRET)))
    asyncio.get_running_loop().call_later(10.0, poller.notify, ended(52))
    confirmation = await watch(poller, 30.0)
    assert confirmation.state == "stopped"
    assert now() == pytest.approx(10.0)


def test_a_jitter_that_raises_is_a_fault_of_the_look(caplog: pytest.LogCaptureFixture) -> None:
    raises = itertools.chain([False, True], itertools.repeat(False))

    def jitter(low: float, high: float) -> float:
        if next(raises):
            raise Bug(SECRET)
        return low

    async def run() -> None:
        thor = Thor([charge(52)], [charge(52)], [])
        confirmation = await watch(poller_of(thor, jitter), 30.0)
        assert (confirmation.state, confirmation.evidence) == ("stopped", GONE)

    virtual_time.run(run)
    check_log(caplog, 1)


def test_a_jitter_that_always_raises_is_raised_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    def jitter(low: float, high: float) -> float:
        raise Bug(SECRET)

    async def run() -> None:
        thor = Thor([charge(52)])
        with pytest.raises(Bug):
            await watch(poller_of(thor, jitter), 10.0)

    virtual_time.run(run)
    check_log(caplog, 2)


@under_virtual_time
async def test_a_look_that_is_cancelled_from_inside_is_a_fault() -> None:
    async def look() -> list[RunningCharge]:
        raise asyncio.CancelledError

    poller = RunningChargePoller(look, no_jitter)
    with pytest.raises(RuntimeError, match="was cancelled"):
        await poller.latest_showing("A", 1, now())


class BrokenTracker(ChargeTracker):
    """Raises in one of its methods."""

    def __init__(self, method: str) -> None:
        super().__init__(command(), now())
        setattr(self, method, self._fail)

    def _fail(self, fact: object) -> None:
        raise Bug(SECRET)


@pytest.mark.parametrize("method", ["observe", "notify"])
def test_a_fault_of_one_tracker_raises_to_its_own_command_only(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        thor = Thor(*[[charge(52)]] * 3, [])
        poller = poller_of(thor)
        asyncio.get_running_loop().call_later(1.0, poller.notify, ended(7))
        others = [asyncio.ensure_future(watch(poller, 60.0)) for _ in range(3)]
        with pytest.raises(Bug):
            await watch(poller, 60.0, BrokenTracker(method))
        assert now() <= 1.1
        pinned = await poller.latest_showing("A", 1, now())
        assert isinstance(pinned, Snapshot)
        for confirmation in await asyncio.gather(*others):
            assert (confirmation.state, confirmation.evidence) == ("stopped", GONE)

    virtual_time.run(run)
    check_log(caplog, 1)


def test_a_log_that_fails_does_not_end_the_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Iterator[None]:
        raise OSError("disk full")

    monkeypatch.setattr(logging.getLogger("thor_async"), "error", fail)

    async def run() -> None:
        thor = Thor(Bug(SECRET), [charge(52)], [])
        assert (await watch(poller_of(thor), 60.0)).state == "stopped"

    virtual_time.run(run)
