"""Random faults of stop requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from .answers import ERRORS, REFUSALS, ScriptedAnswer
from .probabilities import check_probabilities, check_probability, check_range, draw

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
    """The probability of each fault of a stop request, from 0 to 1, and the latency of requests.

    `error_before` and `drop_before` occur before the request is checked. `error_after` and
    `drop_after` replace the 200 of a stop that was relayed to its chargebox. An error is a 500
    `InternalServerError`; before the effect it may also be a 502 or 503 without a code. A drop
    aborts the connection. `throttle` is a 503 with `Retry-After: 1`. The latency of every request
    is drawn from the range `latency`, in seconds; it passes right after the receipt. Raises
    ValueError for bad values.
    """

    error_before: float = 0.0
    error_after: float = 0.0
    drop_before: float = 0.0
    drop_after: float = 0.0
    throttle: float = 0.0
    latency: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def spread(cls, p: float) -> Faults:
        """Splits the probability `p` evenly over errors and drops, before and after the effect."""
        check_probability("p", p)
        return cls(error_before=p / 4, error_after=p / 4, drop_before=p / 4, drop_after=p / 4)

    def __post_init__(self) -> None:
        check_probabilities(self._probabilities())
        check_range("latency", self.latency)

    def _probabilities(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in _FAULTS}

    def pick(self, rng: random.Random) -> ScriptedAnswer | None:
        """Draws the fault of the next stop request, or None."""
        name = draw(rng, self._probabilities())
        return rng.choice(_FAULTS[name]) if name else None
