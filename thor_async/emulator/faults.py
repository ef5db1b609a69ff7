"""The faults that stop requests meet by chance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from .probabilities import check_chances, check_probability, check_range, draw
from .scripted_answers import ERRORS, REFUSALS, ScriptedAnswer

if TYPE_CHECKING:
    import random

_FAULTS = {
    "error_before": ERRORS,
    "error_after": (msgspec.structs.replace(REFUSALS["InternalServerError"], effect=True),),
    "drop_before": (ScriptedAnswer(drop=True),),
    "drop_after": (ScriptedAnswer(drop=True, effect=True),),
    "throttle": (ScriptedAnswer(503, headers={"Retry-After": "1"}),),
}


class Faults(msgspec.Struct, frozen=True):
    """How often a stop request meets which fault, as probabilities from 0 to 1.

    `error_before` and `drop_before` strike before anything is checked or done; `error_after` and
    `drop_after` only in place of the 200 of a stop that was handed to its chargebox. An error is a
    500 `InternalServerError`, before the effect also a 502 or 503 without a code; a drop aborts the
    connection; `throttle` is a 503 with `Retry-After: 1`. `latency` is the range, in seconds, from
    which every request's own delay is drawn: it passes after receipt, before anything else.
    """

    error_before: float = 0.0
    error_after: float = 0.0
    drop_before: float = 0.0
    drop_after: float = 0.0
    throttle: float = 0.0
    latency: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def spread(cls, p: float) -> Faults:
        """The probability `p`, split evenly over errors and drops, before and after the effect."""
        check_probability("p", p)
        return cls(error_before=p / 4, error_after=p / 4, drop_before=p / 4, drop_after=p / 4)

    def __post_init__(self) -> None:
        check_chances(self._chances())
        check_range("latency", self.latency)

    def _chances(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in _FAULTS}

    def pick(self, dice: random.Random) -> ScriptedAnswer | None:
        """The fault that the next stop request meets, if any."""
        name = draw(dice, self._chances())
        return dice.choice(_FAULTS[name]) if name else None
