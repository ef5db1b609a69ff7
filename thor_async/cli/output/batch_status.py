"""What a batch does now, in one line."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

from thor_async._dispatch.breaker import PauseStatus

from .allowed_rate import AllowedRate, format_rate
from .durations import format_duration
from .stats import BatchStats

_WINDOW, _STEP = 30.0, 0.5
_SILENCE = 5.0


class RateMeter:
    """Measures how many outcomes come in a second, over the last 30 seconds."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def restart(self, now: float, count: int) -> None:
        """Forgets what was before, such as a canary or a pause."""
        self._samples.clear()
        self._samples.append((now, count))

    def add(self, now: float, count: int) -> None:
        if not self._samples or now - self._samples[-1][0] >= _STEP:
            self._samples.append((now, count))
        while len(self._samples) > 2 and now - self._samples[1][0] >= _WINDOW:
            self._samples.popleft()

    def rate(self, now: float, count: int) -> float:
        """Returns outcomes a second; 0 if nothing is known."""
        if not self._samples:
            return 0.0
        began, first = self._samples[0]
        return (count - first) / (now - began) if now > began else 0.0


class BatchStatus:
    """Describes a batch of `total` rows in one line.

    A runner sets: `canary`, the size of the canary while it runs; `find_pause`, which returns the
    pause while Thor seems down; `spread_ends_at`, when the last row is due to be sent;
    `interrupted` and `open_rows`. `allowed` is the rate that Thor allows, and `max_rate` the user's
    own limit. All times are those of `clock`.
    """

    def __init__(
        self,
        total: int,
        stats: BatchStats,
        clock: Callable[[], float],
        allowed: AllowedRate | None = None,
        max_rate: float | None = None,
    ) -> None:
        self.total: int = total
        self.stats: BatchStats = stats
        self.canary: int = 0
        self.open_rows: int = 0
        self.find_pause: Callable[[], PauseStatus | None] = lambda: None
        self.spread_ends_at: float | None = None
        self.interrupted = False
        self._clock, self._max_rate = clock, max_rate
        self.allowed: AllowedRate = allowed or AllowedRate()
        self._meter = RateMeter()
        self._meter.restart(clock(), 0)
        self._last_outcome_at = clock()
        self._was_paused = False

    def begin_rest(self) -> None:
        """Ends the canary: its outcomes took as long as the watching, and say nothing of others."""
        self.canary = 0
        self._meter.restart(self._clock(), self.stats.total)

    def record_outcome(self) -> None:
        self._last_outcome_at = self._clock()
        self._meter.add(self._last_outcome_at, self.stats.total)

    @property
    def is_paused(self) -> bool:
        return self.find_pause() is not None

    def describe(self) -> str:
        """Returns the line without the numbers of rows."""
        pause, now = self.find_pause(), self._clock()
        if self._was_paused and pause is None:
            self._meter.restart(now, self.stats.total)
        self._was_paused = pause is not None
        counts = self.stats.format_counts("state") or self.stats.format_counts("verdict")
        state = self._describe_state(pause, now)
        words = [state, counts] if state else [counts, self._describe_pace(now)]
        return "; ".join(filter(None, words))

    def _describe_state(self, pause: PauseStatus | None, now: float) -> str:
        """Returns what is special now; empty if the batch just goes on."""
        if self.interrupted:
            return f"interrupted, {self.open_rows:,} awaited"
        if pause is not None:
            return _describe_pause(pause, now)
        if self.canary:
            stopped = self.stats.count(state="stopped")
            return f"canary: {stopped:,} of {self.canary:,} seen to stop"
        silent = now - self._last_outcome_at
        return f"no outcome for {silent:.0f} s" if silent >= _SILENCE and self.open_rows else ""

    def _describe_pace(self, now: float) -> str:
        """Returns the rate, that which Thor allows if it is known, and the time left."""
        done = self.stats.total
        left, measured = self.total - done, self._meter.rate(now, done)
        if self.spread_ends_at is not None:
            return f"spread, {format_duration(max(self.spread_ends_at - now, 0.0))} left"
        allowed = self.allowed.rate
        if allowed is not None:
            rate, said = allowed, f"Thor allows about {format_rate(allowed)} a second:"
        elif measured:
            rate, said = measured, f"{measured:,.1f}/s,"
        else:
            return ""
        if not left:
            return said.rstrip(",:")
        slowest = min(rate, self._max_rate or math.inf)
        return f"{said} {format_duration(left / slowest)} left"


def _describe_pause(pause: PauseStatus, now: float) -> str:
    since = datetime.now(UTC).timestamp() - (now - pause.failing_since)
    at = datetime.fromtimestamp(since, UTC).astimezone().strftime("%H:%M:%S")
    told = [f"Thor has not answered since {at} ({format_duration(now - pause.failing_since)})"]
    if pause.probe_at is None:
        told.append("probing now")
    else:
        told.append(f"next probe in {max(pause.probe_at - now, 0.0):.0f} s")
    if pause.gives_up_at < math.inf:
        told.append(f"gives up in {max(pause.gives_up_at - now, 0.0):.0f} s")
    return ", ".join(told)
