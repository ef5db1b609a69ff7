"""The journal of a batch without `--output`, and the command that continues a run."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

_PATTERN = "thor-stops-*.jsonl"


def choose_journal(file: str | None) -> str:
    """Returns a new name beside the file, or in this folder for standard input."""
    folder = _find_folder(file)
    stem = f"thor-stops-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    names = (f"{stem}{f'-{number}' if number else ''}.jsonl" for number in count())
    return str(next(folder / name for name in names if not (folder / name).exists()))


def find_last_journal(file: str | None) -> str | None:
    """Returns the newest journal that a run without `--output` has written beside this file."""
    journals = sorted(_find_folder(file).glob(_PATTERN))
    return str(journals[-1]) if journals else None


def format_continue_command(args: argparse.Namespace, journal: str) -> str:
    """Returns the command that continues a run, ready to be pasted.

    No secret is in it: a proxy with a password is left for the user to fill in.
    """
    file = [] if args.file in {None, "-"} else [args.file]
    words = ["thor-async", "stop-many", *file, "--output", journal, "--resume"]
    return shlex.join([*words, *_repeat_options(args)])


def _repeat_options(args: argparse.Namespace) -> Iterator[str]:
    for name in _VALUES:
        value = getattr(args, _DESTINATIONS.get(name, name), None)
        if value:
            text = f"{value:g}" if isinstance(value, float) else str(value)
            yield from (
                f"--{name.replace('_', '-')}",
                "URL" if name == "proxy" and "@" in text else text,
            )
    for name in _FLAGS:
        if getattr(args, name, False):
            yield f"--{name.replace('_', '-')}"


def _find_folder(file: str | None) -> Path:
    return Path() if file in {None, "-"} else Path(str(file)).parent


_VALUES = (
    *("base_url", "read_url", "proxy", "api_key_file", "wait", "ensure", "rate"),
    *("max_in_flight", "attempts", "canary", "over", "spread", "report", "at_most", "operator"),
)
_DESTINATIONS = {"rate": "max_rate"}
_FLAGS = ("pin", "skip_bad", "no_lock", "go_on", "quiet", "yes")
"""Options that the next run needs as well; `--within` was for this one."""
