import asyncio

from thor_async import StopCharge, ThorClient

from .answers import Answered, stop_and_answer

stops: set[asyncio.Task[Answered]] = set()  # asyncio itself keeps no task alive


async def stop_to_the_end(thor: ThorClient, command: StopCharge) -> Answered:
    task = asyncio.create_task(stop_and_answer(thor, command))
    stops.add(task)
    task.add_done_callback(stops.discard)
    return await asyncio.shield(task)
