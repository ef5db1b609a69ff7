"""The lines of the logger `thor_async`."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys

import msgspec
import pytest

from tests.conftest import KEY, TAG, Rests
from tests.fake_transport import OK, FakeTransport, Reply, fleet, refused, thor_says
from thor_async import (
    BatchAbandoned,
    BatchPaused,
    BatchResumed,
    PaceLowered,
    PaceRestored,
    StopCharge,
    ThorError,
)
from thor_async._protocol.http_messages import Answer
from thor_async._telemetry.logging import log

WHERE = "chargebox='EaJ7cU9NJ3YkTNgy' connector=2"
INTERNAL = "error=InternalServerError status=500 code=InternalServerError"


async def lines(
    caplog: pytest.LogCaptureFixture, level: int, command: StopCharge, reply: Reply
) -> list[tuple[int, str]]:
    caplog.set_level(level, "thor_async")
    thor, rests = FakeTransport(reply), Rests()
    with thor.installed():
        async with thor.client(retry=rests.policy()) as client:
            with contextlib.suppress(ThorError):
                await client.stop_charge(command)
    return [(r.levelno, r.getMessage()) for r in caplog.records if r.name == "thor_async"]


async def test_one_line_for_each_retry_and_one_for_the_final_failure(
    command: StopCharge, caplog: pytest.LogCaptureFixture
) -> None:
    logged = await lines(
        caplog, logging.INFO, command, lambda *_: thor_says("InternalServerError", 500)
    )
    assert [level for level, _ in logged] == [logging.INFO, logging.INFO, logging.WARNING]
    assert logged[0][1] == f"retry: {WHERE} attempt=1 {INTERNAL} wait=0.500"
    assert logged[1][1] == f"retry: {WHERE} attempt=2 {INTERNAL} wait=1.000"
    start, _, end = logged[2][1].partition(" elapsed=")
    assert start == f"failed: {WHERE} attempt=3 {INTERNAL} verdict=indeterminate next_step=resend"
    assert end.partition(": ")[2] == "Thor answered 500: InternalServerError"


FIELDS = (
    *("event", "chargebox", "connector", "transaction", "ref"),
    *("attempt", "verdict", "status", "error", "code", "next_step"),
)
PLACE = ("EaJ7cU9NJ3YkTNgy", 2, 52, "site 7")


def fields(record: logging.LogRecord) -> tuple[object, ...]:
    return tuple(getattr(record, name) for name in FIELDS)


async def test_each_line_of_a_stop_has_its_facts_as_fields(
    command: StopCharge, caplog: pytest.LogCaptureFixture
) -> None:
    """For handlers that write JSON. The id_tag is in none."""
    command = msgspec.structs.replace(command, ref="site 7")
    answers = iter([thor_says("InternalServerError", 500), thor_says("WrongTransaction", 400)])
    await lines(caplog, logging.DEBUG, command, lambda *_: next(answers))
    logged = [record for record in caplog.records if record.name == "thor_async"]
    internal, wrong = ["InternalServerError"] * 2, ["WrongTransaction"] * 2
    assert [fields(record) for record in logged] == [
        ("attempt", *PLACE, 1, "indeterminate", 500, *internal, None),
        ("retry", *PLACE, 1, None, 500, *internal, None),
        ("attempt", *PLACE, 2, "rejected", 400, *wrong, None),
        ("failed", *PLACE, 2, "rejected", 400, *wrong, "check"),
    ]
    assert not any(TAG in repr(vars(record)) for record in logged)
    assert not any(KEY in repr(vars(record)) for record in logged)


async def test_a_success_has_the_fields_too(
    command: StopCharge, caplog: pytest.LogCaptureFixture
) -> None:
    await lines(caplog, logging.DEBUG, command, lambda *_: OK)
    relayed = caplog.records[-1]
    assert fields(relayed) == ("relayed", *PLACE[:-1], None, 1, "relayed", 200, None, None, "done")


async def test_a_field_that_the_program_gives_to_each_record_stays(
    command: StopCharge, caplog: pytest.LogCaptureFixture
) -> None:
    """`extra` would raise KeyError, and the line would be lost."""
    make = logging.getLogRecordFactory()

    def make_own(*args: object, **kwargs: object) -> logging.LogRecord:
        record = make(*args, **kwargs)
        record.transaction = "the program's"
        return record

    logging.setLogRecordFactory(make_own)
    try:
        [(_, line)] = await lines(caplog, logging.INFO, command, lambda *_: Answer(418))
    finally:
        logging.setLogRecordFactory(make)
    assert line.startswith("failed: ")
    [record] = [record for record in caplog.records if record.name == "thor_async"]
    assert vars(record)["transaction"] == "the program's"
    assert vars(record)["chargebox"] == command.chargebox


def test_a_line_of_a_batch_has_none_of_these_fields(caplog: pytest.LogCaptureFixture) -> None:
    log(BatchPaused("no answer in time"))
    assert not set(FIELDS) & vars(caplog.records[-1]).keys()


async def test_what_was_never_sent_says_why(
    command: StopCharge, caplog: pytest.LogCaptureFixture
) -> None:
    [(level, line)] = await lines(caplog, logging.INFO, command, lambda *_: refused())
    assert level == logging.WARNING
    assert "attempt=1 error=NotSentError status=None code=None verdict=not_sent" in line
    assert line.endswith(": connection refused")


async def test_a_success_is_silent_above_debug(
    command: StopCharge, caplog: pytest.LogCaptureFixture
) -> None:
    assert not await lines(caplog, logging.INFO, command, lambda *_: OK)
    logged = await lines(caplog, logging.DEBUG, command, lambda *_: OK)
    assert {level for level, _ in logged} == {logging.DEBUG}
    assert [line.partition(":")[0] for _, line in logged] == ["attempt", "relayed"]


async def test_a_retry_that_ended_well_leaves_only_its_own_line(
    command: StopCharge, caplog: pytest.LogCaptureFixture
) -> None:
    answers = iter([Answer(503), OK])
    logged = await lines(caplog, logging.INFO, command, lambda *_: next(answers))
    assert [line.partition(":")[0] for _, line in logged] == ["retry"]


async def test_what_is_below_the_level_is_not_written(
    command: StopCharge, caplog: pytest.LogCaptureFixture
) -> None:
    assert not await lines(caplog, logging.ERROR, command, lambda *_: Answer(500))


def test_what_a_batch_does_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    for event in (BatchPaused("no answer in time"), BatchResumed(7.0), BatchAbandoned("too late")):
        log(event)
    assert [(r.levelno, r.getMessage()) for r in caplog.records] == [
        (logging.WARNING, "batch paused, Thor seems down: no answer in time"),
        (logging.WARNING, "batch resumed after 7.000 s"),
        (logging.WARNING, "batch gave up: too late"),
    ]


def test_a_change_of_the_pace_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    for event in (PaceLowered(19.9871), PaceRestored(1234.5), PaceRestored(None)):
        log(event)
    assert [(r.levelno, r.getMessage()) for r in caplog.records] == [
        (logging.WARNING, "pace lowered, Thor allows about 20 requests a second"),
        (logging.WARNING, "pace restored, Thor allows about 1234 requests a second"),
        (logging.WARNING, "pace restored, no limit is known"),
    ]


async def test_each_command_that_a_batch_leaves_has_its_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    thor = FakeTransport(lambda *_: thor_says("APIKeyNotFound", 403))
    with thor.installed():
        async with thor.client(max_in_flight=1) as client:
            await client.stop_many(fleet(10))
    logged = [r.getMessage() for r in caplog.records]
    failed = [line.split()[1] for line in logged if line.startswith("failed: ")]
    assert failed == [f"chargebox='box-{n}'" for n in range(10)]


async def test_what_thor_says_is_escaped_and_rid_of_secrets(
    command: StopCharge, caplog: pytest.LogCaptureFixture
) -> None:
    body = f'{{"message": "bad\\nfailed: {TAG}"}}'.encode()
    [(_, line)] = await lines(caplog, logging.INFO, command, lambda *_: Answer(418, body))
    assert line.endswith(r": Thor answered 418: bad\nfailed: ***")
    assert KEY not in line


def test_a_program_without_logging_is_shown_nothing() -> None:
    program = """
import asyncio
from thor_async import StopCharge, ThorClient

async def main():
    async with ThorClient("key", base_url="http://127.0.0.1:1") as thor:
        print((await thor.stop_many([StopCharge("box-1", 1, "tag")]))[0].verdict)

asyncio.run(main())
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert (ran.stdout, ran.stderr) == ("not_sent\n", "")
