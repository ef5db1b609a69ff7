"""Charges, and what requests say about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

if TYPE_CHECKING:
    from .._models import StopCharge

MODES = ("local", "remote", "api")


class Charge(msgspec.Struct, frozen=True):
    """A running charge; `date_started` is epoch milliseconds, `energy` watt-hours."""

    chargebox: str
    connector: int
    id_tag: str
    transaction: int
    mode: str
    date_started: int
    energy: float = 0.0

    @property
    def place(self) -> tuple[str, int]:
        """Its chargebox and connector."""
        return self.chargebox, self.connector

    def item(self) -> dict[str, object]:
        """This charge as the list of running charges shows it."""
        return {
            "id": self.transaction,
            "chargebox": self.chargebox,
            "connector": self.connector,
            "date_started": self.date_started,
            "energy": self.energy,
            "id_tag": self.id_tag if self.mode == "local" else None,
            "type": self.mode,
            "user": None,
            "payment": None,
            # Nobody documented these two: a client has to ignore what it does not know.
            "plug": {"format": "SOCKET", "locked": True},
            "soc": None,
        }


class StopBody(msgspec.Struct, frozen=True, gc=False):
    """What a stop request says; other properties are allowed and ignored."""

    chargebox: str
    connector: int
    id_tag: str
    transaction: int | None = None


class StartBody(msgspec.Struct, frozen=True, gc=False):
    """What a start request says."""

    chargebox: str
    connector: int


_Body = TypeVar("_Body", StopBody, StartBody)


def decode(body: bytes, type_: type[_Body]) -> _Body | None:
    """None for a malformed body."""
    try:
        return msgspec.json.decode(body, type=type_)
    except (ValueError, RecursionError):
        return None


def ends(command: StopBody | StopCharge, charge: Charge) -> bool:
    """Whether Thor would relay this stop of what runs at its connector."""
    numbers = (None, charge.transaction)
    return command.id_tag == charge.id_tag and command.transaction in numbers
