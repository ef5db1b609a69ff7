"""Makes the emulator of `demo` and `emulate`. It is slow to import, so only these import it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from thor_async import StopCharge
from thor_async.emulator import Faults, RateLimits, ThorEmulator

from .errors import UsageError

_LATENCY = (0.001, 0.02)


def make_emulator(
    commands: Sequence[StopCharge],
    *,
    port: int = 0,
    faults: float = 0.0,
    seed: int = 0,
    rate: tuple[float, int | None] | None = None,
    retry_after: int | Literal["next-token"] | None = None,
) -> ThorEmulator:
    """Makes an emulator in which the charges of these commands run.

    `faults` is the probability of a fault; `rate` is the rate limit and its burst. Raises
    UsageError for settings that cannot be used.
    """
    try:
        settings = msgspec.structs.replace(Faults.spread(faults), latency=_LATENCY)
        limits = RateLimits(*rate, retry_after=retry_after) if rate else None
        emulator = ThorEmulator(port=port, faults=settings, seed=seed, limits=limits)
        emulator.fill(commands)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return emulator
