"""The command line as text, for journals and reports."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from .output.printable import printable

# Greedy: a password may hold an @, too.
_USER = re.compile(r"://\S*@")
_QUERY = re.compile(r"(://[^?#]*[?#]).+")


def describe_command(argv: Sequence[str]) -> str:
    """Returns the command as one line without secrets: a proxy's address may have a password."""
    return shlex.join(["thor-async", *(_mask(printable(argument)) for argument in argv)])


def _mask(argument: str) -> str:
    return _QUERY.sub(r"\g<1>***", _USER.sub("://***@", argument))
