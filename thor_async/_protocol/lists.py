"""Thor's lists of running charges and of chargeboxes: their requests, and their rows as values.

A list is read in two steps, because one of 100,000 rows takes long: `parse_..._answer` finds its
rows, and `decode_..._rows` decodes them in chunks, between which the caller can let others run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

import msgspec

from .._errors import ThorError, UnexpectedResponse
from .._models import LARGEST
from .error_responses import parse_error_answer
from .http_messages import Answer, Request

Rows = list[msgspec.Raw]

LIST_LIMIT = 32 * 1024 * 1024
"""Bytes that are read of a list. A longer list is an error."""

UNPLACED = 0
"""The connector of a charge whose connector the list does not tell."""

_CHUNK = 250
_ODD = (msgspec.ValidationError, UnicodeDecodeError)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The years 2000 to 2100. Seconds, microseconds and nanoseconds of our time are outside of them.
_EARLIEST, _LATEST = 946_684_800_000, 4_102_444_800_000
_Number = Annotated[int, msgspec.Meta(ge=1, le=LARGEST)]
_Item = TypeVar("_Item")
_Value = TypeVar("_Value")


# No cycle can go through these three: what they hold comes from JSON.


class RunningCharge(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A charge that runs, from Thor's list.

    `transaction` is what a `StopCharge` takes. When the list has no valid number, `transaction` is
    None, and `connector` is 0: then no stop can be pinned to this charge. `id_tag` is None when the
    charge was started remotely or by the API; `energy` is in Wh; `payment` is None when the charge
    is free. Each optional field is also None when the list leaves it out or has a value of another
    type there. The repr shows neither `id_tag`, nor `user`, nor `payment`.
    """

    chargebox: str
    connector: int
    transaction: int | None
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


class Coordinates(msgspec.Struct, frozen=True, gc=False):
    """The position of a chargebox, in degrees."""

    latitude: float
    longitude: float


