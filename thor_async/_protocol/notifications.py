"""Parses the notifications that Thor POSTs to the operator's own system.

Thor does not document how they are authenticated, repeated or ordered: a notification does not
prove who sent it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

import msgspec

from .._models import StopCharge, check_number, check_text


class _Body(msgspec.Struct):
    """All fields of all documented shapes, with Thor's names."""

    chargebox: str
    connector: int
    type: str = ""
    msg: str = ""
    accepted: bool = False
    unlocked: bool | None = None
    id: str | None = None
    idTag: str | None = None  # noqa: N815 - Thor's spelling
    transaction_id: int | None = None
    mode: str | None = None
    kwh: float | None = None
    energy: float | None = None
    time: Any = None
    payment: Any = None


_decoder = msgspec.json.Decoder(_Body)


class _Notification(msgspec.Struct, frozen=True, kw_only=True):
    chargebox: str
    connector: int
    accepted: bool
    id_tag: str | None
    transaction: int | None

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        hidden = ("id_tag", "payment")
        names = [name for name in self.__struct_fields__ if name not in hidden]
        return [(name, getattr(self, name)) for name in names]

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({shown})"


class StartNotification(_Notification, frozen=True, kw_only=True):
    """A charge has started, or was refused (not `accepted`, and without a `transaction`).

    `mode` is local, remote or api. Only this notification contains the tag of a charge that was
    started from the app or the API: the running list hides it.
    """

    mode: str | None

    @classmethod
    def parse(cls, body: bytes | str) -> Self:
        """Parses the body of Thor's request. Raises ValueError, which shows no tag, for another."""
        found = _decode(body)
        if found.type != "start":
            raise ValueError("not a start notification: its type must be 'start'")
        return cls(
            chargebox=found.chargebox,
            connector=found.connector,
            accepted=found.accepted,
            id_tag=found.id or None,
            transaction=found.transaction_id or None,
            mode=found.mode,
        )

    def stop_command(self, *, ref: Any = None, not_after: datetime | None = None) -> StopCharge:
        """Returns the `StopCharge` that ends this charge.

        Raises ValueError if the start was refused, or if the notification has no tag.
        """
        if not self.accepted:
            raise ValueError(f"the start at {self.chargebox!r}, {self.connector} was refused")
        if self.id_tag is None:
            raise ValueError(f"the start at {self.chargebox!r}, {self.connector} has no id_tag")
        return StopCharge(
            self.chargebox,
            self.connector,
            self.id_tag,
            self.transaction,
            ref=ref,
            not_after=not_after,
        )


class StopNotification(_Notification, frozen=True, kw_only=True):
    """A charge has ended (`is_end`), or its chargebox refused to end it (`is_refusal`).

    Only a normal end has a `transaction`; a refusal is matched by chargebox and connector. `energy`
    is in Wh; `time` is as Thor sends it.
    """

    unlocked: bool
    energy: float | None
    time: Any
    payment: Any
    is_normal: bool

    @classmethod
    def parse(cls, body: bytes | str) -> Self:
        """Parses the body of Thor's request. Raises ValueError, which shows no tag, for another."""
        found = _decode(body)
        if found.type != "stop_transaction" and found.msg != "stop":
            raise ValueError(
                "not a stop notification: its type must be 'stop_transaction', or its msg 'stop'"
            )
        return cls(
            chargebox=found.chargebox,
            connector=found.connector,
            accepted=found.accepted,
            unlocked=bool(found.unlocked),
            id_tag=found.idTag or None,
            transaction=found.transaction_id or None,
            energy=found.energy if found.kwh is None else found.kwh * 1000,
            time=found.time,
            payment=found.payment,
            is_normal=found.type == "stop_transaction",
        )

    @property
    def is_end(self) -> bool:
        """Whether this proves that its `transaction` is over."""
        return self.is_normal and self.accepted and self.transaction is not None

    @property
    def is_refusal(self) -> bool:
        """Whether the chargebox refused a remote stop, so that the charge goes on."""
        return not (self.is_normal or self.accepted or self.unlocked)


def parse_notification(body: bytes | str) -> StartNotification | StopNotification:
    """Parses either kind. Raises ValueError, which shows no tag, for any other body."""
    if _decode(body).type == "start":
        return StartNotification.parse(body)
    return StopNotification.parse(body)


def _decode(body: bytes | str) -> _Body:
    try:
        found = _decoder.decode(body)
    except msgspec.ValidationError as error:
        why = str(error)
    except (ValueError, RecursionError, TypeError):
        # The error itself may contain the whole body.
        why = "give the bytes of the request's JSON body"
    else:
        check_text("chargebox", found.chargebox, shown=True)
        check_number("connector", found.connector, "connectors count from 1")
        if found.transaction_id:
            check_number("transaction_id", found.transaction_id, "0 is none")
        return found
    raise ValueError(f"not a notification from Thor: {why}")
