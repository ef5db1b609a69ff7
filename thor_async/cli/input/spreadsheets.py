"""What spreadsheets do to identifiers, and the mark that keeps a text from them.

A spreadsheet takes a cell that begins with `=` for a formula, and this reader strips and refuses
cells. Such a text is written behind an apostrophe, with a second one at its end if it ends with a
blank or an apostrophe: `mark` writes it, and `find_marked` reads exactly that text.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections import Counter

BLANKS = " \t\r\n"
"""What is stripped from a text cell. Other blanks cannot be seen, and are refused."""

# OWASP, "CSV Injection": these begin a formula, some after the program has removed them.
_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
_NO_VALUE = {"nan", "nat", "null", "none", "undefined"}
_PLAIN = re.compile(r"(?!-?\d+[Ee]-)[A-Za-z0-9_-]*")
"""Most identifiers: the other patterns need not be tried."""
_CURLY = "\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u00ab\u00bb"
_AS_TEXT = "format the column as text and enter it again"
_DAMAGES = (
    (re.compile(r"-?\d+(?:[.,]\d+)?[Ee][+-]\d+"), f"is a number that was rounded: {_AS_TEXT}"),
    (re.compile(r"\d+[.,]0+"), f"is a number with decimals: {_AS_TEXT}"),
    (re.compile(r'=".*"', re.DOTALL), "is a formula: keep only what is between its quotes"),
    (re.compile(r"#[A-Z/0]+[!?]?|<NA>|[Nn]/[Aa]"), "is a word for a missing value: enter it"),
    (re.compile(r"'\d+|'.*'", re.DOTALL), "begins with an apostrophe: remove it"),
    (re.compile(f"[{_CURLY}].*|.*[{_CURLY}]", re.DOTALL), "has typographic quotes: remove them"),
)


def find_damage(text: str) -> str | None:
    """Returns what a spreadsheet probably did to an identifier, with the cure, or None.

    The answer does not show the text.
    """
    if _PLAIN.fullmatch(text):
        is_word = text.isalpha() and text.lower() in _NO_VALUE
        return "is a word for a missing value: enter it" if is_word else None
    for pattern, damage in _DAMAGES:
        if pattern.fullmatch(text):
            return damage
    if not text.isprintable() or "\ufffd" in text:
        for character in text:
            if character == "\ufffd":
                return "has U+FFFD in place of a character that was lost: enter it again"
            if _is_invisible(character):
                return f"has U+{ord(character):04X}, which cannot be seen: remove it"
    return None


def mark(text: str) -> str:
    """Returns the cell for a text, so that it is no formula and is read as it is."""
    if not _needs_mark(text):
        return text
    return f"'{text}'" if _needs_end(text) else f"'{text}"


def find_marked(cell: str) -> str | None:
    """Returns the text of a cell that `mark` has marked, or None for any other cell."""
    if "'" not in cell:
        return None
    cell = cell.strip(BLANKS)
    if not cell.startswith("'"):
        return None
    has_end = len(cell) > 1 and cell.endswith("'")
    text = cell[1:-1] if has_end else cell[1:]
    return text if _needs_mark(text) and _needs_end(text) == has_end else None


class LeadingZeros:
    """Finds numbers that are shorter than those with a leading zero in the same column.

    A number needs nine bytes.
    """

    def __init__(self) -> None:
        self._with_zero: Counter[int] = Counter()
        self._lines, self._lengths = array("Q"), array("B")

    def add(self, text: str, line: int) -> None:
        if not (text.isdigit() and text.isascii()):
            return
        if text[0] == "0" and len(text) > 1:
            self._with_zero[len(text)] += 1
        else:
            self._lines.append(line)
            self._lengths.append(min(len(text), 255))

    def find_short(self) -> list[int]:
        """Returns the lines of the numbers that have probably lost a zero."""
        if not self._with_zero:
            return []
        ((length, _),) = self._with_zero.most_common(1)
        pairs = zip(self._lines, self._lengths, strict=True)
        return [line for line, digits in pairs if digits < length]


def _needs_mark(text: str) -> bool:
    """Returns whether a cell with this text would be a formula, stripped, refused, or marked."""
    if _is_changed(text):
        return True
    apostrophes = len(text) - len(text.lstrip("'"))
    # What begins with an apostrophe is taken for marked if the rest needs a mark. Behind more of
    # them, only the last one and what follows it can differ from the text as a whole.
    return any(_is_changed(text[at:]) for at in {apostrophes - 1, apostrophes} if at > 0)


def _is_changed(text: str) -> bool:
    is_stripped = text != text.strip(BLANKS)
    return is_stripped or text.startswith(_FORMULA) or find_damage(text) is not None


def _needs_end(text: str) -> bool:
    return text.endswith("'") or text != text.strip(BLANKS)


def _is_invisible(character: str) -> bool:
    category = unicodedata.category(character)
    return category == "Cf" or (category == "Zs" and character != " ")
