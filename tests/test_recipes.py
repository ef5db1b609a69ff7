"""The web apps of README's recipes, each on its framework's own server, against the emulator."""

from __future__ import annotations

import asyncio
import functools
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import msgspec
import pytest
from fastapi import Request, Response
from starlette.middleware.base import RequestResponseEndpoint

import thor_async
from tests.conftest import KEY, TAG, Rests, wait_until
from tests.documents import DOCUMENTS
from tests.recipes import aiohttp_app, fastapi_app, litestar_app, serving
from tests.recipes.answers import http_status
from tests.recipes.serving import Serve, Served
from tests.recipes.shielded import stop_despite_cancellation, tasks
from thor_async import NotSentError, StopCharge, ThorClient, ThorError
from thor_async.emulator import Notifications, ScriptedAnswer, ThorEmulator

RECIPES = Path(__file__).parent / "recipes"
COMMAND = {"chargebox": "box-1", "connector": 1, "id_tag": TAG}
EVERYWHERE = pytest.mark.parametrize("serve", [serving.fastapi, serving.litestar, serving.aiohttp])


@pytest.fixture(autouse=True)
def _configured(emulator: ThorEmulator, rests: Rests, monkeypatch: pytest.MonkeyPatch) -> None:
    hasty = functools.partial(ThorClient, retry=rests.policy())
    for app in (fastapi_app, litestar_app, aiohttp_app):
        monkeypatch.setattr(app, "ThorClient", hasty)
    monkeypatch.setenv("THOR_API_KEY", KEY)
    monkeypatch.setenv("THOR_BASE_URL", emulator.base_url)
    monkeypatch.setenv("THOR_HOOK", "h00k")
    emulator.start_charge("box-1", 1, TAG)


async def post(url: str, body: object = COMMAND) -> tuple[int, Any, dict[str, str]]:
    """Returns the status, the JSON or text, and the headers of the answer, which has no secret."""
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    sent_as = {"Content-Type": "application/json"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=data, headers=sent_as) as response,
    ):
        text = await response.text()
        assert TAG not in text
        assert KEY not in text
        is_json = response.content_type == "application/json"
        return response.status, msgspec.json.decode(text) if is_json else text, {**response.headers}


NOT_SHOWN = {"__init__.py", "litestar_app.py", "serving.py"}
LANGUAGES = {".py": "python", ".html": "html"}
FILES = [path for path in sorted(RECIPES.iterdir()) if path.suffix in LANGUAGES]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_readme_shows_what_is_tested_here(file: Path) -> None:
    shown = f"```{LANGUAGES[file.suffix]}\n{file.read_text()}```"
    assert (shown in DOCUMENTS["tests/recipes/README.md"]) is (file.name not in NOT_SHOWN)


@EVERYWHERE
async def test_a_relayed_stop_is_accepted(serve: Serve, emulator: ThorEmulator) -> None:
    async with serve() as served:
        status, content, _ = await post(f"{served.url}/stop")
    assert (status, content["verdict"], content["next_step"]) == (202, "relayed", "done")
    assert emulator.charges == {}


LOST = ScriptedAnswer(effect=True, drop=True)
THROTTLED = ScriptedAnswer(429, headers={"Retry-After": "7"})
SICK = ScriptedAnswer(503, headers={"Retry-After": "7"})
ADVICE = "check whether the charge still runs before you repeat the stop"


@EVERYWHERE
@pytest.mark.parametrize(
    ("answer", "status", "verdict", "retry_after"),
    [
        ("ChargeboxNotFound", 404, "rejected", None),
        ("NotInTransaction", 409, "rejected", None),
        ("APIKeyNotFound", 502, "rejected", None),
        (THROTTLED, 503, "rejected", "7"),
        (SICK, 502, "indeterminate", None),
        (LOST, 502, "indeterminate", None),
    ],
)
async def test_each_error_has_its_status_and_advice(
    serve: Serve,
    answer: ScriptedAnswer | str,
    status: int,
    verdict: str,
    retry_after: str | None,
    emulator: ThorEmulator,
) -> None:
    emulator.always(answer)
    async with serve() as served:
        got, content, headers = await post(f"{served.url}/stop")
    assert (got, content["verdict"]) == (status, verdict)
    assert headers.get("Retry-After") == retry_after
    assert content["maybe_applied"] is (verdict == "indeterminate")
    assert content.get("advice") == (ADVICE if content["maybe_applied"] else None)


