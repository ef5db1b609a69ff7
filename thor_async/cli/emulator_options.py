"""The options of `emulate`, and the types of their values."""

from __future__ import annotations

import argparse

from .input.row_parsers import parse_integer


def add_emulate_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--port", type=int, default=0, metavar="P", help="port to listen on (0: any free one)")
    add("--fleet", metavar="FILE.csv", help="charges that run from the start")
    add(
        "--rate",
        type=_rate,
        metavar="N[/BURST]",
        help="answer 429 to what exceeds N requests per second and the burst (N)",
    )
    add(
        "--retry-after",
        type=_retry_after,
        metavar="SECONDS",
        help="the Retry-After of each 429, or next-token: the true time (default: none)",
    )


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
