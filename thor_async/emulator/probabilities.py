"""Probabilities and ranges of seconds: checked when they are given, drawn when they are needed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping


def check_probability(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name}={value} is no probability: give a number from 0 to 1")


def check_chances(chances: Mapping[str, float]) -> None:
    """Of things that exclude each other."""
    for name, chance in chances.items():
        check_probability(name, chance)
    if (total := math.fsum(chances.values())) > 1:
        raise ValueError(f"the probabilities sum to {total}: lower them to at most 1 in all")


def check_range(name: str, value: tuple[float, float]) -> None:
    shortest, longest = value
    if not 0 <= shortest <= longest < math.inf:
        raise ValueError(f"{name} {value} is no range: give two numbers of seconds")


def draw(dice: random.Random, chances: Mapping[str, float]) -> str | None:
    """At most one of these things, with one throw."""
    roll = dice.random()
    for name, chance in chances.items():
        roll -= chance
        if roll < 0:
            return name
    return None
