import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, Header, HTTPException, Request
from fastapi.responses import FileResponse, StreamingResponse

from thor_async import BatchGaveUp, OutcomeStream, RetryPolicy, StopCharge, StopOutcome, ThorClient

PAGE = Path(__file__).with_name("batch_page.html")


class Batch:
    """A batch in a task of the application: it goes on, whoever follows it or leaves."""

    stream: OutcomeStream[StopCharge, StopOutcome]

    def __init__(self, thor: ThorClient, commands: list[StopCharge]) -> None:
        self.total = len(commands)
        self.rows: list[str] = []  # use your database instead: a restart loses these
        self.summary: dict[str, Any] | None = None
        self._news = asyncio.Event()
        self.task = asyncio.create_task(self._run(thor, commands))

    async def _run(self, thor: ThorClient, commands: list[StopCharge]) -> None:
        why: str | None = "broken off"
        try:
            async with thor.stop_stream(commands) as self.stream:
                async for outcome in self.stream:
                    self._add(outcome)
            why = None
        except BatchGaveUp as error:  # such as for a wrong key
            why = str(error)
        finally:
            for outcome in self.stream.unread:  # what a cancellation has cut
                self._add(outcome)
            # What has no row was certainly not sent.
            self.summary = {"not_sent": self.total - len(self.rows), "why": why}
            self._tell()

    def _add(self, outcome: StopOutcome) -> None:
        self.rows.append(msgspec.json.encode(outcome.record()).decode())
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def follow(self, seen: int) -> AsyncIterator[str]:
        """Yields the rows after the first `seen` ones as server-sent events, then the end."""
        yield f"event: total\ndata: {self.total}\n\n"
        while True:
            news = self._news
            for row in self.rows[seen:]:
                seen += 1
                yield f"id: {seen}\ndata: {row}\n\n"
            if self.summary and seen >= len(self.rows):
                yield f"event: end\ndata: {msgspec.json.encode(self.summary).decode()}\n\n"
                return
            await news.wait()


@contextlib.asynccontextmanager
async def open_thor(app: FastAPI) -> AsyncIterator[None]:
    batches: dict[str, Batch] = {}
    app.state.batches = batches
    async with ThorClient(retry=RetryPolicy(retry_throttled=True)) as app.state.thor:
        yield
        for batch in batches.values():
            batch.stream.stop_sending()  # what is in flight finishes
        await asyncio.gather(*(batch.task for batch in batches.values()), return_exceptions=True)


async def start_batch(request: Request) -> dict[str, str]:
    try:
        commands = msgspec.json.decode(await request.body(), type=list[StopCharge])
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, str(error)) from None
    name = uuid.uuid4().hex
    request.app.state.batches[name] = Batch(request.app.state.thor, commands)
    return {"page": f"/batches/{name}"}


async def show_page(name: str) -> FileResponse:
    return FileResponse(PAGE)


async def follow_batch(
    request: Request, name: str, last_event_id: Annotated[int, Header(ge=0)] = 0
) -> StreamingResponse:
    if name not in request.app.state.batches:
        raise HTTPException(404, "no such batch")
    events = request.app.state.batches[name].follow(last_event_id)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)


def make_app() -> FastAPI:
    app = FastAPI(lifespan=open_thor)
    app.add_api_route("/batches", start_batch, methods=["POST"], status_code=202)
    app.add_api_route("/batches/{name}", show_page)
    app.add_api_route("/batches/{name}/events", follow_batch)
    return app
