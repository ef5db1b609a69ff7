"""The rate that Thor allows, as the events of a client tell it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from thor_async import Event, PaceLowered, PaceRestored

_WHOLE = 10


class AllowedRate:
    """Listens to a client. `rate` is in requests a second, and None while no limit is known.

    `on_change` is called after each change.
    """

    def __init__(self) -> None:
        self.rate: float | None = None
        self.on_change: Callable[[], None] = lambda: None

    def __call__(self, event: Event) -> None:
        if isinstance(event, PaceLowered | PaceRestored):
            self.rate = event.rate
            with suppress(OSError):  # the output may have been closed
                self.on_change()


def format_rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= _WHOLE else f"{rate:.2g}"
