import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

from thor_async import StopCharge, ThorClient
from thor_async.otel import Telemetry


@contextlib.asynccontextmanager
async def open_thor(app: FastAPI) -> AsyncIterator[None]:
    async with ThorClient(on_event=Telemetry()) as app.state.thor:
        yield


def make_app() -> FastAPI:
    AioHttpClientInstrumentor().instrument()  # before the client is entered
    app = FastAPI(lifespan=open_thor)
    FastAPIInstrumentor.instrument_app(app)

    @app.post("/sites/{chargebox}/stop")
    async def stop_chargebox(chargebox: str) -> list[dict[str, Any]]:
        charges = await app.state.thor.running_charges(chargebox)
        commands = [
            StopCharge(c.chargebox, c.connector, c.id_tag, c.transaction)
            for c in charges
            if c.id_tag
        ]
        return [outcome.to_dict() for outcome in await app.state.thor.stop_many(commands)]

    return app
