from __future__ import annotations

import heapq
import random
from collections import Counter

import pytest

from thor_async._dispatch.rate_estimator import RateEstimator


class Bucket:
    """The token bucket of a server."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate, self.burst = rate, burst
        self._tokens, self._at = burst, 0.0

    def take(self, now: float) -> bool:
        self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Simulation:
    """One client that keeps up to 32 requests in flight, at the rate of its estimator.

    What was throttled is sent again after a round trip.
    """

    def __init__(
        self,
        bucket: Bucket | None,
        count: int,
        *,
        latency: float = 0.05,
        refuses: frozenset[str] = frozenset(),
        retries: bool = True,
    ) -> None:
        self.bucket, self.latency, self.refuses, self.retries = bucket, latency, refuses, retries
        self.estimator = RateEstimator()
        self.left = [f"box-{number % 100}" for number in range(count)]
        self.now, self.next, self.in_flight = 0.0, 0.0, 0
        self.answers: Counter[bool] = Counter()
        self.rates: list[tuple[float, float]] = []
        self._events: list[tuple[float, int, float | None, str]] = []
        self._random = random.Random(7)
        self._serial = 0

    def run(self, until: float = 1e9) -> Simulation:
        """Runs until nothing is left, or until that time."""
        while (self.left or self._events) and self.now < until:
            self._send()
            if self._events and (
                self.in_flight == 32 or not self.left or self._events[0][0] <= self.next
            ):
                self._receive()
            else:
                self.now = self.next
        return self

    def _send(self) -> None:
        while self.left and self.in_flight < 32 and self.now >= self.next:
            seconds = self.latency * self._random.uniform(0.8, 1.2)
            self._serial += 1
            event = (self.now + seconds, self._serial, self.now, self.left.pop())
            heapq.heappush(self._events, event)
            self.in_flight += 1
            if self.estimator.rate is not None:
                self.next = max(self.next, self.now) + 1 / self.estimator.rate

    def _receive(self) -> None:
        self.now, _, begun, box = heapq.heappop(self._events)
        if begun is None:
            self.left.append(box)
            return
        self.in_flight -= 1
        accepted = box not in self.refuses
        accepted = accepted and (self.bucket is None or self.bucket.take(self.now))
        self.answers[accepted] += 1
        if accepted:
            self.estimator.record_accepted(self.now, box)
            if self.estimator.rate is not None:
                self.rates.append((self.now, self.estimator.rate))
        else:
            self.estimator.record_throttled(self.now, begun, box)
            if self.retries and box not in self.refuses:
                self._serial += 1
                again = (2 * self.now - begun, self._serial, None, box)
                heapq.heappush(self._events, again)


def test_while_nothing_is_throttled_there_is_no_rate() -> None:
    simulation = Simulation(None, 1000).run()
    assert simulation.estimator.rate is None
    assert simulation.estimator.limit is None


@pytest.mark.parametrize("burst", [1.0, 10.0])
@pytest.mark.parametrize("latency", [0.05, 0.3])
@pytest.mark.parametrize("rate", [5, 20, 50])
def test_the_limit_is_measured_within_a_few_percent(
    rate: float, latency: float, burst: float
) -> None:
    simulation = Simulation(Bucket(rate, rate * burst), 2000, latency=latency).run()
    assert simulation.estimator.limit == pytest.approx(rate, rel=0.05)
    ideal = (2000 - rate * burst) / rate
    assert simulation.now <= ideal * 1.05 + 1
    assert simulation.answers[False] / simulation.answers.total() <= (0.1 if rate == 5 else 0.04)


@pytest.mark.parametrize("factor", [0.5, 2.0])
@pytest.mark.parametrize("rate", [20, 50])
def test_the_rate_follows_a_limit_that_changes(rate: float, factor: float) -> None:
    bucket = Bucket(rate, rate)
    simulation = Simulation(bucket, 100_000).run(until=30)
    bucket.rate *= factor
    simulation.run(until=40)
    assert max(now for at, now in simulation.rates if at > 30) >= 0.9 * rate * factor
    before = simulation.answers[True]
    simulation.run(until=100)
    assert simulation.estimator.limit == pytest.approx(rate * factor, rel=0.1)
    assert (simulation.answers[True] - before) / 60 >= 0.95 * rate * factor


@pytest.mark.parametrize("retries", [True, False])
def test_one_chargebox_of_a_hundred_that_is_throttled_lowers_hardly_anything(
    retries: bool,
) -> None:
    refuses = frozenset({"box-7"})
    simulation = Simulation(None, 5000, refuses=refuses, retries=retries).run()
    free = Simulation(None, 5000).run()
    assert simulation.answers[False] == 50
    assert simulation.now <= free.now * 1.05
    assert simulation.estimator.is_self_limited("box-7")
    assert not simulation.estimator.is_self_limited("box-8")


def test_a_chargebox_that_is_accepted_again_has_no_limit_of_its_own() -> None:
    estimator = RateEstimator()
    for number in range(20):
        estimator.record_accepted(number / 10, "other")
    estimator.record_throttled(2.0, 1.9, "box")
    assert not estimator.is_self_limited("box")
    estimator.record_accepted(2.1, "other")
    estimator.record_throttled(2.2, 2.1, "box")
    assert estimator.is_self_limited("box")
    assert estimator.rate is None
    estimator.record_throttled(2.3, 2.2, "other")
    estimator.record_accepted(2.4, "box")
    assert not estimator.is_self_limited("box")


def test_what_one_chargebox_lowered_is_taken_back() -> None:
    simulation = Simulation(Bucket(20, 20), 1000).run(until=20)
    estimator, now = simulation.estimator, simulation.now
    before = estimator.limit
    estimator.record_throttled(now + 1, now + 0.9, "new")
    lowered = estimator.rate
    estimator.record_accepted(now + 1.1, "box-1")
    estimator.record_throttled(now + 1.2, now + 1.1, "new")
    assert estimator.limit == before
    assert lowered is not None
    assert estimator.rate is not None
    assert lowered < estimator.rate
    assert lowered < 19


def test_requests_that_began_before_it_was_lowered_do_not_lower_it_again() -> None:
    simulation = Simulation(Bucket(20, 20), 1000).run(until=20)
    estimator, now = simulation.estimator, simulation.now
    for number in range(8):
        estimator.record_throttled(now + 1, now + 0.9, f"new-{number}")
    rate = estimator.rate
    for number in range(8):
        estimator.record_throttled(now + 1.05, now + 0.95, f"more-{number}")
    assert estimator.rate == rate
    for number in range(8):
        estimator.record_throttled(now + 1.2, now + 1.1, f"again-{number}")
    assert estimator.rate is not None
    assert rate is not None
    assert estimator.rate < rate


def test_an_account_that_answers_only_429_is_asked_less_and_less() -> None:
    simulation = Simulation(Bucket(1e-9, 50), 500).run(until=600)
    assert simulation.answers[True] == 50
    assert simulation.answers[False] <= 130
    assert simulation.estimator.rate == pytest.approx(0.1, abs=0.01)


def test_the_rate_does_not_grow_beyond_twice_what_is_accepted() -> None:
    simulation = Simulation(Bucket(20, 20), 300).run()
    estimator, now = simulation.estimator, simulation.now
    for second in range(1, 50):
        estimator.record_accepted(now + second, "box")
    assert estimator.rate is not None
    assert estimator.rate <= 20.5


def test_a_limit_is_forgotten_a_minute_after_the_last_429() -> None:
    simulation = Simulation(Bucket(20, 20), 300).run()
    estimator, now = simulation.estimator, simulation.now
    estimator.record_accepted(now + 50, "box")
    assert estimator.rate is not None
    estimator.record_accepted(now + 61, "box")
    assert estimator.rate is None


def test_a_time_in_which_nothing_was_to_be_sent_is_not_measured() -> None:
    estimators = []
    for idle in (0.0, 50.0):
        simulation = Simulation(Bucket(20, 20), 300).run(until=12)
        estimator, now = simulation.estimator, simulation.now
        estimator.skip(idle)
        for number in range(20):
            at = now + idle + number / 20
            estimator.record_accepted(at, "box")
        estimator.record_throttled(now + idle + 1.1, now + idle + 1.0, "other")
        estimators.append(estimator)
    first, second = (estimator.limit for estimator in estimators)
    assert first == pytest.approx(second)


def test_one_429_in_little_traffic_is_no_limit() -> None:
    """Another client on the account may have met it. A batch that begins then must not be slow."""
    estimator = RateEstimator()
    estimator.record_accepted(1.0, "other")
    estimator.record_throttled(1.1, 1.05, "box")
    estimator.record_accepted(1.2, "box")
    assert estimator.rate is None


def test_a_flood_at_the_very_begin_is_a_limit() -> None:
    estimator = RateEstimator()
    for number in range(6):
        estimator.record_throttled(1.1, 1.0, f"box-{number}")
    assert estimator.limit == 1.0


def test_what_was_in_flight_at_the_flood_tells_more_than_the_burst() -> None:
    estimator = RateEstimator()
    for number in range(200):
        estimator.record_accepted(1 + number / 1000, "box")
    for number in range(6):
        estimator.record_throttled(1.3, 1.2, f"box-{number}")
    for number in range(1, 21):
        at = 1.3 + number / 200
        if number % 10:
            estimator.record_throttled(at, at - 0.1, f"more-{number}")
        else:
            estimator.record_accepted(at, "box")
    # Two in a tenth of a second, and what chance may have kept from them.
    assert estimator.limit == pytest.approx(80, rel=0.1)


def test_a_429_soon_after_another_lowers_the_limit_without_a_measurement() -> None:
    simulation = Simulation(Bucket(0.6, 5), 60).run()
    estimator, now = simulation.estimator, simulation.now
    for number in range(8):
        estimator.record_throttled(now + 1, now + 0.9, f"new-{number}")
    before = estimator.limit
    estimator.record_accepted(now + 1.4, "box")
    estimator.record_throttled(now + 1.5, now + 1.4, "later")
    assert before is not None
    assert estimator.limit is not None
    assert estimator.limit < 0.98 * before


def test_a_limit_of_less_than_one_a_second_is_kept_for_longer_than_a_minute() -> None:
    """All that it takes to learn it again is a flood."""
    simulation = Simulation(Bucket(0.5, 5), 60).run()
    estimator, now = simulation.estimator, simulation.now
    assert estimator.limit == pytest.approx(0.5, rel=0.5)
    for second in range(0, 70, 2):
        estimator.record_accepted(now + second, "box")
    assert estimator.rate is not None
    estimator.record_accepted(now + 600, "box")
    assert estimator.rate is None
