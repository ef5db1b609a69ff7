from typing import Any

from asgiref.sync import async_to_sync

from thor_async import StopCharge, ThorClient


async def stop_fleet(commands: list[StopCharge]) -> list[dict[str, Any]]:
    async with ThorClient() as thor:  # in here, as each call may have a loop of its own
        outcomes = await thor.stop_many(commands, within=20.0)
    return [outcome.to_dict() for outcome in outcomes]


stop_fleet_now = async_to_sync(stop_fleet)  # JsonResponse(stop_fleet_now(commands), safe=False)
