"""What is given to a call, checked before any I/O."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable

from ._config import check_seconds
from ._models import StopCharge

Commands = Iterable[StopCharge] | AsyncIterable[StopCharge]


def check_command(command: object, index: int) -> StopCharge:
    """The command itself; TypeError for anything else, which names its place in the input."""
    if not isinstance(command, StopCharge):
        raise TypeError(
            f"command {index} must be a StopCharge, not a {type(command).__name__}: "
            "build it with StopCharge(chargebox=..., connector=..., id_tag=...)"
        )
    return command


def check_batch(commands: object, within: object, give_up_after: object) -> None:
    """TypeError or ValueError for what cannot be a batch and its limits."""
    if isinstance(commands, StopCharge) or not isinstance(commands, Iterable | AsyncIterable):
        raise TypeError(
            f"commands must be an iterable of StopCharge, not a {type(commands).__name__}: "
            "put a single one into a list, or use stop_charge"
        )
    if within is not None:
        check_seconds("within", within)
    if give_up_after is not None and give_up_after != 0:
        check_seconds("give_up_after", give_up_after)


async def read_all(commands: Commands) -> list[StopCharge]:
    """The whole input, every command of it checked."""
    if isinstance(commands, AsyncIterable):
        listed = [command async for command in commands]
    else:
        listed = list(commands)
    return [check_command(command, index) for index, command in enumerate(listed)]
