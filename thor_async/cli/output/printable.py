"""Text and JSON of which no character can move the cursor or hide on a terminal."""

from __future__ import annotations

import re
from typing import Any

import msgspec

_UNSAFE = re.compile(r"[^\x20-\x7e]")


def printable(text: str) -> str:
    """Escapes what is not printable, as Python does: an escape character becomes `\\x1b`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def encode_line(value: Any) -> bytes:
    """Returns a line of JSON in which all that is not printable is escaped.

    JSON itself demands that only below U+0020, and a terminal also obeys some characters above it.
    """
    line = msgspec.json.encode(value)
    if not line.isascii() or b"\x7f" in line:
        line = _UNSAFE.sub(_escape, line.decode()).encode()
    return line + b"\n"


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    if character.isprintable():
        return character
    units = character.encode("utf-16-be").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
