"""Finds the terminals on which rich can draw."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console


def find_console(file: TextIO) -> Console | None:
    """Returns None for a file, a pipe, and a terminal that cannot move its cursor (TERM=dumb)."""
    if not file.isatty():
        return None
    try:
        from rich.console import Console  # noqa: PLC0415 - slow to import, and optional
    except ImportError:
        return None
    console = Console(file=file)
    return None if console.is_dumb_terminal else console
