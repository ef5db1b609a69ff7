"""Thor's lists: how they are asked for, and what they say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import quote

import msgspec

from .._errors import ThorError, UnexpectedResponse
from .._models import LARGEST
from .stop import Answer, Request, read_error

LIST_LIMIT = 32 * 1024 * 1024
"""Bytes that are read of a list; of a longer one nothing is used."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_Number = Annotated[int, msgspec.Meta(ge=1, le=LARGEST)]


class RunningCharge(msgspec.Struct, frozen=True, kw_only=True):
    """A charge that runs, as Thor's list tells it.

    `transaction` is what a `StopCharge` takes; `id_tag` is None when the charge was started
    remotely or by the API; `energy` is in Wh; `payment` is None when it is free; None also stands
    for what the list leaves out. Its repr shows neither tag, nor user, nor payment.
    """

    chargebox: str
    connector: int
    transaction: int
    id_tag: str | None = None
    date_started: datetime | None = None
    energy: float | None = None
    type: str | None = None
    user: Any = None
    payment: Any = None

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        shown = ("chargebox", "connector", "transaction", "date_started", "energy", "type")
        return [(name, getattr(self, name)) for name in shown]

    def __repr__(self) -> str:
        return f"RunningCharge({', '.join(f'{n}={v!r}' for n, v in self.__rich_repr__())})"


class Coordinates(msgspec.Struct, frozen=True):
    """Where a chargebox stands, in degrees."""

    latitude: float
    longitude: float


class Chargebox(msgspec.Struct, frozen=True, kw_only=True):
    """A chargebox of the account. `alias` is the name that people know, `connected` to Thor now.

    None stands for what the list leaves out. Of its connectors only numbers are kept: the rest may
    hold the secret of a payment device.
    """

    id: str
    alias: str | None = None
    active: bool | None = None
    connected: bool | None = None
    occupied_connectors: tuple[int, ...] = ()
    reserved_connectors: tuple[int, ...] = ()
    coordinates: Coordinates | None = None
    last_heartbeat: datetime | None = None
    timezone: str | None = None


class _Item(msgspec.Struct):
    id: _Number
    chargebox: str
    connector: _Number
    id_tag: str | None = None
    date_started: float | None = None
    energy: float | None = None
    type: str | None = None
    user: Any = None
    payment: Any = None


class _Running(msgspec.Struct):
    count: int
    items: list[_Item]


class _ListedChargebox(msgspec.Struct):
    id: str
    alias: str | None = None
    active: bool | None = None
    connected: bool | None = None
    occupied_connectors: tuple[int, ...] | None = None
    reserved_connectors: tuple[int, ...] | None = None
    coordinates: Any = None
    last_heartbeat: float | None = None
    timezone: str | None = None


_running = msgspec.json.Decoder(_Running)
_chargeboxes = msgspec.json.Decoder(list[_ListedChargebox])


def ask_running(read_url: str, chargebox: str | None = None) -> Request:
    """The running charges, of all chargeboxes or of one."""
    query = "" if chargebox is None else f"?chargebox={quote(chargebox, safe='')}"
    return Request("GET", f"{read_url}/charges/running{query}", None, LIST_LIMIT)


def ask_chargeboxes(read_url: str) -> Request:
    """The chargeboxes of the account."""
    return Request("GET", f"{read_url}/chargeboxes", None, LIST_LIMIT)


def read_running(
    answer: Answer, secrets: tuple[str, ...], now: float
) -> list[RunningCharge] | ThorError:
    """All running charges, or why they are not known: a part of a list is none."""
    if answer.status != 200:
        return read_error(answer, secrets, now)
    try:
        listed = _running.decode(answer.body or b"")
        charges = [_charge(item) for item in listed.items]
    except (ValueError, RecursionError, OverflowError):
        return _no_list(answer, "running charges")
    if listed.count != len(charges):
        return UnexpectedResponse(
            f"a list of {listed.count} running charges with {len(charges)} in it", status=200
        )
    return charges


def read_chargeboxes(
    answer: Answer, secrets: tuple[str, ...], now: float
) -> list[Chargebox] | ThorError:
    """All chargeboxes, or why they are not known."""
    if answer.status != 200:
        return read_error(answer, secrets, now)
    try:
        return [_chargebox(listed) for listed in _chargeboxes.decode(answer.body or b"")]
    except (ValueError, RecursionError, OverflowError):
        return _no_list(answer, "chargeboxes")


def _no_list(answer: Answer, what: str) -> UnexpectedResponse:
    why = "is not as Thor documents it"
    if answer.body is None:
        why = f"did not arrive whole, or has more than {LIST_LIMIT:,} bytes"
    return UnexpectedResponse(f"the list of {what} {why}", status=200)


def _charge(item: _Item) -> RunningCharge:
    return RunningCharge(
        chargebox=item.chargebox,
        connector=item.connector,
        transaction=item.id,
        id_tag=item.id_tag,
        date_started=_time(item.date_started),
        energy=item.energy,
        type=item.type,
        user=item.user,
        payment=item.payment,
    )


def _chargebox(listed: _ListedChargebox) -> Chargebox:
    return Chargebox(
        id=listed.id,
        alias=listed.alias,
        active=listed.active,
        connected=listed.connected,
        occupied_connectors=listed.occupied_connectors or (),
        reserved_connectors=listed.reserved_connectors or (),
        coordinates=_place(listed.coordinates),
        last_heartbeat=_time(listed.last_heartbeat),
        timezone=listed.timezone,
    )


def _time(milliseconds: float | None) -> datetime | None:
    return None if milliseconds is None else _EPOCH + timedelta(milliseconds=milliseconds)


def _place(listed: Any) -> Coordinates | None:
    # No stop depends on it: an odd one must not cost the whole list.
    try:
        return msgspec.convert(listed, Coordinates, strict=False)
    except msgspec.ValidationError:
        return None
