"""Makes text from the server safe to log and to show."""

from __future__ import annotations

import re
import unicodedata

from .._models import MASKED

_SHOWN = 200
_SHORTEST_MASKED = 3
_SHORTEST_ANYWHERE = 8
_LETTER, _DIGIT = r"[^\W\d_]", r"\d"
# What follows an escape is a word of its own, although the escape ends in a letter or a digit.
_AFTER_ESCAPE = r"(?<=\\[bfnrt])|(?<=\\u[0-9a-f]{4})|(?<=%[0-9a-f]{2})"


def sanitize(text: str, secrets: tuple[str, ...] = ()) -> str:
    """Masks secrets in the text, escapes control characters, and cuts it at 200 characters.

    One of less than three characters is not masked, and a word or a number of less than eight only
    where it stands alone: it would make holes in the words that say what is wrong.
    """
    # The longest first: a secret may contain another.
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_MASKED:
            text = _mask(text, secret)
    # Cut before the loop, too: escapes only make the text longer.
    text = "".join(c if _is_plain(c) else ascii(c)[1:-1] for c in text[:_SHOWN])
    return text[:_SHOWN]


def _mask(text: str, secret: str) -> str:
    """Masks a secret in any case, because Thor may answer a tag in another one."""
    begin = end = ""
    if len(secret) < _SHORTEST_ANYWHERE and (secret.isalpha() or secret.isdecimal()):
        alike = _LETTER if secret.isalpha() else _DIGIT
        begin, end = f"(?:(?<!{alike})|{_AFTER_ESCAPE})", f"(?!{alike})"
    text = re.sub(begin + re.escape(secret) + end, MASKED, text, flags=re.IGNORECASE)
    if any(mark in text for mark in "\\\0%+"):
        pattern = begin + "\0*".join(map(_any_form, secret)) + end
        text = re.sub(pattern, MASKED, text, flags=re.IGNORECASE)
    return text


def _any_form(character: str) -> str:
    """Returns a pattern for a character in both cases: plain, or escaped as in JSON or a URL."""
    forms = {character, character.lower(), character.upper()}
    patterns = [f"\\\\?{re.escape(form)}|{_json(form)}|{_percent(form)}" for form in forms]
    return "(?:" + "|".join(patterns + [r"\+"] * (character == " ")) + ")"


def _json(text: str) -> str:
    """Returns a pattern for a text of which each UTF-16 unit is escaped."""
    units = text.encode("utf-16-be", "surrogatepass").hex()
    return "".join(re.escape(f"\\u{units[at : at + 4]}") for at in range(0, len(units), 4))


def _percent(text: str) -> str:
    """Returns a pattern for a text of which each UTF-8 byte is escaped."""
    return "".join(f"%{byte:02x}" for byte in text.encode("utf-8", "surrogatepass"))


def _is_plain(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"
