"""Reads the input of `stop_many`, and finds the commands in it that are equal."""

from __future__ import annotations

import msgspec

from ._config import Commands, check_command
from ._dispatch.dispatcher import Dispatcher
from ._errors import NotSentError
from ._input_reader import EndOfInput, InputReader
from ._models import StopCharge, StopOutcome


def deduplicate(commands: list[StopCharge]) -> tuple[list[StopCharge], list[int]]:
    """Returns the commands without repeats, and for each given command its place among them.

    A second stop of the same charge could stop the next driver's.
    """
    places: dict[tuple[object, ...], int] = {}
    sent: list[StopCharge] = []
    found: list[int] = []
    for command in commands:
        # Tags differ by more than case, as in OCPP.
        tag = command.id_tag.casefold()
        charge = command.chargebox, command.connector, tag, command.transaction
        # Without a transaction, another time may mean another charge.
        as_of = command.as_of if command.transaction is None else None
        place = places.setdefault((*charge, as_of), len(sent))
        if place == len(sent):
            sent.append(command)
        found.append(place)
    return sent, found


def outcome_of_duplicate(outcome: StopOutcome, index: int, command: StopCharge) -> StopOutcome:
    """Returns the outcome for an equal command at another index; keeps a pinned transaction."""
    if outcome.index == index:
        return outcome
    own = msgspec.structs.replace(command, transaction=outcome.command.transaction)
    return msgspec.structs.replace(outcome, index=index, command=own)


async def read_all(commands: Commands, dispatcher: Dispatcher) -> list[StopCharge]:
    """Reads the input until its end, or that of the batch; NotSentError if nothing was read.

    The task and the context are those of the caller. A generator that is left is closed.
    """
    listed: list[StopCharge] = []
    await dispatcher.wait(_read_into(listed, InputReader(commands), dispatcher))
    if not listed and dispatcher.time() >= dispatcher.until:
        raise NotSentError(
            "nothing was sent: out of time before the input gave a command", reason="timeout"
        )
    return [check_command(command, index) for index, command in enumerate(listed)]


async def _read_into(
    listed: list[StopCharge], reader: InputReader[StopCharge], dispatcher: Dispatcher
) -> None:
    try:
        while dispatcher.time() < dispatcher.until:
            command = await reader.read()
            if isinstance(command, EndOfInput):
                break
            listed.append(command)
    finally:
        await reader.close()
