import asyncio

from thor_async import StopCharge, StopOutcome, ThorClient


def stop_fleet(commands: list[StopCharge]) -> list[StopOutcome]:
    async def stop_all() -> list[StopOutcome]:
        async with ThorClient() as thor:
            return await thor.stop_many(commands, within=120.0)

    return asyncio.run(stop_all())
