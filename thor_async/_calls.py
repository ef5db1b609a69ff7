"""The calls of an open client, for `ThorClient`, the worker and the command line.

Every end is a value: a single call returns the outcome that `ThorClient` raises. With
`pins_retries` no retry can stop a later charge, also without a transaction.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from . import _config
from ._batch_input import deduplicate, outcome_of_duplicate, read_all
from ._config import Commands
from ._confirm.ensure_stopped import EnsureOperation
from ._confirm.tracker import Confirmation
from ._dispatch.dispatcher import Dispatcher
from ._errors import BatchGaveUp
from ._models import StopCharge, StopOutcome
from ._runtime import ClientRuntime
from ._stream import OutcomeStream

R = TypeVar("R")
StopStream = OutcomeStream[StopCharge, StopOutcome]
ConfirmationStream = OutcomeStream[StopCharge, Confirmation]

_WATCHED_AT_ONCE = 32
"""Commands of a batch that may be watched at the same time, for each that may be in flight."""


def stop(
    runtime: ClientRuntime,
    command: StopCharge,
    *,
    timeout: float | None = None,
    pin: bool = False,
    pins_retries: bool = False,
) -> Awaitable[StopOutcome]:
    """Stops one charge, in the client's own time when `timeout` is None."""
    seconds = (
        runtime.config.timeout if timeout is None else _config.check_seconds("timeout", timeout)
    )
    if pin or pins_retries or getattr(command, "as_of", None) is not None:
        confirms = runtime.make_confirm_operation(runtime.stops, pins_retries=pins_retries)
        return confirms.stop(runtime.dispatcher, 0, command, seconds, pin)
    return runtime.stops.run(runtime.dispatcher, 0, command, seconds)


def confirm(
    runtime: ClientRuntime,
    command: StopCharge,
    within: float,
    *,
    pin: bool = False,
    pins_retries: bool = False,
) -> Awaitable[Confirmation]:
    """Stops one charge, and watches it for up to `within` seconds."""
    _config.check_seconds("within", within)
    confirms = runtime.make_confirm_operation(runtime.stops, pins_retries=pins_retries)
    return confirms.confirm(runtime.dispatcher, 0, command, runtime.config.timeout, within, pin)


def ensure(runtime: ClientRuntime, command: StopCharge, within: float) -> Awaitable[Confirmation]:
    """Stops one charge again until it is proven to have stopped, for up to `within` seconds."""
    _config.check_seconds("within", within)
    operation = EnsureOperation(runtime.make_confirm_operation(runtime.stops))
    return operation.ensure(runtime.dispatcher, 0, command, runtime.config.timeout, within)


async def stop_many(
    runtime: ClientRuntime,
    commands: Commands,
    *,
    within: float | None,
    give_up_after: float | None,
    pin: bool,
) -> list[StopOutcome]:
    """Stops many charges, and returns their outcomes in the order of the input."""
    _config.check_batch(commands, within, give_up_after)
    dispatcher = runtime.make_batch_dispatcher(give_up_after, within)
    outcomes: dict[int, StopOutcome] = {}
    try:
        listed = await read_all(commands, dispatcher)
        sent, places = deduplicate(listed)
        async with _open_stop_stream(runtime, sent, dispatcher, pin=pin) as stream:
            # The outcomes of the rest say that the batch gave up.
            with contextlib.suppress(BatchGaveUp):
                async for outcome in stream:
                    outcomes[outcome.index] = outcome
    finally:
        dispatcher.close()
    for place, command in enumerate(sent):
        if place not in outcomes:
            refusal = dispatcher.refusal()
            outcomes[place] = runtime.stops.report_unsent(command, place, refusal)
    return [
        outcome_of_duplicate(outcomes[place], index, command)
        for index, (place, command) in enumerate(zip(places, listed, strict=True))
    ]


def stop_stream(
    runtime: ClientRuntime,
    commands: Commands,
    *,
    within: float | None = None,
    give_up_after: float | None = 60.0,
    pin: bool = False,
    pins_retries: bool = False,
) -> StopStream:
    """Stops charges as their commands come."""
    _config.check_batch(commands, within, give_up_after)
    dispatcher = runtime.make_batch_dispatcher(give_up_after)
    return _open_stop_stream(
        runtime, commands, dispatcher, within=within, pin=pin, pins_retries=pins_retries
    )


def confirm_stream(
    runtime: ClientRuntime,
    commands: Commands,
    *,
    within: float,
    give_up_after: float | None = 60.0,
    pin: bool = False,
    pins_retries: bool = False,
) -> ConfirmationStream:
    """Stops charges as their commands come, and watches each for up to `within` seconds."""
    stops = runtime.make_stop_operation()
    confirms = runtime.make_confirm_operation(stops, pins_retries=pins_retries)
    timeout = runtime.config.timeout
    run = partial(confirms.confirm, timeout=timeout, within=within, pin=pin)
    return _open_watching_stream(runtime, commands, run, within, give_up_after)


def ensure_stream(
    runtime: ClientRuntime,
    commands: Commands,
    *,
    within: float,
    give_up_after: float | None = 60.0,
) -> ConfirmationStream:
    """Stops charges as their commands come, again until each is proven to have stopped."""
    operation = EnsureOperation(runtime.make_confirm_operation(runtime.make_stop_operation()))
    run = partial(operation.ensure, timeout=runtime.config.timeout, within=within)
    return _open_watching_stream(runtime, commands, run, within, give_up_after)


def _open_stop_stream(
    runtime: ClientRuntime,
    commands: Commands,
    dispatcher: Dispatcher,
    *,
    pin: bool,
    within: float | None = None,
    pins_retries: bool = False,
) -> StopStream:
    stops = runtime.make_stop_operation()
    confirms = runtime.make_confirm_operation(stops, pins_retries=pins_retries)
    run = partial(confirms.stop, timeout=runtime.config.timeout, pin=pin)
    return OutcomeStream(commands, run, dispatcher, runtime.max_in_flight, within)


def _open_watching_stream(
    runtime: ClientRuntime,
    commands: Commands,
    run: Callable[[Dispatcher, int, StopCharge], Awaitable[R]],
    within: float,
    give_up_after: float | None,
) -> OutcomeStream[StopCharge, R]:
    _config.check_batch(commands, within, give_up_after)
    dispatcher = runtime.make_batch_dispatcher(give_up_after)
    width = runtime.max_in_flight
    return OutcomeStream(commands, run, dispatcher, width, None, window=_WATCHED_AT_ONCE)
