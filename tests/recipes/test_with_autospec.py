from unittest.mock import create_autospec

import pytest

from thor_async import OutcomeStream, StopCharge, StopOutcome, ThorClient, TooManyRequests, Verdict

from .answers import stop_and_answer

COMMAND = StopCharge("box-1", 1, "tag", 52)
RELAYED = StopOutcome(COMMAND, 0, Verdict.RELAYED, None, 1, 0.1, False)


@pytest.mark.asyncio
async def test_a_throttled_stop_is_a_503() -> None:
    thor = create_autospec(ThorClient, instance=True)
    thor.stop_charge.side_effect = TooManyRequests(retry_after=7.0)
    status, headers, _ = await stop_and_answer(thor, COMMAND)
    assert (status, headers) == (503, {"Retry-After": "7"})
    thor.stop_charge.assert_awaited_once_with(COMMAND)


@pytest.mark.asyncio
async def test_a_stream_is_read_to_its_end() -> None:
    thor = create_autospec(ThorClient, instance=True)
    thor.__aenter__.return_value = thor
    stream = create_autospec(OutcomeStream, instance=True)
    stream.__aenter__.return_value = stream
    stream.__aiter__.return_value = [RELAYED]
    thor.stop_stream.return_value = stream
    async with thor as entered, entered.stop_stream([COMMAND]) as outcomes:
        assert [outcome.next_step async for outcome in outcomes] == ["done"]
