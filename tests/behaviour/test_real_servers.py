"""A client behind nginx and HAProxy: what they do of themselves never makes a verdict too good."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from aiohttp.connector import Connection

from thor_async import (
    ConnectionLost,
    NotInTransaction,
    RetryPolicy,
    ServerError,
    StopCharge,
    StopOutcome,
    ThorClient,
    ThorError,
    Verdict,
)
from thor_async._transport.guard import Guard
from thor_async.emulator import Faults, ScriptedAnswer, ThorEmulator

from ..conftest import KEY, TAG
from ..fault_server import refusing_port
from ..real_servers import MISSING, NEEDED, RealServer, find_server, run_server
from ..transport.test_connections import record_calls

PREFIX = "/latest/integration"
QUICK = RetryPolicy(initial_delay=0.001, max_delay=0.002)

SERVERS = ["nginx", "haproxy"]
over_both = pytest.mark.parametrize("name", SERVERS)
over_tls_too = pytest.mark.parametrize("is_secure", [False, True], ids=["plain", "tls"])


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize(("needed", "ending"), [("", pytest.skip), ("1", pytest.fail)])
def test_without_a_server_a_test_is_skipped_unless_it_is_needed(
    name: str, needed: str, ending: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda *args, **options: None)
    monkeypatch.setenv(NEEDED, needed)
    with pytest.raises(ending.Exception) as caught:
        find_server(name)
    assert MISSING.format(name) in str(caught.value)


class Site:
    """A client of a server before the emulator, and all charges."""

    def __init__(
        self,
        emulator: ThorEmulator,
        server: RealServer,
        thor: ThorClient,
        new_client: Callable[[], ThorClient],
    ) -> None:
        self.emulator, self.server = emulator, server
        self.thor, self.new_client = thor, new_client

    def commands(self, count: int) -> list[StopCharge]:
        """Starts so many charges, and returns the commands that stop them."""
        charges = [self.emulator.start_charge(f"box-{n}", 1, TAG) for n in range(count)]
        return [StopCharge(c.chargebox, 1, TAG, c.transaction) for c in charges]

    def check(self, commands: Sequence[StopCharge], outcomes: Sequence[StopOutcome]) -> None:
        """Checks that there is one outcome for each command, and none better than the truth."""
        assert Counter(outcome.command for outcome in outcomes) == Counter(commands)
        ledger = self.emulator.ledger
        assert ledger.overclaims(outcomes) == []
        relayed = {request.effect for request in ledger.effects}
        for outcome in outcomes:
            if outcome.verdict is Verdict.RELAYED:
                assert outcome.command.transaction in relayed


@asynccontextmanager
async def open_site(
    name: str,
    folder: Path,
    emulator: ThorEmulator,
    *,
    upstream: str = "",
    is_secure: bool = False,
    server_settings: str = "",
    server_timeout: float = 30.0,
    **settings: Any,
) -> AsyncIterator[Site]:
    """Opens a client of a server that runs before `upstream`, by default the emulator."""
    authority = trustme.CA() if is_secure else None
    trusting = ssl.create_default_context() if authority else None
    if authority and trusting:
        authority.configure_trust(trusting)
    settings = {"retry": QUICK, "ssl": trusting} | settings
    async with run_server(
        name,
        upstream or emulator.base_url.removesuffix(PREFIX),
        folder,
        authority=authority,
        settings=server_settings,
        timeout=server_timeout,
    ) as server:
        new_client = partial(ThorClient, KEY, base_url=server.address + PREFIX, **settings)
        async with new_client() as thor:
            yield Site(emulator, server, thor, new_client)


def count_lost(outcomes: Sequence[StopOutcome]) -> int:
    """Returns how many answers were lost; the other stops were relayed."""
    lost = [outcome.error for outcome in outcomes if outcome.error is not None]
    assert {type(error) for error in lost} <= {ConnectionLost}
    print(f"{len(lost)} of {len(outcomes)} lost")
    return len(lost)


@over_tls_too
async def test_a_reload_within_a_batch_costs_few_answers(
    is_secure: bool, tmp_path: Path, emulator: ThorEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nginx closes idle connections then, and those in use after the answer, without a word."""
    emulator.faults = Faults(latency=(0.0, 0.02))
    connections = record_calls(monkeypatch, Guard, "read_before_first")
    async with open_site("nginx", tmp_path, emulator, is_secure=is_secure) as site:
        commands, outcomes = site.commands(1000), []
        async with site.thor.stop_stream(commands) as stream:
            async for outcome in stream:
                outcomes.append(outcome)
                if len(outcomes) in (200, 400, 600, 800):
                    site.server.reload()
    site.check(commands, outcomes)
    assert len(connections) >= 64
    assert count_lost(outcomes) <= 3


KEEPS_100_MS = {
    "nginx": "keepalive_timeout 100ms;",
    "haproxy": "timeout http-keep-alive 100ms",
}

# Three times what was seen, also on a busy machine. HAProxy ends TLS up to 10 ms early.
MOST_LOST = {"nginx": 6, "haproxy": 18}


