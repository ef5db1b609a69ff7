"""Checks probabilities and ranges of seconds, and draws from probabilities."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping


def check_probability(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name}={value} is no probability: give a number from 0 to 1")


def check_probabilities(probabilities: Mapping[str, float]) -> None:
    """Checks the probabilities of events that exclude each other."""
    for name, probability in probabilities.items():
        check_probability(name, probability)
    if (total := math.fsum(probabilities.values())) > 1:
        raise ValueError(f"the probabilities sum to {total}: lower them to at most 1 in all")


def check_range(name: str, value: tuple[float, float]) -> None:
    shortest, longest = value
    if not 0 <= shortest <= longest < math.inf:
        raise ValueError(f"{name} {value} is no range: give two numbers of seconds")


def draw(rng: random.Random, probabilities: Mapping[str, float]) -> str | None:
    """Draws at most one of the events, with a single random number."""
    remainder = rng.random()
    for name, probability in probabilities.items():
        remainder -= probability
        if remainder < 0:
            return name
    return None
