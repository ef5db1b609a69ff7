"""What stands between a person's mistake and many stops."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from .errors import UsageError
from .terminal import ask_for_count


def check_count(
    args: argparse.Namespace,
    count: int,
    address: str,
    count_chargeboxes: Callable[[], int],
    *,
    is_local: bool,
) -> None:
    """Raises UsageError for too many charges, or if the number is not typed on the terminal.

    The question is left out with `--yes`, and for an address on this machine (`is_local`).
    """
    if args.at_most is not None and count > args.at_most:
        raise UsageError(
            f"{count:,} charges are more than --at-most {args.at_most:,}: check what is selected, "
            "or give a higher number"
        )
    if count and not args.yes and not is_local:
        ask_for_count(address, count, count_chargeboxes)
