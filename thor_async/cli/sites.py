"""Sites: what the names of chargeboxes have in common."""

from __future__ import annotations

import re
from typing import Any

_NUMBER = re.compile(r"[\s\-_#/.,:(]*\d+[A-Za-z]?\)?$")
_COLUMNS = ("site", "alias", "location")


def find_site(alias: str) -> str:
    """Returns an alias without the number at its end: `Harbour` for `Harbour 3` and `Harbour-12b`.

    An alias that is only a number is its own site.
    """
    return _NUMBER.sub("", alias) or alias


def site_of_ref(ref: Any) -> str | None:
    """Returns the site by the column site, alias or location of a row, or None without one."""
    if not isinstance(ref, dict):
        return None
    cells = {str(name).casefold(): value for name, value in ref.items()}
    for column in _COLUMNS:
        value = cells.get(column)
        if isinstance(value, str) and value:
            return value if column == "site" else find_site(value)
    return None
