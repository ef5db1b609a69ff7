"""The option for the rate limit of an account."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from functools import partial

_HELP = "your rate limit: requests that may begin in a second, retries included (default: learnt)"


def add_rate_option(
    add: Callable[..., object], name: str = "--rate", *, shows_value: bool = True
) -> None:
    """Adds the option by `add`. The client of a command with it sends a 429 again.

    `shows_value`: whether an error may show the value.
    """
    parse = partial(_parse_rate, shows_value=shows_value)
    add(name, dest="max_rate", type=parse, metavar="PER_SECOND", help=_HELP)


def _parse_rate(text: str, *, shows_value: bool) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 < rate < math.inf:
        value = f"{text!r} is no rate" if shows_value else "that is no rate"
        raise argparse.ArgumentTypeError(f"{value}: give requests a second, such as 20")
    return rate
