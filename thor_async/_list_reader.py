"""Reads Thor's lists, with a retry budget of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TypeVar

from ._dispatch.dispatcher import Dispatcher
from ._errors import ThorError
from ._protocol.http_messages import Answer, Request
from ._protocol.lists import (
    Chargebox,
    Rows,
    RunningCharge,
    build_chargeboxes_request,
    build_running_request,
    decode_chargebox_rows,
    decode_polled_rows,
    decode_running_rows,
    parse_chargeboxes_answer,
    parse_running_answer,
)
from ._stop import RequestContext, RetryingRequest

T = TypeVar("T")
Parse = Callable[[Answer, tuple[str, ...], float], Rows | ThorError]
Decode = Callable[[Rows], Iterator[list[T] | ThorError]]


class ListReader:
    """Reads the lists of one client: each list is complete, or an error says why it is not.

    `timeout` bounds a read with its retries. The retry budget in `context` must not be that of
    stops: lists that fail must not cost a stop its retry.
    """

    def __init__(
        self, context: RequestContext, dispatcher: Dispatcher, read_url: str, timeout: float
    ) -> None:
        self._context = context
        self._dispatcher = dispatcher
        self._read_url = read_url
        self._timeout = timeout

    async def running_charges(
        self, chargebox: str | None = None
    ) -> list[RunningCharge] | ThorError:
        """Reads the running charges of all chargeboxes, or of one."""
        request = build_running_request(self._read_url, chargebox)
        return await self._read(request, parse_running_answer, decode_running_rows)

    async def running_charges_once(self) -> list[RunningCharge] | ThorError:
        """Reads the running charges for a poller, whose next look is the retry.

        A key function that fails is an error too, and is not raised.
        """
        request = build_running_request(self._read_url)
        return await self._read(
            request, parse_running_answer, decode_polled_rows, is_retried=False, raises=False
        )

    async def chargeboxes(self) -> list[Chargebox] | ThorError:
        """Reads the chargeboxes of the account."""
        request = build_chargeboxes_request(self._read_url)
        return await self._read(request, parse_chargeboxes_answer, decode_chargebox_rows)

    async def chargeboxes_for_pin(self) -> list[Chargebox] | ThorError:
        """Reads as `chargeboxes`; a key function that fails is an error too, and is not raised."""
        request = build_chargeboxes_request(self._read_url)
        return await self._read(
            request, parse_chargeboxes_answer, decode_chargebox_rows, raises=False
        )

    async def _read(
        self,
        request: Request,
        parse: Parse,
        decode: Decode[T],
        *,
        is_retried: bool = True,
        raises: bool = True,
    ) -> list[T] | ThorError:
        rows: list[Rows] = []

        def keep_rows(answer: Answer, secrets: tuple[str, ...], now: float) -> ThorError | None:
            parsed = parse(answer, secrets, now)
            if isinstance(parsed, ThorError):
                return parsed
            rows.append(parsed)
            return None

        attempts = RetryingRequest(
            self._context,
            self._dispatcher,
            request,
            keep_rows,
            until=self._dispatcher.time() + self._timeout,
            raises=raises,
        )
        await attempts.attempt()
        if attempts.error is not None and is_retried:
            await attempts.retry()
        return attempts.error or await _decode_in_turns(decode(rows[0]))


async def _decode_in_turns(chunks: Iterator[list[T] | ThorError]) -> list[T] | ThorError:
    """Decodes a long list chunk by chunk, and lets other tasks run in between."""
    values: list[T] = []
    for chunk in chunks:
        if isinstance(chunk, ThorError):
            return chunk
        values += chunk
        await asyncio.sleep(0)
    return values
