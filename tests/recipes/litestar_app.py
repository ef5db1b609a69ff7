import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from litestar import Litestar, MediaType, Request, Response, post
from litestar.datastructures import State
from litestar.exceptions import ClientException

from thor_async import StopCharge, ThorClient

from .answers import stop_and_answer


@contextlib.asynccontextmanager
async def open_thor(app: Litestar) -> AsyncIterator[None]:
    async with ThorClient(timeout=20.0) as app.state.thor:
        yield


@post("/stop")
async def stop_charge(request: Request[Any, Any, State]) -> Response[bytes]:
    try:
        command = msgspec.json.decode(await request.body(), type=StopCharge)
    except (ValueError, RecursionError) as error:
        raise ClientException(str(error)) from None
    status, headers, body = await stop_and_answer(request.app.state.thor, command)
    return Response(body, status_code=status, headers=headers, media_type=MediaType.JSON)


async def receive_notification(request: Request[Any, Any, State]) -> None:
    try:
        request.app.state.thor.notify(await request.body())
    except ValueError as error:
        raise ClientException(str(error)) from None


def make_app() -> Litestar:
    hook = f"/thor/{os.environ['THOR_HOOK']}"
    route = post(hook, status_code=200, include_in_schema=False)
    handlers = [stop_charge, route(receive_notification)]
    return Litestar(handlers, lifespan=[open_thor], request_max_body_size=64 * 1024)
