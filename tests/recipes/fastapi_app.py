import contextlib
import os
from collections.abc import AsyncIterator

import msgspec
from fastapi import FastAPI, HTTPException, Request, Response

from thor_async import StopCharge, ThorClient

from .answers import stop_and_answer


@contextlib.asynccontextmanager
async def open_thor(app: FastAPI) -> AsyncIterator[None]:
    async with ThorClient(timeout=20.0) as app.state.thor:
        yield


async def stop_charge(request: Request) -> Response:
    try:
        command = msgspec.json.decode(await request.body(), type=StopCharge)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, str(error)) from None
    status, headers, body = await stop_and_answer(request.app.state.thor, command)
    return Response(body, status, headers, "application/json")


async def receive_notification(request: Request) -> None:
    try:
        request.app.state.thor.notify(await request.body())
    except ValueError as error:
        raise HTTPException(400, str(error)) from None


def make_app() -> FastAPI:
    app = FastAPI(lifespan=open_thor)
    app.add_api_route("/stop", stop_charge, methods=["POST"])
    hook = f"/thor/{os.environ['THOR_HOOK']}"
    app.add_api_route(hook, receive_notification, methods=["POST"], include_in_schema=False)
    return app
