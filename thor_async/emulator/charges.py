"""Charges, and the request bodies that name them."""

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
        """The chargebox and the connector."""
        return self.chargebox, self.connector

    def item(self) -> dict[str, object]:
        """Returns this charge as an item of the list of running charges."""
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
            # Not documented: a client must ignore fields that it does not know.
            "plug": {"format": "SOCKET", "locked": True},
            "soc": None,
        }


class StopBody(msgspec.Struct, frozen=True, gc=False):
    """The body of a stop request. Other properties are allowed and ignored."""

    chargebox: str
    connector: int
    id_tag: str
    transaction: int | None = None


class StartBody(msgspec.Struct, frozen=True, gc=False):
    """The body of a start request."""

    chargebox: str
    connector: int


_Body = TypeVar("_Body", StopBody, StartBody)


def decode(body: bytes, type_: type[_Body]) -> _Body | None:
    """Decodes a request body; returns None if it is malformed."""
    try:
        return msgspec.json.decode(body, type=type_)
    except (ValueError, RecursionError):
        return None


def matches(command: StopBody | StopCharge, charge: Charge) -> bool:
    """Whether Thor would relay this stop, when `charge` runs at its connector."""
    transactions = (None, charge.transaction)
    return command.id_tag == charge.id_tag and command.transaction in transactions
