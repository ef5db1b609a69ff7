"""The recipes of records: an outcome as an answer, a command as a body, and no tag in any error."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp
import msgspec
import pytest
from fastapi import FastAPI
from fastapi.exceptions import FastAPIError
from litestar import Litestar, get
from pydantic import BaseModel

from tests.conftest import KEY, TAG
from tests.recipes import records_fastapi, records_litestar
from tests.recipes.serving import Served, by_uvicorn
from thor_async import OutcomeRecord, StopCharge, StopOutcome, ThorClient, Verdict
from thor_async.emulator import ThorEmulator

Make = Callable[[ThorClient], Any]
BOTH = pytest.mark.parametrize("make", [records_fastapi.make_app, records_litestar.make_app])
COMMAND = {"chargebox": "box-1", "connector": 1, "id_tag": TAG, "ref": ["site", 7]}
OUTCOME = StopOutcome(StopCharge(**COMMAND), 0, Verdict.RELAYED, None, 1, 0.5, False)  # type: ignore[arg-type]


def served_by(app: Any, thor: object = None) -> AbstractAsyncContextManager[Served]:
    app.state.thor = thor
    return by_uvicorn(app)


async def ask(url: str, body: object = None) -> tuple[int, str]:
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    headers = {"Content-Type": "application/json"}
    method = "GET" if body is None else "POST"
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, data=data, headers=headers) as response,
    ):
        text = await response.text()
    assert TAG not in text
    return response.status, text


def client(emulator: ThorEmulator) -> ThorClient:
    return ThorClient(KEY, base_url=emulator.base_url)


@BOTH
async def test_a_command_is_a_body_and_its_record_the_answer(
    make: Make, emulator: ThorEmulator
) -> None:
    emulator.start_charge("box-1", 1, TAG)
    async with client(emulator) as thor, served_by(make(thor)) as served:
        status, text = await ask(f"{served.url}/stop", COMMAND)
        again = msgspec.json.decode((await ask(f"{served.url}/stop", COMMAND))[1])
    row = msgspec.json.decode(text, type=dict[str, Any])
    assert status == 200
    assert row.keys() == set(OutcomeRecord.__struct_fields__)
    assert (row["verdict"], row["next_step"], row["ref"]) == ("relayed", "done", ["site", 7])
    assert (again["code"], again["status"]) == ("NotInTransaction", 400)


async def test_fastapi_gives_a_part_of_it_by_a_model(emulator: ThorEmulator) -> None:
    emulator.start_charge("box-1", 1, TAG)
    async with client(emulator) as thor, served_by(records_fastapi.make_app(thor)) as served:
        _, text = await ask(f"{served.url}/stop-briefly", COMMAND)
        _, schema = await ask(f"{served.url}/openapi.json")
    row = {"chargebox": "box-1", "verdict": "relayed", "next_step": "done"}
    assert msgspec.json.decode(text) == row
    body = msgspec.json.decode(schema)["paths"]["/stop"]["post"]["requestBody"]
    properties = body["content"]["application/json"]["schema"]["properties"]
    assert properties.keys() == set(StopCharge.__struct_fields__)


BODIES = [
    b"",
    b"{",
    b"[]",
    b'"' + TAG.encode(),
    b"{" + TAG.encode(),
    COMMAND | {"connector": 0},
    COMMAND | {"id_tag": f"{TAG}\n"},
    COMMAND | {"id_tag": [TAG]},
    {"connector": 1, "id_tag": TAG},
    COMMAND | {"not_after": "2026-01-01T00:00:00"},
    COMMAND | {"more": TAG},
]
SPOILT = [
    b'{"chargebox":"box-1","connector":1,"id_tag":"%b\xff"}' % TAG.encode(),
    b'{"id_tag":"%b","ref":' % TAG.encode() + b"[" * 100_000,
]


@BOTH
@pytest.mark.parametrize("body", BODIES)
async def test_a_body_that_is_no_command_is_a_400_without_the_tag(
    make: Make, body: object, emulator: ThorEmulator
) -> None:
    async with client(emulator) as thor, served_by(make(thor)) as served:
        status, _ = await ask(f"{served.url}/stop", body)
    assert status == 400
    assert emulator.ledger.requests == []


@pytest.mark.parametrize("body", SPOILT)
@pytest.mark.parametrize(
    ("make", "expected"), [(records_fastapi.make_app, 400), (records_litestar.make_app, 500)]
)
async def test_a_body_that_no_decoder_takes_shows_no_tag_either(
    make: Make, expected: int, body: bytes, emulator: ThorEmulator
) -> None:
    """Litestar's own decoder lets these two through as its own failures."""
    async with client(emulator) as thor, served_by(make(thor)) as served:
        status, _ = await ask(f"{served.url}/stop", body)
    assert status == expected
    assert emulator.ledger.requests == []


async def test_records_and_dicts_are_answers_of_fastapi() -> None:
    app = FastAPI()
    answers = {"record": OUTCOME.record(), "list": [OUTCOME.record()], "dict": OUTCOME.to_dict()}
    for name, answer in answers.items():
        app.add_api_route(f"/{name}", lambda answer=answer: answer)
    app.add_api_route("/typed", OUTCOME.to_dict, response_model=dict[str, Any])
    async with served_by(app) as served:
        texts = {name: (await ask(f"{served.url}/{name}"))[1] for name in (*answers, "typed")}
    got = {name: msgspec.json.decode(text) for name, text in texts.items()}
    assert got["dict"] == got["typed"] == msgspec.json.decode(msgspec.json.encode(OUTCOME.record()))
    # The same instant, with another mark of UTC.
    at = got["dict"]["at"].replace("Z", "+00:00")
    assert got["record"] == got["dict"] | {"at": at}
    assert got["list"] == [got["record"]]


async def test_records_and_dicts_are_answers_of_litestar() -> None:
    @get("/record")
    async def record() -> OutcomeRecord:
        return OUTCOME.record()

    @get("/list")
    async def records() -> list[OutcomeRecord]:
        return [OUTCOME.record()]

    @get("/dict")
    async def plain() -> dict[str, Any]:
        return OUTCOME.to_dict()

    async with served_by(Litestar([record, records, plain])) as served:
        texts = [(await ask(f"{served.url}/{name}"))[1] for name in ("record", "list", "dict")]
    text = msgspec.json.encode(OUTCOME.record()).decode()
    assert texts == [text, f"[{text}]", text]


def test_fastapi_itself_does_not_know_the_types() -> None:
    """Why the recipe has `response_model=None` and a dependency."""

    async def answer() -> OutcomeRecord:
        return OUTCOME.record()

    async def take(command: StopCharge) -> None: ...

    for route in (answer, take):
        with pytest.raises(FastAPIError, match="valid Pydantic field type"):
            FastAPI().add_api_route("/", route, methods=["POST"])


async def test_a_model_of_pydantic_as_the_body_repeats_the_tag() -> None:
    """Why the recipe reads the body itself."""

    class Command(BaseModel):
        chargebox: str
        id_tag: str

    async def take(command: Command) -> None: ...

    app = FastAPI()
    app.add_api_route("/", take, methods=["POST"])
    async with served_by(app) as served:
        with pytest.raises(AssertionError, match=TAG):
            await ask(served.url, {"id_tag": TAG})
