"""The input of `stop_many`: read whole, and equal commands sent once."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from tests.fake_transport import OK, FakeTransport
from thor_async import StopCharge
from thor_async._batch_input import deduplicate
from thor_async._protocol.http_messages import Answer


async def test_equal_commands_are_sent_once_and_each_gets_the_outcome() -> None:
    thor = FakeTransport(lambda command, _: OK if command.connector == 1 else Answer(404))
    first = StopCharge("A", 1, "tag", ref="first")
    other = StopCharge("A", 2, "tag", ref="other")
    commands = [
        first,
        msgspec.structs.replace(first, ref="again"),
        other,
        msgspec.structs.replace(first, transaction=5),
        msgspec.structs.replace(first, id_tag="another"),
        msgspec.structs.replace(first, id_tag="TAG"),
        other,
    ]
    with thor.installed():
        async with thor.client() as client:
            outcomes = await client.stop_many(commands)
    assert [outcome.command for outcome in outcomes] == commands
    assert [outcome.index for outcome in outcomes] == list(range(len(commands)))
    assert [outcome.verdict.value for outcome in outcomes] == [
        "relayed", "relayed", "rejected", "relayed", "relayed", "relayed", "rejected"
    ]  # fmt: skip
    assert len(thor.requests) == 4


def test_commands_that_were_meant_at_other_times_are_not_equal() -> None:
    """Each of them may mean another charge, unless a transaction says which one."""
    moments = [datetime(2026, 1, 1, hour, tzinfo=UTC) for hour in (1, 2)]
    for transaction, expected in ((None, [0, 1]), (5, [0, 0])):
        commands = [StopCharge("A", 1, "tag", transaction, as_of=moment) for moment in moments]
        assert deduplicate(commands)[1] == expected
