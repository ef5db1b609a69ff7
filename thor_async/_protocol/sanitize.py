"""Makes text from the server safe to log and to show."""

from __future__ import annotations

import re
import unicodedata

from .._models import MASKED

_SHOWN = 200


def sanitize(text: str, secrets: tuple[str, ...] = ()) -> str:
    """Masks secrets in the text, escapes control characters, and cuts it at 200 characters."""
    # The longest first: a secret may contain another.
    for secret in sorted(secrets, key=len, reverse=True):
        # In any case: Thor may answer a tag in another one.
        text = re.sub(re.escape(secret), MASKED, text, flags=re.IGNORECASE)
        if "\\" in text or "\0" in text:
            pattern = "\0*".join(map(_any_form, secret))
            text = re.sub(pattern, MASKED, text, flags=re.IGNORECASE)
    # Cut before the loop, too: escapes only make the text longer.
    text = "".join(c if _is_plain(c) else ascii(c)[1:-1] for c in text[:_SHOWN])
    return text[:_SHOWN]


def _any_form(character: str) -> str:
    """Returns a pattern for a character in both cases, plain or escaped as in JSON."""
    forms = {character, character.lower(), character.upper()}
    return "(?:" + "|".join(f"\\\\?{re.escape(form)}|{_escaped(form)}" for form in forms) + ")"


def _escaped(text: str) -> str:
    """Returns a pattern for a text of which each UTF-16 unit is escaped."""
    units = text.encode("utf-16-be", "surrogatepass").hex()
    return "".join(re.escape(f"\\u{units[at : at + 4]}") for at in range(0, len(units), 4))


def _is_plain(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"