WRONG = thor_async.WrongTransaction
STATUSES = [
    (thor_async.ConnectorNotValid(), 422),
    (thor_async.NotInTransaction(), 409),
    (WRONG(), 409),
    (thor_async.ChargeboxNotFound(), 404),
    (thor_async.APIKeyNotFound(), 502),
    (thor_async.RestAPINotEnabled(), 502),
    (thor_async.InvalidSourceIPAddr(), 502),
    (thor_async.TooManyRequests(), 503),
    (thor_async.RejectedError(status=418), 502),
    (thor_async.ServerError(), 502),
    (thor_async.ServerError(code="NotInTransaction"), 502),
    (thor_async.InternalServerError(), 502),
    (thor_async.ResponseTimeout(), 504),
    (thor_async.ConnectionLost(), 502),
    (thor_async.UnexpectedResponse(), 502),
    *((NotSentError(reason=reason), 503) for reason in ("connect", "dns", "tls", "timeout")),
    *((NotSentError(reason=reason), 503) for reason in ("closed", "gave_up", "pin")),
    *((NotSentError(reason=reason), 409) for reason in ("expired", "not_running")),
]


@pytest.mark.parametrize(("error", "status"), STATUSES)
def test_each_error_has_its_status(error: ThorError, status: int) -> None:
    assert http_status(error) == status


def test_a_stop_that_may_have_been_applied_has_no_status_for_a_repeat() -> None:
    """After an attempt without an answer, only NotInTransaction is certain."""
    for error, _ in STATUSES:
        error.maybe_applied = True
        is_over = isinstance(error, thor_async.NotInTransaction)
        if not isinstance(error, NotSentError):
            assert http_status(error) in ([409] if is_over else [502, 504])
        error.maybe_applied = error.verdict == "indeterminate"


def test_every_error_class_has_a_status() -> None:
    def leaves(error: type[ThorError]) -> set[type[ThorError]]:
        return {error}.union(*(leaves(sub) for sub in error.__subclasses__()))

    groups = {ThorError, thor_async.DomainError, thor_async.AccountError}
    groups |= {thor_async.IndeterminateError}
    assert {type(error) for error, _ in STATUSES} == leaves(ThorError) - groups


@EVERYWHERE
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        COMMAND | {"connector": 0},
        COMMAND | {"id_tag": f"{TAG}\n"},
        b'{"id_tag":"%b","ref":' % TAG.encode() + b"[" * 50_000,
    ],
)
async def test_a_body_that_is_no_command_is_a_400(
    serve: Serve, body: object, emulator: ThorEmulator
) -> None:
    async with serve() as served:
        status, _, _ = await post(f"{served.url}/stop", body)
    assert status == 400
    assert emulator.ledger.requests == []


@EVERYWHERE
async def test_a_notification_of_thor_is_proof(serve: Serve, emulator: ThorEmulator) -> None:
    async with serve() as served:
        emulator.notifications = Notifications(f"{served.url}/thor/h00k")
        charge = emulator.charges["box-1", 1]
        command = StopCharge("box-1", 1, TAG, charge.transaction)
        confirmation = await served.thor.stop_and_confirm(command)
    assert confirmation.state == "stopped"
    assert confirmation.evidence == "a stop notification of this transaction"


@EVERYWHERE
async def test_the_hook_is_secret_and_refuses_what_is_no_notification(serve: Serve) -> None:
    stop = {"msg": "stop", "accepted": False, "chargebox": "box-1", "connector": 1, "idTag": TAG}
    async with serve() as served:
        hook = f"{served.url}/thor/h00k"
        assert (await post(hook, stop | {"transaction_id": 0}))[0] == 200
        assert (await post(hook, {"chargebox": "box-1", "idTag": TAG}))[0] == 400
        assert (await post(f"{served.url}/thor/guess", stop))[0] == 404
        async with aiohttp.ClientSession() as session:
            for page in ("/openapi.json", "/schema/openapi.json"):
                async with session.get(served.url + page) as response:
                    assert "h00k" not in await response.text()


