import os
from collections.abc import AsyncIterator, Container

import msgspec
from aiohttp import web

from thor_async import (
    Confirmation,
    RunningCharge,
    StartNotification,
    StopCharge,
    StopNotification,
    ThorClient,
)

from .answers import stop_and_answer

THOR = web.AppKey("thor", ThorClient)
STOPS = web.AppKey("stops", dict[tuple[str, int | None], StopCharge])


async def open_thor(app: web.Application) -> AsyncIterator[None]:
    app[STOPS] = {}  # keep it in your database: after a restart nobody tells it again
    async with ThorClient(timeout=20.0) as app[THOR]:
        yield


async def told(request: web.Request) -> web.Response:
    try:
        news = request.app[THOR].notify(await request.read())
        if isinstance(news, StartNotification) and news.accepted:
            request.app[STOPS][news.chargebox, news.transaction] = news.stop_command()
    except ValueError as error:
        raise web.HTTPBadRequest(text=str(error)) from None
    if isinstance(news, StopNotification) and news.is_end:
        request.app[STOPS].pop((news.chargebox, news.transaction), None)
    return web.Response()


async def stop(request: web.Request) -> web.Response:
    try:
        command = msgspec.json.decode(await request.read(), type=StopCharge)
    except ValueError as error:
        raise web.HTTPBadRequest(text=str(error)) from None
    status, headers, body = await stop_and_answer(request.app[THOR], command)
    return web.json_response(body=body, status=status, headers=headers)


async def stop_site(
    app: web.Application, site: Container[str]
) -> tuple[list[Confirmation], list[RunningCharge]]:
    """What came of each charge at these chargeboxes, and those that nobody told the tag of."""
    commands, untagged = [], []
    for charge in await app[THOR].running_charges():
        if charge.chargebox not in site:
            continue
        box, number = charge.chargebox, charge.transaction
        if charge.id_tag:
            commands.append(StopCharge(box, charge.connector, charge.id_tag, number))
        elif (box, number) in app[STOPS]:
            commands.append(app[STOPS][box, number])
        else:
            untagged.append(charge)
    async with app[THOR].stop_and_confirm_stream(commands) as stream:
        return [confirmation async for confirmation in stream], untagged


def make_app() -> web.Application:
    app = web.Application(client_max_size=64 * 1024)
    app.cleanup_ctx.append(open_thor)
    app.router.add_post("/stop", stop)
    app.router.add_post(f"/thor/{os.environ['THOR_HOOK']}", told)
    return app


if __name__ == "__main__":
    web.run_app(make_app(), host="127.0.0.1", access_log=None)
