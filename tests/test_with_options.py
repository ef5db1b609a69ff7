"""Clients for several accounts on one set of connections."""

from __future__ import annotations

import asyncio
import gc
import pickle
from collections import Counter
from typing import Any

import pytest

from tests import virtual_time
from tests.fake_transport import OK, FakeTransport, fleet, thor_says
from thor_async import (
    APIKeyNotFound,
    NotSentError,
    RetryPolicy,
    StopCharge,
    ThorClient,
    ThorError,
    Verdict,
)
from thor_async._protocol.http_messages import Answer, Request
from thor_async._transport.deadlines import Deadlines
from thor_async.emulator import ThorEmulator

COMMAND = StopCharge("box", 1, "tag", 7)


class Accounts(FakeTransport):
    """Answers by the key of the request."""

    def __init__(self, answers: dict[str, Answer | None], latency: float = 0.05) -> None:
        super().__init__(lambda *_: OK, latency)
        self.answers = answers
        self.asked: Counter[str] = Counter()

    async def send(
        self, request: Request, key: str, seconds: float, deadlines: Deadlines
    ) -> Answer | ThorError:
        self.asked[key] += 1
        answer = self.answers.get(key, OK)
        self.reply = lambda *_: answer
        return await super().send(request, key, seconds, deadlines)


async def test_each_account_uses_its_key_over_the_same_connections() -> None:
    keys = [f"key-{number}" for number in range(5)]
    async with ThorEmulator() as emulator:
        for number, key in enumerate(keys):
            emulator.add_account(key)
            emulator.start_charge(f"box-{number}", 1, "tag", number + 1)
        emulator.start_charge("box", 1, "tag", 7)
        async with ThorClient(emulator.api_key, base_url=emulator.base_url) as thor:
            await thor.stop_charge(COMMAND)
            for command, key in zip(fleet(5), keys, strict=True):
                assert (await thor.with_options(api_key=key).stop_charge(command)).error is None
            with pytest.raises(APIKeyNotFound):
                await thor.with_options(api_key="wrong").stop_charge(COMMAND)


def test_what_is_not_given_stays_as_it_is() -> None:
    policy = RetryPolicy(max_attempts=7)
    events: list[Any] = []
    thor = ThorClient(
        "key", base_url="https://thor.example/a", timeout=9.0, attempt_timeout=3.0, retry=policy,
        max_rate=5.0, on_event=events.append,
    )  # fmt: skip
    assert thor.with_options()._settings == thor._settings
    other = thor.with_options(
        api_key="other", timeout=8, attempt_timeout=2, retry=RetryPolicy(), max_rate=4
    )
    settings = other._settings
    assert str(settings.key) == "other"
    assert (settings.timeout, settings.attempt_timeout, settings.max_rate) == (8.0, 2.0, 4.0)
    assert settings.policy == RetryPolicy()
    assert settings.base_url == "https://thor.example/a"
    assert settings.emitter is thor._settings.emitter
    assert other.with_options()._settings == settings
    assert "other" not in repr(other)


@pytest.mark.parametrize(
    "options",
    [
        {"api_key": ""},
        {"api_key": "a b"},
        {"timeout": 0},
        {"timeout": "5"},
        {"attempt_timeout": -1},
        {"max_rate": 0},
        {"max_rate": True},
        {"max_rate": float("inf")},
        {"max_rate": float("nan")},
        {"retry": 3},
        {"on_event": 3},
    ],
    ids=str,
)
def test_bad_options_are_refused_when_they_are_given(options: dict[str, Any]) -> None:
    thor = ThorClient("key")
    with pytest.raises(ValueError, match=r"must|no API key"):
        thor.with_options(**options)


async def test_it_works_while_its_parent_is_open_and_needs_no_block() -> None:
    transport = Accounts({})
    with transport.installed():
        thor = transport.client()
        other = thor.with_options(api_key="other")
        with pytest.raises(RuntimeError, match="not open"):
            await other.stop_charge(COMMAND)
        async with thor:
            await other.stop_charge(COMMAND)
            await other.with_options(timeout=3).stop_charge(COMMAND)
        with pytest.raises(RuntimeError, match="closed"):
            await other.stop_charge(COMMAND)
        with pytest.raises(RuntimeError, match="closed"):
            await thor.with_options(api_key="new").stop_charge(COMMAND)
    assert transport.asked == {"other": 2}


