"""The list of running charges: its history, and its random faults."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import msgspec

from .answers import ERRORS, ScriptedAnswer, json_answer
from .charges import Charge
from .probabilities import check_probabilities, check_range, draw

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Mapping

_FAULTS = ("cut", "broken", "empty", "foreign", "error", "partial")
_MAX_EVENTS = 10_000


class Lists(msgspec.Struct, frozen=True):
    """The faults of the list of running charges; by default it has none.

    The lag of each answer is drawn from the range `lag`, in seconds: the list then shows the state
    of that time ago, at most 10,000 starts and ends back. The others are probabilities from 0 to 1;
    an answer has at most one of these faults. `cut`: fewer items than the `count`. `broken`: JSON
    that ends in the middle, in a complete HTTP answer. `empty`: a count of 0. `foreign`: only
    charges of another account. `error`: a 500, 502 or 503. `partial`: some charges are left out,
    and the `count` agrees with the rest. Raises ValueError for bad values.
    """

    lag: tuple[float, float] = (0.0, 0.0)
    cut: float = 0.0
    broken: float = 0.0
    empty: float = 0.0
    foreign: float = 0.0
    error: float = 0.0
    partial: float = 0.0

    def __post_init__(self) -> None:
        check_range("lag", self.lag)
        check_probabilities(self._probabilities())

    def _probabilities(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in _FAULTS}

    def pick(self, rng: random.Random) -> str | None:
        """Draws the fault of the next answer, or None."""
        return draw(rng, self._probabilities())


class History:
    """Keeps the last starts and ends, to compute which charges ran at an earlier time."""

    def __init__(self) -> None:
        self._events: deque[tuple[float, Charge, float | None]] = deque(maxlen=_MAX_EVENTS)

    def add_start(self, at: float, charge: Charge, age: float) -> None:
        """Adds a charge that is added at `at`, and began `age` seconds before."""
        self._events.append((at, charge, at - age))

    def add_end(self, at: float, charge: Charge) -> None:
        self._events.append((at, charge, None))

    def running_at(
        self, time: float, charges: Mapping[tuple[str, int], Charge]
    ) -> Iterable[Charge]:
        """Returns the charges that ran at `time`. `charges` are those that run now."""
        running = dict(charges)
        for at, charge, began in reversed(self._events):
            if at <= time:
                break
            if began is None:
                running[charge.place] = charge
            elif began > time:
                running.pop(charge.place, None)
        return running.values()


def running_list(
    charges: Iterable[Charge], chargebox: str | None, fault: str | None, rng: random.Random
) -> ScriptedAnswer:
    """Returns the list of `charges` as an answer, filtered by `chargebox`, with `fault`."""
    if fault == "error":
        return rng.choice(ERRORS)
    if fault == "empty":
        charges = ()
    elif fault == "foreign":
        charges = [_foreign_charge(number) for number in range(rng.randint(1, 9))]
    items = [charge.item() for charge in charges if chargebox in (None, charge.chargebox)]
    if fault == "partial" and items:
        items = rng.sample(items, rng.randrange(len(items)))
    listed = items[: rng.randrange(len(items))] if fault == "cut" and items else items
    answer = json_answer({"count": len(items), "items": listed, "users": {}})
    if fault == "broken":
        body = answer.body[: rng.randrange(1, len(answer.body))]
        return msgspec.structs.replace(answer, body=body)
    return answer


def _foreign_charge(number: int) -> Charge:
    """Returns a charge whose transaction is far above those of the emulator's own charges."""
    date_started = 1_700_000_000_000
    return Charge(
        f"foreign-{number}", 1, f"foreign-tag-{number}", 10**12 + number, "local", date_started
    )
