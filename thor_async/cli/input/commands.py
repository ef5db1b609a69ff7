"""Makes the command of one charge, with errors for people who do not know Python."""

from __future__ import annotations

from typing import Any

from thor_async import StopCharge


def make_command(
    chargebox: Any, connector: Any, id_tag: Any, transaction: Any = None, **others: Any
) -> StopCharge:
    """Returns the command of these fields, or raises ValueError."""
    for name, text in (("chargebox", chargebox), ("id_tag", id_tag)):
        if not isinstance(text, str):
            raise ValueError(f"{name} must be a text in quotes")  # noqa: TRY004
    _check_number("connector", connector, "connectors count from 1")
    if transaction is not None:
        _check_number("transaction", transaction, "leave it out when it is not known")
    return StopCharge(chargebox, connector, id_tag, transaction, **others)


def _check_number(name: str, number: Any, cure: str) -> None:
    if type(number) is not int:
        raise ValueError(f"{name} must be a whole number without quotes")
    if number < 1:
        raise ValueError(f"{name} must be at least 1, not {number}: {cure}")
