"""Questions to the person at the terminal: the API key, and whether a batch may go on."""

from __future__ import annotations

import asyncio
import getpass
import io
import os
from collections.abc import Callable
from typing import TextIO

from .errors import UsageError

TERMINAL = "/dev/tty"
_KEY_CURE = "set THOR_API_KEY, or give --api-key-file"


def ask_for_key() -> str:
    """Asks for the API key without showing it. Raises UsageError without a terminal."""
    _open_terminal("no API key", _KEY_CURE).close()
    try:
        return getpass.getpass("Thor's API key: ")
    except EOFError:
        raise UsageError(f"no API key: {_KEY_CURE}") from None


def ask_for_count(address: str, charges: int, count_chargeboxes: Callable[[], int]) -> None:
    """Asks for the number of charges of a batch, and raises UsageError for any other answer."""
    cure = "give --yes --at-most COUNT to stop the charges without this question"
    with _open_terminal("no terminal to ask on", cure) as terminal:
        print(
            f"This stops {charges:,} charges at {count_chargeboxes():,} chargeboxes through "
            f"{address}.\nType the number of charges to continue: ",
            end="",
            file=terminal,
            flush=True,
        )
        answer = terminal.readline().strip().replace(",", "")
    if answer != str(charges):
        raise UsageError("nothing was sent: the answer was not the number of charges")


async def ask_to_go_on(question: str, interrupted: asyncio.Event) -> bool:
    """Returns whether the answer is yes; no without a terminal, or when a signal came first."""
    try:
        terminal = _open_terminal("", "")
    except UsageError:
        return False
    loop = asyncio.get_running_loop()
    is_typed = asyncio.Event()
    with terminal:
        print(f"{question} Type yes to go on: ", end="", file=terminal, flush=True)
        # Not in a thread: a signal could not end its wait for a line.
        loop.add_reader(terminal.fileno(), is_typed.set)
        waits = [asyncio.create_task(event.wait()) for event in (is_typed, interrupted)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            loop.remove_reader(terminal.fileno())
            for wait in waits:
                wait.cancel()
        return is_typed.is_set() and terminal.readline().strip().casefold() == "yes"


def _open_terminal(problem: str, cure: str) -> TextIO:
    """Opens the terminal itself: standard input may be the file, standard output the outcomes."""
    try:
        return io.TextIOWrapper(io.FileIO(os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY), "w+"))
    except OSError:
        raise UsageError(f"{problem}: {cure}") from None
