"""The accounts of the emulator: their keys and their rate limits."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from tests import virtual_time
from tests.emulator.harness import (
    STOP,
    Client,
    error_body,
    logged,
    running_emulator,
    under_virtual_time,
)
from thor_async.emulator import Faults, RateLimits, ScriptedAnswer, ThorEmulator

THROTTLED = (429, error_body("TooManyRequests"))
OTHER = {"X-Api-Key": "other-key"}


async def statuses(client: Client, count: int, **changes: Any) -> list[int]:
    return [(await client.stop(**changes))[0] for _ in range(count)]


async def retry_after(client: Client, **changes: Any) -> str | None:
    """Sends a stop that is throttled, and returns its Retry-After."""
    url = f"{client.thor.base_url}/charges/stop"
    async with client.session.post(url, json=STOP | changes, headers=client.headers) as response:
        assert response.status == 429
        return response.headers.get("Retry-After")


@under_virtual_time
async def test_a_request_without_a_token_is_throttled(thor: ThorEmulator, client: Client) -> None:
    thor.set_limits(RateLimits(rate=0.5, burst=2))
    assert await statuses(client, 3) == [404, 404, 429]
    thor.start_charge("A", 1, "T")
    assert await client.stop() == THROTTLED
    assert thor.charges
    assert logged(thor)[-1] == (429, "TooManyRequests", None)
    await asyncio.sleep(2)
    assert await statuses(client, 2) == [200, 429]
    assert not thor.charges


def test_the_limits_can_be_given_when_the_emulator_is_made() -> None:
    async def scenario() -> list[int]:
        async with running_emulator(limits=RateLimits(rate=0.001, burst=1)) as (_, client):
            return await statuses(client, 2)

    assert virtual_time.run(scenario) == [404, 429]


async def test_the_default_is_no_limit(thor: ThorEmulator, client: Client) -> None:
    assert set(await statuses(client, 100)) == {404}
    assert thor.ledger.throttled == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "charges/running"),
        ("GET", "chargeboxes"),
        ("GET", "chargeboxes/A"),
        ("POST", "charges/start"),
        ("POST", "charges/stop"),
    ],
)
def test_every_request_takes_a_token(method: str, path: str) -> None:
    @under_virtual_time
    async def scenario(thor: ThorEmulator, client: Client) -> None:
        thor.set_limits(RateLimits(rate=0.001, burst=1))
        thor.add_chargebox("A")
        assert (await client.ask(method, path, json=STOP))[0] in (200, 400)
        charges = dict(thor.charges)
        assert await client.ask(method, path, json=STOP | {"connector": 2}) == THROTTLED
        assert thor.charges == charges
        assert await client.ask("GET", "charges/running") == THROTTLED
        assert await client.stop() == THROTTLED

    scenario()


@under_virtual_time
async def test_the_ledger_counts_what_was_throttled(thor: ThorEmulator, client: Client) -> None:
    thor.set_limits(RateLimits(rate=0.001, burst=3))
    await client.ask("GET", "charges/running")
    await statuses(client, 5)
    await client.ask("GET", "charges/running")
    assert (len(thor.ledger.requests), thor.ledger.throttled) == (5, thor.ledger.requests[2:])
    assert (len(thor.ledger.reads), thor.ledger.throttled_reads) == (2, thor.ledger.reads[1:])
    assert [r.authorized for r in thor.ledger.requests] == [True] * 5


@under_virtual_time
async def test_a_steady_overload_gets_the_rate(thor: ThorEmulator, client: Client) -> None:
    thor.set_limits(RateLimits(rate=5, burst=10))
    thor.faults = Faults(latency=(0.05, 0.3))
    stops = []
    for _ in range(1000):
        stops.append(asyncio.create_task(client.stop()))
        await asyncio.sleep(0.02)
    await asyncio.gather(*stops)
    accepted = len(thor.ledger.requests) - len(thor.ledger.throttled)
    assert len(thor.ledger.requests) == 1000
    assert 105 <= accepted <= 111  # the burst, and 5 a second for 20 s


@under_virtual_time
async def test_a_token_is_taken_at_the_receipt(thor: ThorEmulator, client: Client) -> None:
    thor.set_limits(RateLimits(rate=1, burst=1))
    thor.faults = Faults(latency=(60.0, 60.0))
    answers = await asyncio.gather(client.stop(), client.stop())
    assert sorted(status for status, _ in answers) == [404, 429]


@under_virtual_time
async def test_each_chargebox_has_its_own_rate(thor: ThorEmulator, client: Client) -> None:
    thor.set_limits(RateLimits(chargebox_rate=0.5, chargebox_burst=2))
    assert await statuses(client, 3) == [404, 404, 429]
    assert await statuses(client, 3, chargebox="B") == [404, 404, 429]
    assert await client.ask("GET", "charges/running?chargebox=A") == (
        200,
        {"count": 0, "items": [], "users": {}},
    )
    assert (await client.ask("POST", "charges/start", json=STOP))[0] == 404
    assert await client.ask("POST", "charges/stop", data=b"{") == (400, error_body("BadRequest"))
    await asyncio.sleep(2)
    assert await statuses(client, 2) == [404, 429]


@under_virtual_time
async def test_only_the_named_chargeboxes_are_limited(thor: ThorEmulator, client: Client) -> None:
    thor.set_limits(
        RateLimits(chargebox_rate=0.5, chargebox_burst=1, limited_chargeboxes={"A", "B"})
    )
    assert await statuses(client, 2) == [404, 429]
    assert await statuses(client, 2, chargebox="B") == [404, 429]
    assert await statuses(client, 9, chargebox="C") == [404] * 9


async def test_one_chargebox_that_is_always_throttled(thor: ThorEmulator, client: Client) -> None:
    thor.always("TooManyRequests", chargebox="A")
    assert await client.stop() == THROTTLED
    assert (await client.stop(chargebox="B"))[0] == 404
    assert len(thor.ledger.throttled) == 1


@under_virtual_time
async def test_a_throttled_chargebox_costs_tokens_of_the_account(
    thor: ThorEmulator, client: Client
) -> None:
    thor.set_limits(RateLimits(rate=0.001, burst=3, chargebox_rate=0.001, chargebox_burst=1))
    assert await statuses(client, 2) == [404, 429]
    assert await statuses(client, 2, chargebox="B") == [404, 429]
    assert await statuses(client, 1, chargebox="C") == [429]


@under_virtual_time
async def test_accounts_have_their_own_limits_and_share_the_charges(
    thor: ThorEmulator, client: Client
) -> None:
    thor.set_limits(RateLimits(rate=0.001, burst=1, chargebox_rate=0.001, chargebox_burst=1))
    thor.add_account("other-key", RateLimits(rate=0.001, burst=2))
    thor.add_account("third-key")
    other = Client(thor, client.session)
    other.headers = OTHER
    thor.start_charge("A", 1, "T")
    assert await statuses(client, 2, chargebox="B") == [404, 429]
    assert await statuses(other, 3) == [200, 400, 429]
    client.headers = {"X-Api-Key": "third-key"}
    assert await statuses(client, 50) == [400] * 50


@under_virtual_time
async def test_a_wrong_key_takes_no_token(thor: ThorEmulator, client: Client) -> None:
    thor.set_limits(RateLimits(rate=0.001, burst=1))
    wrong = Client(thor, client.session)
    wrong.headers = OTHER
    assert await statuses(wrong, 3) == [403] * 3
    assert await statuses(client, 2) == [404, 429]
    thor.api_key = "renewed"
    assert await client.stop() == (403, error_body("APIKeyNotFound"))
    client.headers = {"X-Api-Key": "renewed"}
    assert await client.stop() == THROTTLED


@under_virtual_time
async def test_a_disabled_account_is_throttled_too(thor: ThorEmulator, client: Client) -> None:
    thor.set_limits(RateLimits(rate=0.001, burst=1))
    thor.enabled = False
    assert await statuses(client, 2) == [403, 429]
    assert [r.authorized for r in thor.ledger.requests] == [False, False]


def test_an_account_needs_a_key_of_its_own() -> None:
    thor = ThorEmulator()
    thor.add_account("other-key")
    for key in ("other-key", thor.api_key):
        with pytest.raises(ValueError, match="exists already"):
            thor.add_account(key)
    with pytest.raises(ValueError, match="no account has this api_key"):
        thor.set_limits(RateLimits(), api_key="no-such-key")
    with pytest.raises(ValueError, match="printable ASCII"):
        thor.add_account("a b")


@under_virtual_time
async def test_by_default_there_is_no_retry_after(thor: ThorEmulator, client: Client) -> None:
    thor.set_limits(RateLimits(rate=0.001, burst=1))
    await client.stop()
    assert await retry_after(client) is None


@under_virtual_time
async def test_a_fixed_retry_after(thor: ThorEmulator, client: Client) -> None:
    thor.set_limits(RateLimits(rate=0.001, burst=1, chargebox_rate=1, retry_after=7))
    await client.stop()
    assert await retry_after(client) == "7"
    thor.set_limits(RateLimits(chargebox_rate=0.001, chargebox_burst=1, retry_after=0))
    assert await retry_after(client, chargebox="A") == "0"


@under_virtual_time
async def test_a_retry_after_that_is_true(thor: ThorEmulator, client: Client) -> None:
    thor.set_limits(RateLimits(rate=0.1, burst=1, retry_after="next-token"))
    await client.stop()
    assert await retry_after(client) == "10"
    await asyncio.sleep(2.5)
    assert await retry_after(client) == "8"
    await asyncio.sleep(7.4)
    assert await retry_after(client) == "1"
    await asyncio.sleep(0.1)
    assert (await client.stop())[0] == 404
    assert await retry_after(client) == "10"
    await asyncio.sleep(10)
    assert (await client.stop())[0] == 404


@under_virtual_time
async def test_the_true_retry_after_of_a_chargebox(thor: ThorEmulator, client: Client) -> None:
    thor.set_limits(
        RateLimits(rate=100, chargebox_rate=0.2, chargebox_burst=1, retry_after="next-token")
    )
    await client.stop()
    assert await retry_after(client) == "5"


@under_virtual_time
async def test_the_quota_ends_the_answers(thor: ThorEmulator, client: Client) -> None:
    thor.set_limits(RateLimits(quota=2, retry_after=7))
    assert await statuses(client, 2) == [404, 404]
    thor.start_charge("A", 1, "T")
    assert await client.stop() == (429, error_body("Limit Exceeded"))
    assert await retry_after(client) is None
    assert thor.charges
    assert await client.ask("GET", "charges/running") == (429, error_body("Limit Exceeded"))
    await asyncio.sleep(60)
    assert (await client.stop())[0] == 429
    assert len(thor.ledger.throttled) == 3
    thor.set_limits(RateLimits(quota=3))
    assert await statuses(client, 2) == [200, 429]


@under_virtual_time
async def test_a_throttled_request_does_not_count_for_the_quota(
    thor: ThorEmulator, client: Client
) -> None:
    thor.set_limits(RateLimits(rate=1, burst=1, quota=2))
    assert await statuses(client, 3) == [404, 429, 429]
    await asyncio.sleep(1)
    assert (await client.stop())[0] == 404
    assert await client.stop() == (429, error_body("Limit Exceeded"))


async def test_limit_exceeded_can_be_scripted(thor: ThorEmulator, client: Client) -> None:
    thor.script("Limit Exceeded")
    assert await client.stop() == (429, error_body("Limit Exceeded"))


@under_virtual_time
async def test_the_limits_change_while_it_runs(thor: ThorEmulator, client: Client) -> None:
    thor.set_limits(RateLimits(rate=1, burst=4, chargebox_rate=100))
    assert await statuses(client, 5) == [404] * 4 + [429]
    await asyncio.sleep(2)
    thor.set_limits(RateLimits(rate=2, burst=8, chargebox_rate=0.1, chargebox_burst=8))
    assert await statuses(client, 3, chargebox="B") == [404, 404, 429]
    await asyncio.sleep(2)
    assert await statuses(client, 5, chargebox="B") == [404] * 4 + [429]
    thor.set_limits(RateLimits())
    assert await statuses(client, 20) == [404] * 20
    thor.set_limits(RateLimits(rate=1, burst=2))
    assert await statuses(client, 3) == [404, 404, 429]


@under_virtual_time
async def test_the_limits_of_another_account_change(thor: ThorEmulator, client: Client) -> None:
    thor.add_account("other-key")
    thor.set_limits(RateLimits(rate=0.001, burst=1), api_key="other-key")
    assert await statuses(client, 3) == [404] * 3
    client.headers = OTHER
    assert await statuses(client, 2) == [404, 429]


@under_virtual_time
async def test_a_chargebox_rate_that_changes(thor: ThorEmulator, client: Client) -> None:
    thor.set_limits(RateLimits(chargebox_rate=0.001, chargebox_burst=1))
    assert await statuses(client, 2) == [404, 429]
    thor.set_limits(RateLimits(chargebox_rate=1, chargebox_burst=1))
    assert await statuses(client, 1) == [429]
    await asyncio.sleep(1)
    assert await statuses(client, 2) == [404, 429]
    thor.set_limits(RateLimits())
    thor.set_limits(RateLimits(chargebox_rate=0.001, chargebox_burst=2))
    assert await statuses(client, 3) == [404, 404, 429]


@under_virtual_time
async def test_a_script_goes_before_the_limits_and_takes_a_token(
    thor: ThorEmulator, client: Client
) -> None:
    thor.set_limits(RateLimits(rate=0.001, burst=1))
    thor.script(500, ScriptedAnswer(503))
    assert await statuses(client, 3) == [500, 503, 429]


@under_virtual_time
async def test_the_limits_go_before_the_faults(thor: ThorEmulator, client: Client) -> None:
    thor.set_limits(RateLimits(rate=0.001, burst=1))
    thor.faults = Faults(error_before=1.0)
    assert (await client.stop())[0] >= 500
    assert await client.stop() == THROTTLED


def test_the_faults_depend_on_the_order_of_receipt_only() -> None:
    async def accepted(limits: RateLimits) -> list[int | None]:
        async with running_emulator(limits=limits, faults=Faults(error_before=0.5)) as (
            thor,
            client,
        ):
            for _ in range(100):
                await client.stop()
                await asyncio.sleep(0.1)
            return [r.status for r in thor.ledger.requests]

    free = virtual_time.run(lambda: accepted(RateLimits()))
    limited = virtual_time.run(lambda: accepted(RateLimits(rate=3)))
    assert 20 < limited.count(429) < 80
    assert all(b in (a, 429) for a, b in zip(free, limited, strict=True))


def test_a_new_run_starts_with_full_buckets_and_a_new_quota() -> None:
    thor = ThorEmulator(limits=RateLimits(quota=2, chargebox_rate=0.001, chargebox_burst=1))
    thor.add_account("other-key", RateLimits(rate=0.001, burst=1))

    async def scenario() -> list[int]:
        thor._sock = virtual_time.listener()
        async with thor, aiohttp.ClientSession() as session:
            client = Client(thor, session)
            found = await statuses(client, 2)
            found += await statuses(client, 2, chargebox="B")
            client.headers = OTHER
            return found + await statuses(client, 2)

    for _ in range(2):
        assert virtual_time.run(scenario) == [404, 429, 404, 429, 404, 429]
    assert len(thor.ledger.throttled) == 6
