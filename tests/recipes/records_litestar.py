from typing import Annotated

from litestar import Litestar, post
from litestar.params import Body

from thor_async import OutcomeRecord, StopCharge, ThorClient


def make_app(thor: ThorClient) -> Litestar:
    @post("/stop", status_code=200)
    async def stop(data: Annotated[StopCharge, Body()]) -> OutcomeRecord:
        [outcome] = await thor.stop_many([data])
        return outcome.record()

    return Litestar([stop])
