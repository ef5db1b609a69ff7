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
STOP_COMMANDS = web.AppKey("stop_commands", dict[tuple[str, int | None], StopCharge])


async def open_thor(app: web.Application) -> AsyncIterator[None]:
    app[STOP_COMMANDS] = {}  # use your database instead: a restart loses these commands
    async with ThorClient(timeout=20.0) as app[THOR]:
        yield


async def receive_notification(request: web.Request) -> web.Response:
    try:
        notification = request.app[THOR].notify(await request.read())
        if isinstance(notification, StartNotification) and notification.accepted:
            key = (notification.chargebox, notification.transaction)
            request.app[STOP_COMMANDS][key] = notification.stop_command()
    except ValueError as error:
        raise web.HTTPBadRequest(text=str(error)) from None
    if isinstance(notification, StopNotification) and notification.is_end:
        key = (notification.chargebox, notification.transaction)
        request.app[STOP_COMMANDS].pop(key, None)
    return web.Response()


async def stop_charge(request: web.Request) -> web.Response:
    try:
        command = msgspec.json.decode(await request.read(), type=StopCharge)
    except (ValueError, RecursionError) as error:
        raise web.HTTPBadRequest(text=str(error)) from None
    status, headers, body = await stop_and_answer(request.app[THOR], command)
    return web.json_response(body=body, status=status, headers=headers)


async def stop_site(
    app: web.Application, site: Container[str]
) -> tuple[list[Confirmation], list[RunningCharge]]:
    """Stops the charges of a site; returns confirmations, and the charges without a known tag."""
    commands, untagged = [], []
    for charge in await app[THOR].running_charges():
        if charge.chargebox not in site:
            continue
        box, number = charge.chargebox, charge.transaction
        if charge.id_tag:
            commands.append(StopCharge(box, charge.connector, charge.id_tag, number))
        elif (box, number) in app[STOP_COMMANDS]:
            commands.append(app[STOP_COMMANDS][box, number])
        else:
            untagged.append(charge)
    async with app[THOR].stop_and_confirm_stream(commands) as stream:
        return [confirmation async for confirmation in stream], untagged


def make_app() -> web.Application:
    app = web.Application(client_max_size=64 * 1024)
    app.cleanup_ctx.append(open_thor)
    app.router.add_post("/stop", stop_charge)
    app.router.add_post(f"/thor/{os.environ['THOR_HOOK']}", receive_notification)
    return app


if __name__ == "__main__":
    web.run_app(make_app(), host="127.0.0.1", access_log=None)
