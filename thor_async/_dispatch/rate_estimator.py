"""Learns from 429 answers how many requests a second Thor accepts. No I/O, and no clock."""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

# The numbers are those with which `benchmarks.throttle` comes nearest to the ideal. More growth
# costs 429s at a few requests a second; less costs time when another client has ended.

_BETA = 0.9  # of the limit: the rate after a 429
_GROWTH, _POWER, _AT = 1.2, 0.5, 20.0  # see `_growth`
_CYCLE, _SLOW, _SLOWER, _FEW = 6.0, 0.15, 0.4, 5.0  # see `_cycle`
_TURN, _STRETCH = 0.7, 3.0  # in cycles: from here on the growth is three times as quick

_FIRST_SHARE = 0.7  # of what a burst brought
_FIRST_DOUBLING, _DOUBLING = 1.0, 3.0  # seconds
_LOWEST, _LOWEST_FIRST = 0.1, 1.0  # requests a second
_LEAST, _LEAST_IN_FLOOD = 0.7, 0.3  # of the rate: no measurement lowers it to less at once

_LONG_ENOUGH, _ENOUGH = 1.0, 8  # seconds and answers that make a measurement
_MARGIN, _GUESS_MARGIN = 3, 6  # answers that chance may have kept from a shorter one, or a guess
_HARDLY = 1.05  # of a rate that was throttled: the limit is not above
_RECENT = 16
_TENTATIVE, _TENTATIVE_SLOTS = 1.0, 3.0  # seconds, or slots, in which a throttled request is resent
_MOST_SUSPECTS, _REMEMBERED = 1000, 4096
_FORGOTTEN, _FORGOTTEN_CYCLES = 60.0, 6.0  # seconds, and cycles, without a 429


class _Estimate(NamedTuple):
    """What a 429 taught: `limit` requests a second, from which the rate was lowered at `at`.

    A limit that is `measured` is reached again after `plateau` seconds; one that is only guessed
    doubles in `doubling` seconds, the first one soon, as it is far too low after a small burst.
    The measurement goes on from `since`, when `counted` answers had been accepted. Before `settled`
    the answers still come that were in flight at the first 429; then the limit is `share` of what
    was accepted in the last second.
    """

    limit: float
    at: float
    since: float
    counted: int
    measured: bool = False
    plateau: float = 0.0
    settled: float = -1.0
    share: float = 1.0
    doubling: float = _FIRST_DOUBLING


