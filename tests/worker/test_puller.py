"""One pull request at a time, for as many messages as there are free places."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from unittest import mock

import msgspec
import pytest

from thor_async.worker import puller as module
from thor_async.worker.puller import MessagePuller, PullError
from thor_async.worker.streams import Subjects


class Pull:
    """A puller whose client is a fake: the test gives it what NATS would send."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.received: list[Any] = []
        self.client: Any = mock.Mock(is_connected=True)
        self.client.new_inbox.return_value = "_INBOX.x"
        self.client.publish = mock.AsyncMock()
        self.subscription = mock.AsyncMock()
        self.client.subscribe = mock.AsyncMock(return_value=self.subscription)
        self.puller = MessagePuller(
            self.client, Subjects(), lambda: self.places, self.received.append
        )

    @property
    def batches(self) -> list[int]:
        bodies = [call.args[1] for call in self.client.publish.call_args_list]
        return [msgspec.json.decode(body)["batch"] for body in bodies]

    async def give(
        self, *, reply: str = "", subject: str | None = None, **headers: str
    ) -> mock.Mock:
        if subject is None:
            subject = f"_INBOX.x.{self.client.publish.call_count}"
        message = mock.Mock(reply=reply, subject=subject, headers=headers, nak=mock.AsyncMock())
        await self.client.subscribe.call_args.kwargs["cb"](message)
        await settle()
        return message

    async def give_command(self, **headers: str) -> mock.Mock:
        return await self.give(reply="$JS.ACK.x", subject="thor.stop", **headers)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(self.puller.run())
        await settle()
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_request_is_for_the_free_places() -> None:
    pull = Pull(3)
    async with pull.running():
        await pull.give_command()
        await pull.give_command()
        assert pull.batches == [3]
        pull.places = 2
        await pull.give_command()
        assert pull.batches == [3, 2]
    assert len(pull.received) == 3


async def test_without_a_place_nothing_is_asked_for() -> None:
    pull = Pull(1)
    async with pull.running():
        pull.places = 0
        await pull.give_command()
        assert pull.batches == [1]
        pull.puller.wake()
        await settle()
        assert pull.batches == [1]
        pull.places = 5
        pull.puller.wake()
        await settle()
        assert pull.batches == [1, 5]


async def test_a_request_that_expires_is_made_again() -> None:
    pull = Pull(4)
    async with pull.running():
        await pull.give(Status="100")
        assert pull.batches == [4]
        await pull.give(Status="408", Description="Request Timeout")
        assert pull.batches == [4, 4]


async def test_only_the_first_request_does_not_wait_for_messages() -> None:
    """Its answer shows that the consumer serves."""
    pull = Pull(4)
    async with pull.running():
        assert not pull.puller.pulled.is_set()
        await pull.give(Status="404", Description="No Messages")
        assert pull.puller.pulled.is_set()
    first, second = [msgspec.json.decode(c.args[1]) for c in pull.client.publish.call_args_list]
    assert first == {"batch": 4, "no_wait": True}
    assert second == {"batch": 4, "expires": 5_000_000_000}


async def test_the_end_of_an_earlier_request_does_not_end_this_one() -> None:
    pull = Pull(4)
    async with pull.running() as task:
        await pull.give(Status="408")
        await pull.give(Status="409", Description="Consumer Deleted", subject="_INBOX.x.1")
        assert pull.batches == [4, 4]
        assert not task.done()


@pytest.mark.parametrize("status", ["new", "404", "100", "503", "409"])
async def test_a_header_of_the_producer_is_not_taken_for_a_status(status: str) -> None:
    pull = Pull(2)
    async with pull.running():
        message = await pull.give_command(Status=status)
    assert pull.received == [message]


@pytest.mark.parametrize(
    ("status", "description", "reason"),
    [
        ("409", "Consumer Deleted", "NATS answers 409: Consumer Deleted"),
        ("409", "Exceeded MaxWaiting", "NATS answers 409: Exceeded MaxWaiting"),
        ("503", "", "no consumer answers"),
        ("400", "Bad Request", "NATS answers 400: Bad Request"),
    ],
)
async def test_a_consumer_that_does_not_serve_ends_the_pull(
    status: str, description: str, reason: str
) -> None:
    pull = Pull(2)
    async with pull.running() as task:
        await pull.give(Status=status, Description=description)
        with pytest.raises(PullError, match=reason):
            await task
    assert pull.batches == [2]
    assert not pull.puller.pulled.is_set()


async def test_a_request_without_an_answer_ends_the_pull(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_EXPIRES", 0.0)
    monkeypatch.setattr(module, "_SLACK", 0.0)
    async with Pull(2).running() as task:
        with pytest.raises(PullError, match="does not answer"):
            await task


async def test_a_message_of_another_subject_is_not_received() -> None:
    pull = Pull(2)
    async with pull.running() as task:
        await pull.give(reply="$JS.ACK.x", subject="thor.stop.outcomes")
        with pytest.raises(PullError, match=r"delivers thor\.stop\.outcomes: set its filter"):
            await task
    assert pull.received == []


@pytest.mark.parametrize("places", [0, 2])
async def test_an_interruption_ends_the_pull_whatever_it_waits_for(places: int) -> None:
    pull = Pull(places)
    async with pull.running() as task:
        pull.puller.interrupt("lost")
        message = await pull.give_command()
        with pytest.raises(PullError, match="lost"):
            await task
    assert pull.received == []
    assert message.nak.called


@pytest.mark.parametrize("is_connected", [True, False])
async def test_what_is_on_its_way_at_the_end_is_received(is_connected: bool) -> None:
    pull = Pull(2)
    async with pull.running():
        pull.client.is_connected = is_connected
    assert pull.subscription.drain.called is is_connected
    assert pull.subscription.unsubscribe.called is not is_connected
