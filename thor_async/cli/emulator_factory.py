"""Makes the emulator of `demo` and `emulate`. It is slow to import, so only these import it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

import msgspec

from thor_async import StopCharge
from thor_async.emulator import Behaviour, Faults, RateLimits, ThorEmulator

from .errors import UsageError

LATENCY = (0.001, 0.02)


def make_emulator(
    commands: Sequence[StopCharge],
    *,
    port: int = 0,
    faults: float = 0.0,
    seed: int = 0,
    latency: tuple[float, float] = LATENCY,
    rate: tuple[float, int | None] | None = None,
    retry_after: int | Literal["next-token"] | None = None,
    refuse: float = 0.0,
    offline: float = 0.0,
) -> ThorEmulator:
    """Makes an emulator in which the charges of these commands run.

    `faults` and `refuse` are the probabilities of a fault and of a refusal by the chargebox,
    `offline` is the share of chargeboxes that are offline; `rate` is the rate limit and its burst.
    Raises UsageError for settings that cannot be used.
    """
    try:
        settings = msgspec.structs.replace(Faults.spread(faults), latency=latency)
        limits = RateLimits(*rate, retry_after=retry_after) if rate else None
        emulator = ThorEmulator(port=port, faults=settings, seed=seed, limits=limits)
    except ValueError as error:
        raise UsageError(str(error)) from None
    _fill(emulator, commands)
    emulator.behaviours[None] = Behaviour(refuses=refuse)
    dice = random.Random(f"offline {seed}")  # noqa: S311 - which ones are offline is no secret
    for chargebox in emulator.chargeboxes:
        if dice.random() < offline:
            emulator.go_offline(chargebox)
    return emulator


def add_aliases(emulator: ThorEmulator, commands: Sequence[StopCharge], column: str) -> None:
    """Names the chargeboxes by a column of their rows. Raises UsageError if no row has it."""
    for command in commands:
        alias = command.ref.get(column) if isinstance(command.ref, dict) else None
        if alias:
            emulator.aliases[command.chargebox] = str(alias)
    if not emulator.aliases:
        names = {name: None for c in commands if isinstance(c.ref, dict) for name in c.ref}
        found = f"its other columns are {', '.join(map(repr, names))}" if names else "it has none"
        raise UsageError(f"--alias {column!r} is no column of --fleet with an alias: {found}")


def _fill(emulator: ThorEmulator, commands: Sequence[StopCharge]) -> None:
    places: dict[tuple[str, int], StopCharge] = {}
    for command in commands:
        other = places.setdefault((command.chargebox, command.connector), command)
        if other is not command:
            raise UsageError(
                f"--fleet has two charges at chargebox {command.chargebox!r} connector "
                f"{command.connector}: a connector has one, so remove the other row"
            )
    emulator.fill(commands)
