"""Finds the encoding of a file: UTF-8, or what spreadsheets write in its place."""

from __future__ import annotations

import codecs
from typing import NamedTuple

from ..errors import UsageError

# The mark of UTF-32-LE begins with that of UTF-16-LE.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
_WINDOWS = "cp1252"


class Encoding(NamedTuple):
    """How the bytes of a file are to be read: after `mark`, by `codec`."""

    codec: str
    mark: bytes = b""
    line: int = 0
    """The first line that is not UTF-8, if the codec is a guess."""

    def to_utf_8(self, content: bytes) -> bytes:
        """Returns the text without the mark."""
        text = content.removeprefix(self.mark)
        return text if self.codec == "utf-8" else text.decode(self.codec).encode()

    def from_utf_8(self, text: bytes) -> bytes:
        """Returns the bytes of the file again."""
        return self.mark + (text if self.codec == "utf-8" else text.decode().encode(self.codec))

    def warnings(self, name: str) -> list[str]:
        """Returns a warning if the codec is a guess."""
        if self.codec != _WINDOWS:
            return []
        return [
            f"{name} line {self.line}: not UTF-8, read as Windows-1252: look at its names, or save "
            "it as CSV in UTF-8"
        ]


def find_encoding(name: str, content: bytes) -> Encoding:
    """Returns the encoding. Raises UsageError for bytes that are text in none of those known."""
    if content.startswith(_WORKBOOKS):
        raise UsageError(f"{name} is a workbook: save it as CSV in UTF-8")
    mark, codec = next((found for found in _MARKS if content.startswith(found[0])), (b"", ""))
    codec = codec or _find_wide(content[:2]) or "utf-8"
    bad = _find_bad_byte(content.removeprefix(mark), codec)
    if bad is None:
        return Encoding(codec, mark)
    line = content.count(b"\n", 0, len(mark) + bad) + 1
    # With other characters in UTF-8, the bytes are damaged, and not in another encoding.
    is_other = codec == "utf-8" and not mark and content.decode(errors="ignore").isascii()
    if is_other and _find_bad_byte(content, _WINDOWS) is None:
        return Encoding(_WINDOWS, line=line)
    raise UsageError(f"{name} line {line}: not {codec.upper()}: save it as CSV in UTF-8")


def _find_wide(start: bytes) -> str | None:
    """Returns UTF-16 if one of the first two bytes is zero: the first character is ASCII."""
    if len(start) < 2 or 0 not in start:
        return None
    return "utf-16-be" if start[0] == 0 else "utf-16-le"


def _find_bad_byte(content: bytes, codec: str) -> int | None:
    """Returns the place of the first byte that the codec cannot read, or None."""
    try:
        content.decode(codec)
    except UnicodeDecodeError as error:
        # Only the place: the error itself holds the whole content.
        return error.start
    return None