@over_both
@over_tls_too
async def test_a_keep_alive_that_ends_costs_few_answers(
    name: str,
    is_secure: bool,
    tmp_path: Path,
    emulator: ThorEmulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connections = record_calls(monkeypatch, Guard, "read_before_first")
    dice = random.Random(1)
    outcomes: list[StopOutcome] = []

    async def stop_now_and_then(site: Site, commands: list[StopCharge]) -> None:
        async with site.new_client() as thor:
            for command in commands:
                outcomes.extend(await thor.stop_many([command]))
                # Its connection has just been closed, or is when the next request arrives.
                await asyncio.sleep(dice.uniform(0.05, 0.15))

    async with open_site(
        name, tmp_path, emulator, is_secure=is_secure, server_settings=KEEPS_100_MS[name]
    ) as site:
        commands = site.commands(16 * 10)
        await asyncio.gather(*(stop_now_and_then(site, commands[n::16]) for n in range(16)))
    site.check(commands, outcomes)
    assert len(connections) >= 32
    assert count_lost(outcomes) <= MOST_LOST[name]


async def test_a_limit_of_nginx_is_outlasted(tmp_path: Path, emulator: ThorEmulator) -> None:
    limit = (
        "limit_req_zone $http_x_api_key zone=account:1m rate=100r/s; "
        "limit_req zone=account burst=20 nodelay; limit_req_status 429;"
    )
    policy = RetryPolicy(retry_throttled=True)
    async with open_site("nginx", tmp_path, emulator, server_settings=limit, retry=policy) as site:
        commands = site.commands(60)
        outcomes = await site.thor.stop_many(commands)
    site.check(commands, outcomes)
    assert {outcome.verdict for outcome in outcomes} == {Verdict.RELAYED}
    assert sum(outcome.attempts for outcome in outcomes) > 60
    assert len(emulator.ledger.requests) == 60


FAULTS = {
    "drops": (ScriptedAnswer(drop=True, effect=True), 502),
    "slow": (ScriptedAnswer(200, b"{}", effect=True, delay=1.0), 504),
}
over_faults = pytest.mark.parametrize(("answer", "status"), FAULTS.values(), ids=FAULTS)


@over_both
@pytest.mark.parametrize("attempts", [1, 3])
async def test_a_gateway_error_without_an_upstream_is_retried_as_the_policy_says(
    name: str, attempts: int, tmp_path: Path, emulator: ThorEmulator
) -> None:
    policy = RetryPolicy(max_attempts=attempts, initial_delay=0.001)
    with refusing_port() as upstream:
        async with open_site(name, tmp_path, emulator, upstream=upstream, retry=policy) as site:
            [command] = site.commands(1)
            error = await stop(site.thor, command)
    check_server_error(error, {"nginx": 502, "haproxy": 503}[name], attempts)
    assert emulator.ledger.requests == []


@pytest.mark.parametrize(
    ("name", "fault", "attempts"),
    [*product(SERVERS, FAULTS, [1, 3])],
)
async def test_a_gateway_error_after_the_effect_is_retried_as_the_policy_says(
    name: str, fault: str, attempts: int, tmp_path: Path, emulator: ThorEmulator
) -> None:
    policy = RetryPolicy(max_attempts=attempts, initial_delay=0.001)
    answer, status = FAULTS[fault]
    emulator.always(answer)
    async with open_site(
        name,
        tmp_path,
        emulator,
        server_timeout=0.1,
        retry=policy,
    ) as site:
        [command] = site.commands(1)
        error = await stop(site.thor, command)
    if (name, fault, attempts) == ("haproxy", "drops", 3):
        # It answers 502 to the first request of a connection only, and drops the connection else.
        assert type(error) is ConnectionLost
        assert error.maybe_applied
        attempts = error.attempts
        assert attempts == 2
    else:
        check_server_error(error, status, attempts)
    assert len(emulator.ledger.requests) == attempts
    assert len(emulator.ledger.effects) == 1


@over_both
@over_faults
async def test_a_stop_that_a_gateway_error_hid_is_found_by_the_retry(
    name: str, answer: ScriptedAnswer, status: int, tmp_path: Path, emulator: ThorEmulator
) -> None:
    emulator.script(answer)
    async with open_site(name, tmp_path, emulator, server_timeout=0.1) as site:
        [command] = site.commands(1)
        error = await stop(site.thor, command)
    assert isinstance(error, NotInTransaction)
    assert (error.attempts, error.maybe_applied) == (2, True)


def check_server_error(error: ThorError | None, status: int, attempts: int) -> None:
    assert type(error) is ServerError
    assert (error.status, error.attempts) == (status, attempts)
    assert error.verdict is Verdict.INDETERMINATE
    assert error.maybe_applied


@over_tls_too
async def test_a_408_to_a_connection_that_waits_is_no_answer(
    is_secure: bool, tmp_path: Path, emulator: ThorEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request comes late where the loop was blocked between the connection and the request."""
    connect = aiohttp.TCPConnector.connect
    waits = [0.4]

    async def connect_and_wait(*args: Any) -> Connection:
        connection = await connect(*args)
        if waits:
            time.sleep(waits.pop())
        return connection

    monkeypatch.setattr(aiohttp.TCPConnector, "connect", connect_and_wait)
    async with open_site(
        "haproxy",
        tmp_path,
        emulator,
        is_secure=is_secure,
        server_settings="timeout http-request 100ms",
    ) as site:
        commands = site.commands(2)
        outcomes = [outcome for c in commands for outcome in await site.thor.stop_many([c])]
    site.check(commands, outcomes)
    assert waits == []
    late, prompt = outcomes
    # Where the loop tells of the end only, another connection is taken.
    assert late.verdict in (Verdict.NOT_SENT, Verdict.RELAYED)
    assert prompt.verdict is Verdict.RELAYED


async def stop(thor: ThorClient, command: StopCharge) -> ThorError | None:
    try:
        await thor.stop_charge(command)
    except ThorError as error:
        return error
    return None
