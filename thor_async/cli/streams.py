"""The standard streams: UTF-8 where they are not a terminal, and null devices for closed ones."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Literal, TextIO


def prepare_streams() -> None:
    """Makes every text writable, and opens what the caller has closed (`>&-`).

    A standard output that was closed stays not `writable()`, and the null device holds its number:
    the next file that is opened does not become the standard output.
    """
    # In the order of their numbers, because a new file gets the lowest number that is free.
    if sys.stdin is None:
        sys.stdin = _open_null("r")
    if sys.stdout is None:
        sys.stdout = _open_null("r")
    if sys.stderr is None:
        sys.stderr = _open_null("w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal shows what its encoding lacks as escapes; what reads a pipe expects UTF-8.
            encoding = None if stream.isatty() else "utf-8"
            newline = None if stream.isatty() else "\n"
            stream.reconfigure(encoding=encoding, errors="backslashreplace", newline=newline)


def discard(stream: TextIO) -> None:
    """Sends the rest of the buffer to the null device, so that the interpreter exits quietly."""
    null = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError):
        os.dup2(null, stream.fileno())
    os.close(null)


def _open_null(mode: Literal["r", "w"]) -> TextIO:
    return open(os.devnull, mode, encoding="utf-8")
