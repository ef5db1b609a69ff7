"""The current key from a function, plain or async: what it may cost, and how it may fail."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests import virtual_time
from tests.conftest import KEY, Rests
from tests.fake_transport import OK, FakeTransport, fleet
from thor_async import (
    BatchGaveUp,
    NotSentError,
    ServerError,
    StopOutcome,
    ThorError,
)
from thor_async._protocol.http_messages import Answer, Request
from thor_async._transport.deadlines import Deadlines

NEVER = 3600.0


class KeyedTransport(FakeTransport):
    """Keeps the key of each request."""

    def __init__(self, *answers: Answer) -> None:
        left = iter(answers)
        super().__init__(lambda *_: next(left, OK), latency=0.1)
        self.keys: list[str] = []

    async def send(
        self, request: Request, key: str, seconds: float, deadlines: Deadlines
    ) -> Answer | ThorError:
        self.keys.append(str(key))
        return await super().send(request, key, seconds, deadlines)


class Vault:
    """Returns a new key each time, after `seconds`; keeps how many wait, and how they ended."""

    def __init__(self, *seconds: float) -> None:
        self._seconds = list(seconds)
        self.asked = self.waiting = 0

    async def __call__(self) -> str:
        self.asked += 1
        number = self.asked
        self.waiting += 1
        try:
            await asyncio.sleep(self._seconds.pop(0) if self._seconds else 0.0)
        finally:
            self.waiting -= 1
        return f"key-{number}"


def under_virtual_time(test: Callable[..., Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        virtual_time.run(test)

    run.__name__ = test.__name__
    return run


@under_virtual_time
async def test_an_async_key_is_asked_for_before_each_try() -> None:
    thor, rests, vault = KeyedTransport(Answer(503)), Rests(), Vault(1.0, 2.0)
    with thor.installed():
        async with thor.client(retry=rests.policy()) as first:
            outcome = await first.with_options(api_key=vault).stop_charge(next(fleet(1)))
    assert thor.keys == ["key-1", "key-2"]
    assert outcome.attempts == 2
    assert outcome.elapsed == pytest.approx(3.2)


@under_virtual_time
async def test_a_vault_that_hangs_ends_the_call_with_its_timeout_as_not_sent() -> None:
    thor, vault = KeyedTransport(), Vault(NEVER)
    with thor.installed():
        async with thor.client() as first:
            with pytest.raises(NotSentError) as ended:
                await first.with_options(api_key=vault).stop_charge(next(fleet(1)), timeout=7.0)
    assert ended.value.reason == "timeout"
    assert ended.value.message == "the api_key function did not return in time"
    assert ended.value.attempts == 0
    assert (vault.waiting, thor.keys) == (0, [])


@under_virtual_time
async def test_a_vault_that_hangs_before_a_retry_leaves_the_error_of_the_try() -> None:
    thor, vault = KeyedTransport(Answer(503)), Vault(0.0, NEVER)
    with thor.installed():
        async with thor.client() as first:
            with pytest.raises(ServerError) as ended:
                await first.with_options(api_key=vault).stop_charge(next(fleet(1)), timeout=7.0)
    assert ended.value.maybe_applied
    assert len(thor.keys) == 1


@under_virtual_time
async def test_a_call_that_waits_for_a_vault_is_cancelled_at_once() -> None:
    loop = asyncio.get_running_loop()
    thor, vault = KeyedTransport(), Vault(NEVER)
    with thor.installed():
        async with thor.client() as first:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.0):
                    await first.with_options(api_key=vault).stop_charge(next(fleet(1)))
    assert loop.time() == pytest.approx(1.0)
    assert vault.waiting == 0


@under_virtual_time
async def test_a_vault_that_hangs_holds_no_permit_of_another_account() -> None:
    loop = asyncio.get_running_loop()
    thor, vault = KeyedTransport(), Vault(*[NEVER] * 50)
    with thor.installed():
        async with thor.client(max_in_flight=1) as first:
            dark = asyncio.create_task(first.with_options(api_key=vault).stop_many(fleet(20)))
            await asyncio.sleep(1.0)
            assert vault.waiting > 1
            await first.stop_charge(next(fleet(1)))
            assert loop.time() == pytest.approx(1.1)
            outcomes = await dark
    assert len(outcomes) == 20
    assert reasons(outcomes) == {"timeout"}


@under_virtual_time
async def test_a_client_that_is_closed_waits_for_no_vault() -> None:
    loop = asyncio.get_running_loop()
    thor, vault = KeyedTransport(), Vault(NEVER)
    with thor.installed():
        async with thor.client() as first:
            stopping = first.with_options(api_key=vault).stop_charge(next(fleet(1)))
            task = asyncio.create_task(stopping)
            await asyncio.sleep(1.0)
        with pytest.raises(NotSentError) as ended:
            await task
    assert ended.value.reason == "closed"
    assert loop.time() == pytest.approx(1.0)


@under_virtual_time
async def test_a_slow_vault_does_not_slow_a_batch_down_to_one_after_another() -> None:
    loop = asyncio.get_running_loop()
    thor, vault = KeyedTransport(), Vault(*[1.0] * 100)
    with thor.installed():
        async with thor.client(max_in_flight=10) as first:
            outcomes = await first.with_options(api_key=vault).stop_many(fleet(100))
    assert {outcome.error for outcome in outcomes} == {None}
    assert thor.most_in_flight <= 10
    assert loop.time() < 10


def reasons(outcomes: list[StopOutcome]) -> set[str]:
    return {outcome.error.reason for outcome in outcomes if isinstance(outcome.error, NotSentError)}


async def closed_vault() -> str:
    await asyncio.sleep(1.0)
    raise OSError(f"no lease for {KEY}")


def plain_closed_vault() -> str:
    raise OSError(f"no lease for {KEY}")


async def bad_vault() -> str:
    return f"{KEY}\n"


WHY = {
    closed_vault: "the api_key function raised OSError at test_api_key.py:{}",
    plain_closed_vault: "the api_key function raised OSError at test_api_key.py:{}",
    bad_vault: "the api_key function failed: the API key must be printable ASCII without blanks: "
    "look for a line end or a blank that was copied with it",
}


def why_of(vault: Any) -> str:
    code = vault.__code__
    return WHY[vault].format(max(line for _, _, line in code.co_lines() if line))


@pytest.mark.parametrize("vault", WHY)
def test_a_key_function_that_fails_is_named_wherever_its_failure_is_told(
    vault: Any, caplog: pytest.LogCaptureFixture
) -> None:
    why = why_of(vault)

    async def main() -> None:
        thor = KeyedTransport()
        with thor.installed():
            async with thor.client(max_in_flight=4) as first:
                account = first.with_options(api_key=vault)
                with pytest.raises((OSError, ValueError)):
                    await account.stop_charge(next(fleet(1)))
                assert f"broken off because {why}" in caplog.text
                outcomes = await account.stop_many(fleet(20))
                assert {o.error.message for o in outcomes if o.error} == {
                    f"the batch gave up: {why}"
                }
                assert reasons(outcomes) == {"gave_up"}
                async with account.stop_stream(fleet(20)) as stream:
                    with pytest.raises(BatchGaveUp) as gave_up:
                        async for outcome in stream:
                            assert outcome.error is not None
                assert str(gave_up.value) == f"the batch gave up: {why}"
                assert f"batch gave up: {why}" in caplog.text
        assert thor.keys == []

    virtual_time.run(main)


@under_virtual_time
async def test_a_key_function_that_fails_is_not_asked_again_by_the_rest_of_a_batch() -> None:
    asked = 0

    def count() -> str:
        nonlocal asked
        asked += 1
        raise OSError

    thor = KeyedTransport()
    with thor.installed():
        async with thor.client() as first:
            await first.with_options(api_key=count).stop_many(fleet(1000))
    assert asked == 1
