"""The list of running charges, true or not."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import msgspec

from .charges import Charge
from .probabilities import check_chances, check_range, draw
from .scripted_answers import ERRORS, ScriptedAnswer, json_answer

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Mapping

_LIES = ("cut", "broken", "empty", "foreign", "error")
_REMEMBERED = 10_000


class Lists(msgspec.Struct, frozen=True):
    """How the list of running charges lies; by default it does not.

    `lag` is the range of seconds from which each answer's own is drawn: it shows the state of that
    long ago, at most 10,000 starts and ends back. The others are probabilities from 0 to 1, of
    which at most one strikes: `cut`, fewer items than the `count`; `broken`, JSON cut in the middle
    of a whole HTTP answer; `empty`, a count of 0; `foreign`, another account's charges only;
    `error`, a 500, 502 or 503. Raises ValueError for bad ones.
    """

    lag: tuple[float, float] = (0.0, 0.0)
    cut: float = 0.0
    broken: float = 0.0
    empty: float = 0.0
    foreign: float = 0.0
    error: float = 0.0

    def __post_init__(self) -> None:
        check_range("lag", self.lag)
        check_chances(self._chances())

    def _chances(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in _LIES}

    def pick(self, dice: random.Random) -> str | None:
        """The lie that the next answer is, if any."""
        return draw(dice, self._chances())


class History:
    """The last starts and ends, so that the running charges of a moment ago can be told."""

    def __init__(self) -> None:
        self._events: deque[tuple[float, Charge, bool]] = deque(maxlen=_REMEMBERED)

    def started(self, at: float, charge: Charge) -> None:
        self._events.append((at, charge, True))

    def ended(self, at: float, charge: Charge) -> None:
        self._events.append((at, charge, False))

    def running(self, moment: float, now: Mapping[tuple[str, int], Charge]) -> Iterable[Charge]:
        """What ran at `moment`, given what runs now."""
        running = dict(now)
        for at, charge, is_start in reversed(self._events):
            if at <= moment:
                break
            if is_start:
                running.pop(charge.place, None)
            else:
                running[charge.place] = charge
        return running.values()


def running_list(
    charges: Iterable[Charge], wanted: str | None, lie: str | None, dice: random.Random
) -> ScriptedAnswer:
    """The answer that lists these charges, or those of one chargebox, with that lie."""
    if lie == "error":
        return dice.choice(ERRORS)
    if lie == "empty":
        charges = ()
    elif lie == "foreign":
        charges = [_foreign(number) for number in range(dice.randint(1, 9))]
    items = [charge.item() for charge in charges if wanted in (None, charge.chargebox)]
    shown = items[: dice.randrange(len(items))] if lie == "cut" and items else items
    answer = json_answer({"count": len(items), "items": shown, "users": {}})
    if lie == "broken":
        body = answer.body[: dice.randrange(1, len(answer.body))]
        return msgspec.structs.replace(answer, body=body)
    return answer


def _foreign(number: int) -> Charge:
    """A charge whose transaction no charge of ours is likely to have."""
    started = 1_700_000_000_000
    return Charge(
        f"foreign-{number}", 1, f"foreign-tag-{number}", 10**12 + number, "local", started
    )