class RateEstimator:
    """Estimates at which rate requests may begin. All times are seconds of one clock.

    A token bucket that was empty twice has accepted in between what its limit allows. So each 429
    measures the limit, and lowers the rate to 0.9 of it. Then the rate grows as in CUBIC
    (RFC 9438): quickly back to the limit, then slowly beyond it, to twice what is accepted. The
    first limit is a guess, from which the rate doubles until it is measured.

    One chargebox may be throttled by a limit of its own. It is known by a second 429, while
    requests about others are accepted. Then what its first one lowered is taken back.

    `rate` is None while no limit is known; `accepted_at` has the times of the last answers.
    """

    MANY = 6
    """From this number of 429s in the last 16 answers on, they come from no single chargebox."""

    def __init__(self) -> None:
        self.rate: float | None = None
        self.accepted_at: deque[float] = deque(maxlen=_REMEMBERED)
        self._recent: deque[bool] = deque(maxlen=_RECENT)
        self._suspects: dict[str, int] = {}
        self._self_limited: dict[str, None] = {}
        self._estimate = _Estimate(0.0, -1.0, 0.0, 0)
        self._undo: tuple[float | None, _Estimate] | None = None
        self._counted = 0
        self._throttled_at = 0.0

    @property
    def is_calm(self) -> bool:
        """Whether an answer that was accepted needs only its time, in `accepted_at`."""
        return self.rate is None and not self._suspects

    @property
    def limit(self) -> float | None:
        """The limit as last measured, in requests a second."""
        return None if self.rate is None else self._estimate.limit

    @property
    def is_flooded(self) -> bool:
        """Whether many of the last answers were 429: that is no limit of one chargebox."""
        return sum(self._recent) >= self.MANY

    def is_self_limited(self, subject: str) -> bool:
        """Whether the chargebox `subject` has a limit of its own."""
        return subject in self._self_limited

    def record_accepted(self, now: float, subject: str) -> None:
        """Takes in an answer other than 429, to a request about the chargebox `subject`."""
        self.accepted_at.append(now)
        if self.is_calm:
            return
        self._counted += 1
        self._recent.append(False)
        self._self_limited.pop(subject, None)
        if subject in self._suspects:
            self._suspects.clear()
            if self.rate is None and self._accepted_in_last_second(now) >= _ENOUGH:
                self._lower(now, now)
            self._undo = None
        if self.rate is not None:
            self._grow(now)

    def record_throttled(self, now: float, begun: float, subject: str) -> None:
        """Takes in a 429 to a request about `subject` that began at `begun`."""
        if self.rate is None:
            # Those that were accepted before it were not counted one by one.
            recent = [False for at in list(self.accepted_at)[-_RECENT:] if at > self._throttled_at]
            self._recent.extend(recent)
        self._throttled_at = now
        if subject in self._self_limited:
            return
        others = self._counted - self._suspects.get(subject, self._counted)
        if others and not self.is_flooded:
            self._record_self_limited(now, subject)
            return
        self._recent.append(True)
        if self.is_flooded:
            self._lower(now, begun)
        elif begun > self._estimate.at:
            self._suspect(now, begun, subject)

    def skip(self, seconds: float) -> None:
        """Leaves out of measurement and growth a time in which nothing was to be sent."""
        since, at = self._estimate.since + seconds, self._estimate.at + seconds
        self._estimate = self._estimate._replace(since=since, at=at)

    def _suspect(self, now: float, begun: float, subject: str) -> None:
        """Lowers the rate until it is known that the limit of this chargebox alone was met."""
        if self.rate is not None and not self._is_tentative(now):
            undo = self.rate, self._estimate
            self._lower(now, begun)
            self._undo = undo
        if len(self._suspects) == _MOST_SUSPECTS:
            del self._suspects[next(iter(self._suspects))]
        self._suspects[subject] = self._counted

    def _is_tentative(self, now: float) -> bool:
        """Whether it may soon be known what the last 429 meant."""
        if self._undo is None:
            return False
        return now - self._estimate.at < max(_TENTATIVE, _TENTATIVE_SLOTS / (self.rate or math.inf))

    def _record_self_limited(self, now: float, subject: str) -> None:
        del self._suspects[subject]
        self._self_limited[subject] = None
        if len(self._self_limited) > _REMEMBERED:
            del self._self_limited[next(iter(self._self_limited))]
        if self._undo is not None:
            self.rate, self._estimate = self._undo
            if not self._suspects:
                self._undo = None
            if self.rate is not None:
                self._grow(now)

    def _lower(self, now: float, begun: float) -> None:
        """Lowers the rate, once for all requests that began before that."""
        estimate = self._estimate
        if begun <= estimate.at:
            if now < estimate.settled:
                self._guess(now)
            return
        elapsed, accepted = now - estimate.since, self._counted - estimate.counted
        if self.rate is None:
            share = _FIRST_SHARE if self.is_flooded else 1.0
            settled = now + (now - begun)
            self._estimate = _Estimate(0.0, now, now, self._counted, settled=settled, share=share)
            self._guess(now)
        elif elapsed >= _LONG_ENOUGH and accepted >= _ENOUGH:
            # Not far below the rate: the measurement may have seen it lowered for no reason.
            least = self.rate * (_LEAST_IN_FLOOD if self.is_flooded else _LEAST)
            limit = max(min(accepted / elapsed, self.rate), least, _LOWEST)
            self.rate = limit * _BETA
            plateau = _cycle(limit) * math.cbrt(limit * (1 - _BETA) / _growth(limit))
            self._estimate = _Estimate(limit, now, now, self._counted, True, plateau)
        else:
            # Too little for a measurement, but the limit is hardly above these.
            most = min(self.rate * _HARDLY, (accepted + _MARGIN) / max(elapsed, 1e-3))
            limit = max(min(estimate.limit, most), _LOWEST)
            self.rate = max(min(self.rate, limit) * _BETA, _LOWEST)
            self._estimate = estimate._replace(
                limit=limit, at=now, settled=-1.0, doubling=_DOUBLING
            )
        self._undo = None
        if self.is_flooded:
            self._recent.clear()
            self._suspects.clear()

    def _guess(self, now: float) -> None:
        """Guesses the first limit from what was accepted in the last second, and since then."""
        estimate = self._estimate
        limit = estimate.share * self._accepted_in_last_second(now)
        if now > estimate.at:
            # The bucket is empty since, so this tells more than the burst before it.
            accepted = self._counted - estimate.counted
            limit = min(limit, (accepted + _GUESS_MARGIN) / (now - estimate.at))
        limit = max(limit, _LOWEST_FIRST)
        # One 429 among many that were accepted says too little to be slower than now.
        self.rate = limit * (_BETA if estimate.share < 1 else 1.0)
        self._estimate = estimate._replace(limit=limit)

    def _grow(self, now: float) -> None:
        estimate = self._estimate
        if now < estimate.settled:
            self._guess(now)
            return
        if now - self._throttled_at > max(_FORGOTTEN, _FORGOTTEN_CYCLES * _cycle(estimate.limit)):
            self.rate = None
            return
        rate = max(_rate_after(estimate, now - estimate.at), _LOWEST)
        self.rate = min(rate, max(estimate.limit, 2.0 * self._accepted_in_last_second(now)))
        if self.rate >= 2 * estimate.limit:
            # From here as from a limit, so that it goes on as quickly.
            self._estimate = estimate._replace(limit=2 * estimate.limit, at=now, plateau=0.0)

    def _accepted_in_last_second(self, now: float) -> int:
        times = self.accepted_at
        while times and times[0] <= now - 1.0:
            times.popleft()
        return len(times)


def _rate_after(estimate: _Estimate, seconds: float) -> float:
    """Returns the rate so long after it was lowered."""
    limit = estimate.limit
    if not estimate.measured:
        return limit * _BETA * math.exp2(min(seconds / estimate.doubling, 10.0))
    beyond = (seconds - estimate.plateau) / _cycle(limit)
    if beyond > _TURN:
        # No 429 for longer than at the old limit: it is higher now.
        beyond = _TURN + _STRETCH * (beyond - _TURN)
    return limit + _growth(limit) * beyond**3


def _growth(limit: float) -> float:
    """Requests a second by which the rate is above the limit after a cycle.

    In proportion less where the limit is high, so that several clients come to equal shares.
    """
    return _GROWTH * min(limit, math.pow(limit / _AT, _POWER) * _AT)


def _cycle(limit: float) -> float:
    """Seconds; more at a few requests a second, where one 429 in a cycle is many."""
    few = math.pow(max(1.0, _FEW / limit), _SLOWER)
    return _CYCLE * few * math.pow(100 / max(_FEW, limit), _SLOW)
