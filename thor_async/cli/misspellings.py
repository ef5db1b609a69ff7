"""Finds what a misspelled command or option was meant to be.

No message shows a word that is not near a right one: it may be an id_tag or a key.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

_OPTION = re.compile(r"--?[A-Za-z][A-Za-z_-]*")


def find_misspelled_command(argv: Sequence[str], commands: Iterable[str]) -> str | None:
    """Returns the problem with the first argument if it is no command, else None."""
    names = list(commands)
    word = argv[0] if argv else "-"
    if word.startswith("-") or word in names:
        return None
    near = difflib.get_close_matches(word.lower().replace("_", "-"), names, 1)
    if near:
        return f"no command {word}: did you mean {near[0]}?"
    return f"no such command: choose from {', '.join(names)}"


def find_misspelled_option(argv: Sequence[str], options: Iterable[str]) -> str | None:
    """Returns the problem with the first argument that is near an option, but is none, else None.

    `options` are those of the command.
    """
    names = set(options)
    for argument in argv:
        word = argument.partition("=")[0]
        if argument == "--":
            return None
        if _OPTION.fullmatch(word) and word not in names:
            near = difflib.get_close_matches(f"--{word.strip('-').lower()}", names, 1)
            shown = f"no option {word}" if word.startswith("--") else "an option has two dashes"
            if near:
                return f"{shown}: did you mean {near[0]}?"
    return None


def describe_unknown(unknown: Sequence[str]) -> str:
    """Returns an error without these arguments."""
    if any(argument.startswith("--") for argument in unknown):
        return f"no such option, or too many arguments ({len(unknown)})"
    return f"too many arguments ({len(unknown)}): quote arguments with blanks"
