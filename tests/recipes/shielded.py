import asyncio

from thor_async import StopCharge, ThorClient

from .answers import HttpAnswer, stop_and_answer

tasks: set[asyncio.Task[HttpAnswer]] = set()  # asyncio holds only weak references to tasks


async def stop_despite_cancellation(thor: ThorClient, command: StopCharge) -> HttpAnswer:
    task = asyncio.create_task(stop_and_answer(thor, command))
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return await asyncio.shield(task)
