"""The types of the values of options: each error says what to give instead."""

from __future__ import annotations

import argparse
import math
from datetime import datetime

import msgspec

from .input.row_parsers import parse_integer

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST = 3650 * _UNITS["d"]
_HIGHEST_PORT = 65_535


def integer(text: str) -> int:
    """Parses an integer; unlike `int`, the error does not show a value that may be an id_tag."""
    number = parse_integer(text)
    if number is None:
        raise argparse.ArgumentTypeError("must be a whole number")
    return number


def count(text: str) -> int:
    number = integer(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def port(text: str) -> int:
    number = integer(text)
    if not 0 <= number <= _HIGHEST_PORT:
        raise argparse.ArgumentTypeError(f"must be from 0 to {_HIGHEST_PORT}")
    return number


def seconds(text: str) -> float:
    number = _number(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError("must be a number of seconds, more than 0")
    return number


def energy(text: str) -> float:
    number = _number(text)
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError("must be a number of Wh, such as 5000")
    return number


def probability(text: str) -> float:
    number = _number(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError("must be a probability: a number from 0 to 1, such as 0.2")
    return number


def duration(text: str) -> float:
    """Parses a number of seconds, or one with the unit s, m, h or d."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
    length = _number(number) * _UNITS[unit]
    if not 0 < length < math.inf:
        raise argparse.ArgumentTypeError("must be like 90s, 30m, 12h or 2d")
    if length > _LONGEST:
        raise argparse.ArgumentTypeError("must be at most 3650d")
    return length


def name(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("must not be empty")
    return text.strip()


def timestamp(text: str) -> datetime:
    try:
        time = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        time = None
    if time is None or time.tzinfo is None:
        raise argparse.ArgumentTypeError("must be a time with its offset: 2026-01-31T18:00:00Z")
    return time


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
