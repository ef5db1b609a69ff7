"""The recipe of a batch behind a web request, on a real server, with browsers that come and go."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from tests.cli.browser import Page, browse, find_chromium
from tests.conftest import KEY, TAG, wait_until
from tests.recipes import batch_app, serving
from tests.recipes.serving import Served
from thor_async import OutcomeStream, StopCharge, StopOutcome, ThorClient
from thor_async.emulator import ThorEmulator

BOXES = 200
COMMANDS = [StopCharge(f"box-{number}", 1, TAG, number) for number in range(1, BOXES + 1)]


class Gate:
    """Lets the emulator answer only so many stops."""

    def __init__(self, emulator: ThorEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers = asyncio.Semaphore(0)
        monkeypatch.setattr(emulator, "_wait_latency", lambda rng: self.answers.acquire())

    def let(self, answers: int) -> None:
        for _ in range(answers):
            self.answers.release()


@pytest.fixture
def gate(emulator: ThorEmulator, monkeypatch: pytest.MonkeyPatch) -> Gate:
    emulator.fill(COMMANDS)
    monkeypatch.setattr(batch_app, "ThorClient", functools.partial(ThorClient, max_in_flight=8))
    monkeypatch.setenv("THOR_API_KEY", KEY)
    monkeypatch.setenv("THOR_BASE_URL", emulator.base_url)
    return Gate(emulator, monkeypatch)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(60)) as session:
        yield session


async def start(session: aiohttp.ClientSession, served: Served, commands: Any = COMMANDS) -> str:
    body = msgspec.json.encode(commands)
    async with session.post(f"{served.url}/batches", data=body) as response:
        assert response.status == 202
        page: str = (await response.json())["page"]
    return f"{served.url}{page}"


async def follow(
    session: aiohttp.ClientSession, page: str, events: float, **headers: str
) -> list[dict[str, str]]:
    """Reads so many server-sent events, or all, and leaves."""
    found: list[dict[str, str]] = []
    async with session.get(f"{page}/events", headers=headers) as response:
        assert response.content_type == "text/event-stream"
        event: dict[str, str] = {}
        async for line in response.content:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name:
                event[name] = value
                continue
            found.append(event)
            event = {}
            if len(found) >= events:
                break
    assert TAG not in str(found)
    return found


def rows(events: list[dict[str, str]]) -> list[dict[str, Any]]:
    return [msgspec.json.decode(event["data"]) for event in events if "event" not in event]


async def test_a_batch_goes_on_when_its_browser_leaves(
    gate: Gate, session: aiohttp.ClientSession, emulator: ThorEmulator
) -> None:
    async with serving.by_uvicorn(batch_app.make_app()) as served:
        page = await start(session, served)
        gate.let(55)
        first = await follow(session, page, 1 + 55)
        await wait_until(lambda: not served.browsers())
        gate.let(BOXES)
        await wait_until(lambda: not emulator.charges)
        later = await follow(session, page, float("inf"))
    assert first[0] == later[0] == {"event": "total", "data": str(BOXES)}
    assert len(rows(first)) == 55
    assert rows(later)[:55] == rows(first)
    assert sorted(row["index"] for row in rows(later)) == list(range(BOXES))
    assert {row["verdict"] for row in rows(later)} == {"relayed"}
    assert later[-1] == {"event": "end", "data": '{"not_sent":0,"why":null}'}
    assert len(emulator.ledger.effects) == BOXES


async def test_a_browser_that_comes_back_gets_what_came_after_its_last_row(
    gate: Gate, session: aiohttp.ClientSession
) -> None:
    async with serving.by_uvicorn(batch_app.make_app()) as served:
        page = await start(session, served)
        gate.let(30)
        first = await follow(session, page, 1 + 30)
        assert first[-1]["id"] == "30"
        gate.let(BOXES)
        rest = await follow(session, page, float("inf"), **{"Last-Event-ID": "30"})
        again = await follow(session, page, float("inf"), **{"Last-Event-ID": str(BOXES)})
    assert [event["id"] for event in rest[1:-1]] == [str(n) for n in range(31, BOXES + 1)]
    assert len(rows(first) + rows(rest)) == BOXES
    assert [event["event"] for event in again] == ["total", "end"]


async def test_several_browsers_follow_one_batch(
    gate: Gate, session: aiohttp.ClientSession
) -> None:
    async with serving.by_uvicorn(batch_app.make_app()) as served:
        page = await start(session, served)
        followers = [asyncio.create_task(follow(session, page, float("inf"))) for _ in range(5)]
        gate.let(BOXES)
        seen = await asyncio.gather(*followers)
    assert all(len(rows(events)) == BOXES for events in seen)
    assert all(events == seen[0] for events in seen)


async def test_a_shutdown_ends_the_batch_with_what_is_known(
    gate: Gate,
    session: aiohttp.ClientSession,
    emulator: ThorEmulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is in flight finishes; what has no row was certainly not sent. No follower holds it."""
    is_stopping = asyncio.Event()

    def stop_sending(stream: OutcomeStream[StopCharge, StopOutcome]) -> None:
        original(stream)
        is_stopping.set()

    original = OutcomeStream.stop_sending
    monkeypatch.setattr(OutcomeStream, "stop_sending", stop_sending)
    app = batch_app.make_app()
    async with serving.by_uvicorn(app, timeout_graceful_shutdown=0) as served:
        page = await start(session, served)
        gate.let(20)
        await follow(session, page, 1 + 20)
        await wait_until(lambda: len(emulator.ledger.requests) == 28)
        follower = asyncio.create_task(follow(session, page, float("inf")))
        await wait_until(served.browsers)
        ended = served.shut_down()
        await wait_until(is_stopping.is_set)
        gate.let(BOXES)
        await ended
        await asyncio.wait([follower])
        assert isinstance(follower.exception(), aiohttp.ClientError)  # it would come back
    [batch] = app.state.batches.values()
    known = [msgspec.json.decode(row) for row in batch.rows]
    relayed = [row for row in known if row["verdict"] == "relayed"]
    assert len(relayed) == len(emulator.ledger.effects) == len(emulator.ledger.requests) == 28
    assert {row["verdict"] for row in known} <= {"relayed", "not_sent"}
    assert batch.summary == {"not_sent": BOXES - len(known), "why": None}


