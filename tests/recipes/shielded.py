import asyncio

from thor_async import StopCharge, StopOutcome, ThorClient

stops: set[asyncio.Task[StopOutcome]] = set()  # asyncio itself keeps no task alive


async def stop_to_the_end(thor: ThorClient, command: StopCharge) -> StopOutcome:
    task = asyncio.create_task(thor.stop_charge(command))
    stops.add(task)
    task.add_done_callback(stops.discard)
    return await asyncio.shield(task)
