from typing import Annotated

import msgspec
from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel

from thor_async import OutcomeRecord, StopCharge, ThorClient

# For the schema. Pydantic itself must not check the body: its 422 repeats the body, with the tag.
JSON = {"application/json": {"schema": msgspec.json.schema(StopCharge)["$defs"]["StopCharge"]}}
BODY = {"requestBody": {"required": True, "content": JSON}}


async def read_command(request: Request) -> StopCharge:
    try:
        return msgspec.json.decode(await request.body(), type=StopCharge)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, str(error)) from None


class Row(BaseModel):
    chargebox: str
    verdict: str
    next_step: str


def make_app(thor: ThorClient) -> FastAPI:
    app = FastAPI()

    @app.post("/stop", response_model=None, openapi_extra=BODY)
    async def stop(command: Annotated[StopCharge, Depends(read_command)]) -> OutcomeRecord:
        [outcome] = await thor.stop_many([command])
        return outcome.record()

    @app.post("/stop-briefly", response_model=Row, openapi_extra=BODY)
    async def stop_briefly(command: Annotated[StopCharge, Depends(read_command)]) -> OutcomeRecord:
        [outcome] = await thor.stop_many([command])
        return outcome.record()

    return app
