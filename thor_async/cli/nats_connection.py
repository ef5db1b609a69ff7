"""The connection of a command to NATS."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import AsyncIterator, Iterator

import nats
import nats.errors
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from thor_async.worker.streams import Subjects, covers

from .client_factory import is_loopback
from .errors import UsageError
from .nats_login import find_login, find_servers

_CONNECT_TIMEOUT = 10
_TIMEOUT = 10.0
_BETWEEN_TRIES = 0.5


def find_subjects(args: argparse.Namespace) -> Subjects:
    """Returns the stream and its subjects. Raises UsageError if they overlap."""
    try:
        return Subjects(args.stream, args.subject, args.dead_letter, args.outcomes)
    except ValueError as error:
        raise UsageError(str(error)) from None


def is_local(args: argparse.Namespace) -> bool:
    """Returns whether NATS runs on this machine."""
    return all(is_loopback(_with_scheme(server)) for server in find_servers(args))


@contextlib.asynccontextmanager
async def open_jetstream(args: argparse.Namespace) -> AsyncIterator[JetStreamContext]:
    """Connects for one command. Raises UsageError if NATS cannot be reached."""
    causes: list[str] = []

    async def keep_cause(error: Exception) -> None:
        causes.append(type(error).__name__)

    try:
        client = await nats.connect(
            **find_login(args).make_options(),
            allow_reconnect=False,
            # This bounds the tries of the first connection, too.
            max_reconnect_attempts=1,
            reconnect_time_wait=_BETWEEN_TRIES,
            connect_timeout=_CONNECT_TIMEOUT,
            error_cb=keep_cause,
        )
    except (nats.errors.Error, OSError, ValueError) as error:
        causes.append(type(error).__name__)
    else:
        try:
            yield client.jetstream(timeout=_TIMEOUT)
        finally:
            await client.close()
        return
    # Raised after the block: the errors of addresses quote them.
    raise UsageError(f"cannot connect to NATS ({causes[0]}): give its address as --nats")


def _with_scheme(address: str) -> str:
    return address if "://" in address else f"nats://{address}"


async def find_duplicate_window(jetstream: JetStreamContext, subjects: Subjects) -> float:
    """Returns the duplicate window of the stream in seconds.

    Raises UsageError if the stream does not exist, or does not hold the commands.
    """
    with reporting_errors(subjects):
        config = (await jetstream.stream_info(subjects.stream)).config
    if not any(covers(pattern, subjects.commands) for pattern in config.subjects or []):
        raise UsageError(
            f"the stream {subjects.stream!r} does not hold {subjects.commands!r}: give the "
            "--stream and the --subject of the workers"
        )
    return config.duplicate_window


@contextlib.contextmanager
def reporting_errors(subjects: Subjects) -> Iterator[None]:
    """Turns an error of NATS into a UsageError."""
    try:
        yield
    except NotFoundError:
        raise UsageError(
            f"there is no stream {subjects.stream!r}: give its name as --stream, or create it with "
            "thor-async worker --init"
        ) from None
    except (nats.errors.Error, OSError) as error:
        raise UsageError(f"{describe_nats_error(error)}: nothing was done") from None


def describe_nats_error(error: Exception) -> str:
    """Returns the name of the error, and JetStream's own words, which hold nothing of a command."""
    description = getattr(error, "description", None)
    return f"NATS: {type(error).__name__}{f' ({description})' if description else ''}"