async def test_what_is_broken_off_is_never_said_to_be_not_sent(
    gate: Gate, session: aiohttp.ClientSession, emulator: ThorEmulator
) -> None:
    app = batch_app.make_app()
    async with serving.by_uvicorn(app) as served:
        page = await start(session, served)
        gate.let(20)
        await follow(session, page, 1 + 20)
        await wait_until(lambda: len(emulator.ledger.requests) == 28)
        [batch] = app.state.batches.values()
        batch.task.cancel()
        events = await follow(session, page, float("inf"))
        gate.let(BOXES)
    verdicts = [row["verdict"] for row in rows(events)]
    assert verdicts.count("relayed") == 20
    assert verdicts.count("indeterminate") == 8
    end = {"not_sent": BOXES - len(verdicts), "why": "broken off"}
    assert msgspec.json.decode(events[-1]["data"]) == end


async def test_the_page_shows_it_in_a_browser(
    gate: Gate, session: aiohttp.ClientSession, emulator: ThorEmulator, tmp_path: Path
) -> None:
    """Twice: a page that was closed in the middle, and one that is opened later."""
    find_chromium()
    emulator.always("ChargeboxNotFound", chargebox="box-200")
    async with serving.by_uvicorn(batch_app.make_app()) as served:
        url = await start(session, served)
        gate.let(55)
        async with browse(tmp_path / "first", 800, 600) as page:
            await page.go(url)
            await wait_for(page, "document.querySelector('progress').value", 55)
            assert await page.ask("document.querySelector('output').value") == '{"done":55}'
        await wait_until(lambda: not served.browsers())
        gate.let(BOXES)
        async with browse(tmp_path / "second", 800, 600) as page:
            await page.go(url)
            await wait_for(page, "document.querySelector('progress').position", 1)
            await wait_for(page, "document.querySelector('li')?.textContent", LEFT)
            counts = '{"done":199,"fix":1} ended; not sent: 0 '
            await wait_for(page, "document.querySelector('output').value", counts)


LEFT = "box-200 1: fix (Thor answered 404: ChargeboxNotFound)"


async def wait_for(page: Page, expression: str, value: object) -> None:
    async with asyncio.timeout(60):
        while await page.ask(expression) != value:
            await asyncio.sleep(0.01)


async def test_a_wrong_key_is_the_end_and_its_reason(
    gate: Gate, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THOR_API_KEY", "another-key")
    gate.let(BOXES)
    async with serving.by_uvicorn(batch_app.make_app()) as served:
        events = await follow(session, await start(session, served), float("inf"))
    end = msgspec.json.decode(events[-1]["data"])
    assert "APIKeyNotFound" in end["why"]
    assert end["not_sent"] + len(rows(events)) == BOXES


@pytest.mark.parametrize("body", ["{", [{"id_tag": TAG}], {}])
async def test_a_body_that_is_no_batch_is_a_400(
    gate: Gate, session: aiohttp.ClientSession, body: Any
) -> None:
    async with serving.by_uvicorn(batch_app.make_app()) as served:
        data = body if isinstance(body, str) else msgspec.json.encode(body)
        async with session.post(f"{served.url}/batches", data=data) as response:
            assert response.status == 400
            assert TAG not in await response.text()
        async with session.get(f"{served.url}/batches/guess/events") as response:
            assert response.status == 404


async def test_a_response_that_drives_the_batch_cuts_it(
    gate: Gate, session: aiohttp.ClientSession, emulator: ThorEmulator
) -> None:
    """Why the recipe has a task of its own."""
    app = FastAPI(lifespan=batch_app.open_thor)

    @app.get("/batches/all/events")
    async def drive() -> StreamingResponse:
        async def events() -> AsyncIterator[str]:
            async with app.state.thor.stop_stream(COMMANDS) as stream:
                async for outcome in stream:
                    yield f"data: {msgspec.json.encode(outcome.record()).decode()}\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    async with serving.by_uvicorn(app) as served:
        gate.let(55)
        assert len(await follow(session, f"{served.url}/batches/all", 55)) == 55
        await wait_until(lambda: not served.browsers())
        gate.let(BOXES)
        await wait_until(lambda: not emulator._handlers)
    assert len(emulator.charges) > 100