class Held:
    """An emulator that has received a stop, and does nothing more about it until `release`."""

    def __init__(self, emulator: ThorEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
        self.emulator = emulator
        self.may_go_on = asyncio.Event()
        monkeypatch.setattr(emulator, "_wait_latency", lambda rng: self.may_go_on.wait())

    async def send(self, url: str) -> asyncio.Task[tuple[int, Any, dict[str, str]]]:
        """Returns a browser that waits for the answer; Thor has the request."""
        browser = asyncio.create_task(post(url))
        await wait_until(lambda: self.emulator.ledger.requests)
        return browser

    async def release(self) -> int | None:
        """Lets Thor stop the charge; returns its status, or None if its client had left."""
        [request] = self.emulator.ledger.requests
        self.may_go_on.set()
        await wait_until(lambda: not self.emulator._handlers)
        assert request.effect
        return request.status

    async def client_has_left(self) -> None:
        server = self.emulator._require_runner().server
        assert server is not None
        await wait_until(lambda: not serving.connected(server))


@pytest.fixture
def held(emulator: ThorEmulator, monkeypatch: pytest.MonkeyPatch) -> Held:
    return Held(emulator, monkeypatch)


@EVERYWHERE
async def test_a_shutdown_lets_a_stop_finish(serve: Serve, held: Held) -> None:
    async with serve() as served:
        browser = await held.send(f"{served.url}/stop")
        ended = served.shut_down()
        await wait_until(lambda: served.listener.fileno() < 0)
        assert await held.release() == 200
        assert (await browser)[0] == 202
        await ended
        with pytest.raises(RuntimeError, match="closed"):
            await served.thor.stop_charge(StopCharge("box-1", 1, TAG))


async def leave(browser: asyncio.Task[Any], served: Served) -> None:
    browser.cancel()
    await asyncio.wait([browser])
    await wait_until(lambda: not served.browsers())


def watched_fastapi(**settings: Any) -> AbstractAsyncContextManager[Served]:
    """Adds a middleware that is a function: Starlette then runs the rest in a task group."""
    app = fastapi_app.make_app()

    @app.middleware("http")
    async def watch(request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)

    return serving.by_uvicorn(app, **settings)


@pytest.mark.parametrize(
    "serve", [serving.fastapi, watched_fastapi, serving.litestar, serving.aiohttp]
)
async def test_a_browser_that_leaves_cuts_no_stop(serve: Serve, held: Held) -> None:
    async with serve() as served:
        await leave(await held.send(f"{served.url}/stop"), served)
        assert await held.release() == 200


async def test_aiohttp_can_be_set_to_cut_it(held: Held) -> None:
    async with serving.aiohttp(handler_cancellation=True) as served:
        await leave(await held.send(f"{served.url}/stop"), served)
        await held.client_has_left()
        assert await held.release() is None  # the charge is over, and no client got the answer


@pytest.mark.parametrize("serve", [serving.fastapi, serving.litestar])
async def test_uvicorn_cuts_it_when_its_time_to_shut_down_is_over(serve: Serve, held: Held) -> None:
    async with serve(timeout_graceful_shutdown=0) as served:
        browser = await held.send(f"{served.url}/stop")
        await served.shut_down()
        await held.client_has_left()
        assert await held.release() is None
        assert (await browser)[0] == 500


async def test_a_shield_outlasts_the_browser(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiohttp_app, "stop_and_answer", stop_despite_cancellation)
    async with serving.aiohttp(handler_cancellation=True) as served:
        await leave(await held.send(f"{served.url}/stop"), served)
        [task] = tasks
        assert not task.cancelling()
        assert await held.release() == 200
    assert not tasks


@pytest.mark.parametrize(
    ("app", "serve"), [(fastapi_app, serving.fastapi), (litestar_app, serving.litestar)]
)
async def test_a_shield_outlasts_uvicorns_patience(
    app: ModuleType, serve: Serve, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of the lifespan waits for the requests in flight."""
    monkeypatch.setattr(app, "stop_and_answer", stop_despite_cancellation)
    async with serve(timeout_graceful_shutdown=0) as served:
        browser = await held.send(f"{served.url}/stop")
        ended = served.shut_down()
        assert (await browser)[0] == 500
        assert await held.release() == 200
        await ended
    await wait_until(lambda: not tasks)
