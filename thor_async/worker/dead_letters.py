"""Reads the dead letters of a stream, and makes commands of them to be sent again."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from nats.js import JetStreamContext
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError

from .._models import MASKED, MaskedBytes, StopCharge
from .settlement import SCHEMA_HEADER, Settlement, read_command
from .streams import Subjects

_NO_MESSAGE = 10037
_SHOWN_FIELDS: dict[str, type] = {
    "chargebox": str,
    "connector": int,
    "transaction": int,
    "ref": object,
    "not_after": str,
    "as_of": str,
}


class DeadLetter(msgspec.Struct, frozen=True):
    """A command that a worker could not end, as it is stored.

    `sequence` is its own number in the stream, and `message_sequence` that of the command.
    """

    sequence: int
    stored: datetime
    body: MaskedBytes
    headers: dict[str, str]

    @property
    def reason(self) -> str:
        return self.headers.get("Thor-Reason", "")

    @property
    def maybe_applied(self) -> bool:
        """Whether its stop may have worked; True if that is not known."""
        return self.headers.get("Thor-Maybe-Applied") != "false"

    @property
    def message_sequence(self) -> int | None:
        number = self.headers.get("Thor-Sequence", "")
        return int(number) if re.fullmatch("[0-9]{1,18}", number) else None

    @property
    def command(self) -> StopCharge | Settlement:
        """The command, without unknown fields; the `Settlement` of a body that holds none."""
        return read_command(bytes(self.body), self.headers.get(SCHEMA_HEADER), tolerant=True)

    def show_body(self) -> object:
        """Returns the body as JSON without the id_tag, or a text about a body that is not JSON.

        Shows only the values of known fields that have their type: any other may be an id_tag.
        """
        try:
            body = msgspec.json.decode(self.body)
        except (ValueError, RecursionError):
            return f"{len(self.body):,} bytes, not JSON: not shown, because of a possible id_tag"
        if not isinstance(body, dict):
            return f"JSON that is no object: {len(self.body):,} bytes, not shown"
        return {name: value if _is_shown(name, value) else MASKED for name, value in body.items()}


async def iterate_dead_letters(
    jetstream: JetStreamContext, subjects: Subjects
) -> AsyncIterator[DeadLetter]:
    """Yields all dead letters, the oldest first. Needs no consumer, so any retention will do."""
    sequence = 1
    while True:
        try:
            stored = await jetstream.get_msg(
                subjects.stream, sequence, subject=subjects.dead_letters, next=True
            )
        except NotFoundError as error:
            if error.err_code == _NO_MESSAGE:
                return
            raise
        letter = _parse(stored)
        yield letter
        sequence = letter.sequence + 1


async def get_dead_letter(
    jetstream: JetStreamContext, subjects: Subjects, sequence: int
) -> DeadLetter | None:
    """Returns the dead letter of this number, or None if there is none."""
    stored = await _get_message(jetstream, subjects, sequence)
    if stored is None or stored.subject != subjects.dead_letters:
        return None
    return _parse(stored)


async def find_created(
    jetstream: JetStreamContext, subjects: Subjects, letter: DeadLetter
) -> datetime | None:
    """Returns the time when the command was first stored, or None if that is not known any more.

    It is in the header `Thor-Created`; an older dead letter has none, and its message may be gone.
    """
    written = letter.headers.get("Thor-Created")
    if written is not None:
        try:
            created = msgspec.convert(written, datetime)
        except msgspec.ValidationError:
            return None
        return created if created.tzinfo is not None else None
    if letter.message_sequence is None:
        return None
    message = await _get_message(jetstream, subjects, letter.message_sequence)
    # A stream that was deleted and created again counts from 1 again.
    if message is None or message.seq is None or message.seq >= letter.sequence:
        return None
    return _time(message) if (message.data or b"").startswith(letter.body) else None


class Repeat(NamedTuple):
    """A command to be sent again, and its JSON, with all fields of the dead letter."""

    command: StopCharge
    body: MaskedBytes


def make_repeat(letter: DeadLetter, created: datetime | None, now: datetime) -> Repeat:
    """Returns the command of a dead letter with an `as_of`, so that it stops no later charge.

    That is its own `as_of`, else `created`, the time when it was first stored. Raises ValueError
    with the cause if it cannot be sent again.
    """
    command = letter.command
    if isinstance(command, Settlement):
        raise ValueError(command.reason)  # noqa: TRY004 - the value of a body, not a type
    if command.not_after is not None and command.not_after < now:
        raise ValueError("its not_after has passed")
    as_of = command.as_of or created
    if as_of is None and command.transaction is None:
        raise ValueError("it has no transaction, and the time of its message is not known any more")
    fields = msgspec.json.decode(letter.body) | {"as_of": as_of}
    body = MaskedBytes(msgspec.json.encode(fields))
    return Repeat(msgspec.structs.replace(command, as_of=as_of), body)


async def _get_message(
    jetstream: JetStreamContext, subjects: Subjects, sequence: int
) -> RawStreamMsg | None:
    try:
        return await jetstream.get_msg(subjects.stream, sequence)
    except NotFoundError as error:
        if error.err_code == _NO_MESSAGE:
            return None
        raise


def _is_shown(name: str, value: object) -> bool:
    return name in _SHOWN_FIELDS and (value is None or isinstance(value, _SHOWN_FIELDS[name]))


def _parse(message: RawStreamMsg) -> DeadLetter:
    headers: dict[str, Any] = message.headers or {}
    return DeadLetter(message.seq or 0, _time(message), MaskedBytes(message.data or b""), headers)


def _time(message: RawStreamMsg) -> datetime:
    if message.time is None:
        raise ValueError(f"NATS told no time of the message {message.seq}")
    return message.time
