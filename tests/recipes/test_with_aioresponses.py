from collections.abc import Iterator
from typing import Any
from unittest import mock

import aiohttp
import aioresponses.core
import pytest

from thor_async import StopCharge, ThorClient

from .answers import stop_and_answer

STOP = "https://thor.example/charges/stop"


class Response(aiohttp.ClientResponse):
    """Has the `stream_writer` that aiohttp 3.14 needs and aioresponses 0.7.9 does not give."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs | {"stream_writer": mock.Mock(output_size=0)})


@pytest.fixture
def responses(monkeypatch: pytest.MonkeyPatch) -> Iterator[aioresponses.aioresponses]:
    monkeypatch.setattr(aioresponses.core, "ClientResponse", Response)
    with aioresponses.aioresponses() as responses:
        yield responses


@pytest.mark.asyncio
async def test_a_charge_that_is_over_is_a_409(responses: aioresponses.aioresponses) -> None:
    responses.post(STOP, status=400, payload={"message": "NotInTransaction"})
    async with ThorClient("key", base_url="https://thor.example") as thor:
        status, _, _ = await stop_and_answer(thor, StopCharge("box-1", 1, "tag", 52))
    assert status == 409