class Chargebox(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A chargebox of the account.

    `alias` is the name that people know; `connected` says whether it is connected to Thor now. None
    (for the connectors: an empty tuple) stands for what the list leaves out or has in another type.
    Of the connectors only the numbers are kept, because the rest may hold the secret of a payment
    device.
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


class _PolledRow(msgspec.Struct, gc=False):
    chargebox: str
    connector: _Number | None = None
    id: _Number | None = None
    id_tag: str | None = None
    date_started: float | None = None
    energy: float | None = None
    type: str | None = None


class _RunningRow(_PolledRow, gc=False):
    user: Any = None
    payment: Any = None


class _ListedChargebox(msgspec.Struct, gc=False):
    id: str
    alias: str | None = None
    active: bool | None = None
    connected: bool | None = None
    occupied_connectors: tuple[int, ...] | None = None
    reserved_connectors: tuple[int, ...] | None = None
    coordinates: msgspec.Raw = msgspec.Raw(b"null")
    last_heartbeat: float | None = None
    timezone: str | None = None


class _RunningList(msgspec.Struct):
    count: int
    items: Rows


_running_list = msgspec.json.Decoder(_RunningList)
_chargebox_list = msgspec.json.Decoder(Rows)
_charge_row = msgspec.json.Decoder(_RunningRow)
_polled_row = msgspec.json.Decoder(_PolledRow)
_chargebox_row = msgspec.json.Decoder(_ListedChargebox)


def build_running_request(read_url: str, chargebox: str | None = None) -> Request:
    """Builds the request for the running charges of all chargeboxes, or of one."""
    query = "" if chargebox is None else f"?chargebox={quote(chargebox, safe='')}"
    return Request("GET", f"{read_url}/charges/running{query}", None, LIST_LIMIT)


def build_chargeboxes_request(read_url: str) -> Request:
    """Builds the request for the chargeboxes of the account."""
    return Request("GET", f"{read_url}/chargeboxes", None, LIST_LIMIT)


def parse_running_answer(answer: Answer, secrets: tuple[str, ...], now: float) -> Rows | ThorError:
    """Returns the rows of a complete list of running charges, or the error that came instead.

    A list whose `count` differs from its rows is an error. For `secrets` and `now` see
    `parse_error_answer`.
    """
    if answer.status != 200:
        return parse_error_answer(answer, secrets, now)
    try:
        listed = _running_list.decode(answer.body or b"")
    except (ValueError, RecursionError):
        return _invalid_list("running charges", answer)
    if listed.count != len(listed.items):
        return UnexpectedResponse(
            f"a list of {listed.count} running charges with {len(listed.items)} in it", status=200
        )
    return listed.items


def parse_chargeboxes_answer(
    answer: Answer, secrets: tuple[str, ...], now: float
) -> Rows | ThorError:
    """Returns the rows of the list of chargeboxes, or the error that came instead."""
    if answer.status != 200:
        return parse_error_answer(answer, secrets, now)
    try:
        return _chargebox_list.decode(answer.body or b"")
    except (ValueError, RecursionError):
        return _invalid_list("chargeboxes", answer)


def decode_running_rows(rows: Rows) -> Iterator[list[RunningCharge] | ThorError]:
    """Yields the running charges of `rows` in chunks, each in a few milliseconds.

    An error is yielded last and replaces the whole list: a row without a chargebox hides which
    charges run. A row without a connector hides it of one chargebox only.
    """
    return _decode_rows(rows, _charge_row, _charge_with_user, "running charges")


def decode_polled_rows(rows: Rows) -> Iterator[list[RunningCharge] | ThorError]:
    """Yields as `decode_running_rows`, but leaves out `user` and `payment`.

    A poller needs neither, and a garbage collection takes long with hundreds of thousands of dicts.
    """
    return _decode_rows(rows, _polled_row, _charge, "running charges")


def decode_chargebox_rows(rows: Rows) -> Iterator[list[Chargebox] | ThorError]:
    """Yields the chargeboxes of `rows` in chunks; an error as in `decode_running_rows`."""
    return _decode_rows(rows, _chargebox_row, _chargebox, "chargeboxes")


def _decode_rows(
    rows: Rows,
    decoder: msgspec.json.Decoder[_Item],
    convert: Callable[[_Item], _Value],
    what: str,
) -> Iterator[list[_Value] | ThorError]:
    for start in range(0, len(rows), _CHUNK):
        try:
            chunk = [convert(_decode_row(row, decoder)) for row in rows[start : start + _CHUNK]]
        except (ValueError, RecursionError):
            yield _invalid_list(what)
            return
        yield chunk


def _decode_row(row: msgspec.Raw, decoder: msgspec.json.Decoder[_Item]) -> _Item:
    """Decodes one row without the fields that have another type than documented."""
    try:
        return decoder.decode(row)
    except _ODD:
        pass
    # Not converted from Python values: msgspec 0.21.0 fails there on an enormous number.
    values = msgspec.json.decode(row, type=dict[str, msgspec.Raw])
    row_type: Any = decoder.type
    for field in msgspec.structs.fields(row_type):
        if field.name in values:
            try:
                msgspec.json.decode(values[field.name], type=field.type)
            except _ODD:
                del values[field.name]
    return decoder.decode(msgspec.json.encode(values))


def _invalid_list(what: str, answer: Answer | None = None) -> UnexpectedResponse:
    why = "is not as Thor documents it"
    if answer is not None and answer.body is None:
        why = f"did not arrive whole, or has more than {LIST_LIMIT:,} bytes"
    return UnexpectedResponse(f"the list of {what} {why}", status=200)


def _charge_with_user(listed: _RunningRow) -> RunningCharge:
    return _charge(listed, listed.user, listed.payment)


def _charge(listed: _PolledRow, user: Any = None, payment: Any = None) -> RunningCharge:
    return RunningCharge(
        chargebox=listed.chargebox,
        connector=listed.connector or UNPLACED,
        transaction=listed.id,
        id_tag=listed.id_tag,
        date_started=_time(listed.date_started),
        energy=listed.energy,
        type=listed.type,
        user=user,
        payment=payment,
    )


def _chargebox(listed: _ListedChargebox) -> Chargebox:
    return Chargebox(
        id=listed.id,
        alias=listed.alias,
        active=listed.active,
        connected=listed.connected,
        occupied_connectors=listed.occupied_connectors or (),
        reserved_connectors=listed.reserved_connectors or (),
        coordinates=_coordinates(listed.coordinates),
        last_heartbeat=_time(listed.last_heartbeat),
        timezone=listed.timezone,
    )


def _time(milliseconds: float | None) -> datetime | None:
    """Returns the time, or None for one that can only be in another unit than milliseconds."""
    if milliseconds is None or not _EARLIEST <= milliseconds <= _LATEST:
        return None
    return _EPOCH + timedelta(milliseconds=milliseconds)


def _coordinates(listed: msgspec.Raw) -> Coordinates | None:
    try:
        return msgspec.json.decode(listed, type=Coordinates, strict=False)
    except _ODD:
        return None
