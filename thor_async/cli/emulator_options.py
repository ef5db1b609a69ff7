"""The options of `emulate`, and the types of their values."""

from __future__ import annotations

import argparse
import math

from . import option_types as types
from .completion import completes_files
from .input.row_parsers import parse_integer


def add_emulate_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--port", type=_port, default=0, metavar="PORT", help="port to listen on (any free one)")
    completes_files(add("--fleet", metavar="FILE.csv", help="charges that run from the start"))
    add(
        "--alias",
        metavar="COLUMN",
        help="the column of --fleet that has the alias of each chargebox",
    )
    _add_fault_options(command)
    completes_files(
        add(
            "--ledger",
            metavar="FILE.jsonl",
            help="at the end, write what really happened: each stop request and each charge",
        )
    )


def _add_fault_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument_group("a bad night").add_argument
    add(
        "--latency",
        type=_latency,
        default=(0.001, 0.02),
        metavar="SECONDS[-SECONDS]",
        help="time before each answer, drawn from a range such as 0.1-2 (0.001-0.02)",
    )
    add(
        "--faults",
        type=types.probability,
        default=0.0,
        metavar="PROBABILITY",
        help="probability that a stop meets an error or a dropped connection, half of them after "
        "it has worked (0)",
    )
    add(
        "--refuse",
        type=types.probability,
        default=0.0,
        metavar="PROBABILITY",
        help="probability that a chargebox refuses a stop that Thor has relayed (0)",
    )
    add(
        "--offline",
        type=types.probability,
        default=0.0,
        metavar="PROBABILITY",
        help="share of the chargeboxes that are offline: their stops are relayed and wait (0)",
    )
    add(
        "--rate",
        type=_rate,
        metavar="PER_SECOND[/BURST]",
        help="the rate limit: answer 429 to more requests per second, beyond a burst (as many)",
    )
    add(
        "--retry-after",
        type=_retry_after,
        metavar="SECONDS",
        help="the Retry-After of each 429, or next-token: the true time (default: none)",
    )


def _port(text: str) -> int:
    port = types.integer(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError("give 0 to 65535; 0 is any free port")
    return port


def _latency(text: str) -> tuple[float, float]:
    """Parses a number of seconds, or a range of them."""
    shortest, dash, longest = text.partition("-")
    try:
        bounds = float(shortest), float(longest if dash else shortest)
    except ValueError:
        bounds = math.nan, math.nan
    if not 0 <= bounds[0] <= bounds[1] < math.inf:
        raise argparse.ArgumentTypeError("must be seconds like 0.2, or a range like 0.1-2")
    return bounds


def _rate(text: str) -> tuple[float, int | None]:
    """Parses a rate, and the burst behind a slash; without a slash, the burst is None."""
    rate, slash, burst = text.partition("/")
    try:
        return float(rate), int(burst) if slash else None
    except ValueError:
        raise argparse.ArgumentTypeError(
            "must be like 20 or 20/5: requests per second, and the burst"
        ) from None


def _retry_after(text: str) -> int | str:
    seconds = text if text == "next-token" else parse_integer(text)
    if seconds is None:
        raise argparse.ArgumentTypeError("must be whole seconds, or next-token")
    return seconds