async def test_a_block_of_its_own_ends_only_its_own_calls() -> None:
    transport = Accounts({"other": None})
    with transport.installed():
        async with transport.client() as thor:
            async with thor.with_options(api_key="other", attempt_timeout=0.1) as other:
                hanging = asyncio.ensure_future(other.stop_many(fleet(3)))
                while transport.asked["other"] < 3:
                    await asyncio.sleep(0)
            outcomes = await hanging
            assert {outcome.verdict for outcome in outcomes} == {Verdict.INDETERMINATE}
            with pytest.raises(RuntimeError, match="closed"):
                await other.stop_charge(COMMAND)
            await thor.stop_charge(COMMAND)
            await other.aclose()
            await thor.with_options(api_key="third").stop_charge(COMMAND)


async def test_closing_it_waits_for_no_other_call() -> None:
    transport = Accounts({"key": None})
    with transport.installed():
        async with transport.client(attempt_timeout=5.0) as thor:
            hanging = asyncio.ensure_future(thor.stop_charge(COMMAND))
            while not transport.asked:
                await asyncio.sleep(0)
            async with asyncio.timeout(1):
                async with thor.with_options(api_key="other") as other:
                    await other.stop_charge(COMMAND)
            hanging.cancel()


@pytest.mark.parametrize("is_kept", [True, False])
async def test_closing_the_parent_ends_the_calls_of_all(is_kept: bool) -> None:
    transport = Accounts({"other": None})
    kept = []
    with transport.installed():
        async with transport.client(attempt_timeout=0.1) as thor:
            other = thor.with_options(api_key="other", attempt_timeout=60.0)
            hanging = asyncio.ensure_future(other.stop_many(fleet(100)))
            while transport.asked["other"] < 32:
                await asyncio.sleep(0)
            if is_kept:
                kept.append(other)
            del other
            gc.collect()
        outcomes = await hanging
    assert transport.asked["other"] == 32
    assert Counter(outcome.verdict for outcome in outcomes) == {
        Verdict.INDETERMINATE: 32,
        Verdict.NOT_SENT: 68,
    }
    errors = [outcome.error for outcome in outcomes if outcome.verdict is Verdict.NOT_SENT]
    assert all(isinstance(error, NotSentError) and error.reason == "closed" for error in errors)


async def test_all_share_the_limit_of_requests_in_flight() -> None:
    transport = Accounts({}, latency=0.01)
    with transport.installed():
        async with transport.client(max_in_flight=4) as thor:
            clients = [thor.with_options(api_key=f"key-{n}") for n in range(10)]
            await asyncio.gather(*(client.stop_many(fleet(10)) for client in clients))
    assert transport.most_in_flight == 4


@pytest.mark.parametrize(
    "answer",
    [thor_says("APIKeyNotFound", 403), thor_says("TooManyRequests", 429), Answer(503), None],
    ids=["wrong key", "limit", "outage", "silence"],
)
def test_the_trouble_of_one_account_slows_no_other(answer: Answer | None) -> None:
    ends: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for answers in ({}, {"bad": answer}):
            transport = Accounts(dict(answers))
            with transport.installed():
                async with transport.client(max_in_flight=64, attempt_timeout=1.0) as thor:
                    bad = thor.with_options(api_key="bad", retry=RetryPolicy(retry_throttled=True))
                    trouble = asyncio.ensure_future(bad.stop_many(fleet(200), within=20.0))
                    await asyncio.sleep(0.2)
                    began = loop.time()
                    outcomes = await thor.with_options(api_key="good").stop_many(fleet(1000))
                    assert {outcome.verdict for outcome in outcomes} == {Verdict.RELAYED}
                    ends.append(loop.time() - began)
                    await trouble

    virtual_time.run(main)
    # The bad one holds its half of the permits until its first attempts end.
    assert ends[1] <= ends[0] * 1.1 + (1.0 if answer is None else 0.0)


def test_it_is_neither_copied_nor_pickled() -> None:
    with pytest.raises(TypeError, match="cannot be copied"):
        pickle.dumps(ThorClient("key").with_options(api_key="other"))
