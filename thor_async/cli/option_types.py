"""The types of the values of options."""

from __future__ import annotations

import argparse
import math
from datetime import datetime

import msgspec

from .input import row_parsers

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST = 3650 * _UNITS["d"]
_HIGHEST_PORT = 65_535


def parse_integer(text: str) -> int:
    """Parses an integer; unlike `int`, the error does not show a value that may be an id_tag."""
    number = row_parsers.parse_integer(text)
    if number is None:
        raise argparse.ArgumentTypeError("must be a whole number")
    return number


def parse_count(text: str) -> int:
    number = parse_integer(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def parse_port(text: str) -> int:
    number = parse_integer(text)
    if not 0 <= number <= _HIGHEST_PORT:
        raise argparse.ArgumentTypeError(f"must be from 0 to {_HIGHEST_PORT}")
    return number


def parse_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError("must be a number of seconds, more than 0")
    return seconds


def parse_duration(text: str) -> float:
    """Parses a number of seconds, or one with the unit s, m, h or d."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
    try:
        seconds = parse_seconds(number) * _UNITS[unit]
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError("must be like 90s, 30m, 12h or 2d") from None
    if seconds > _LONGEST:
        raise argparse.ArgumentTypeError("must be at most 3650d")
    return seconds


def parse_time(text: str) -> datetime:
    try:
        time = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        time = None
    if time is None or time.tzinfo is None:
        raise argparse.ArgumentTypeError("must be a time with its offset: 2026-01-31T18:00:00Z")
    return time
