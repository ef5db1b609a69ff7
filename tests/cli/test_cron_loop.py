"""A loop that repeats `stop-many --resume` while it returns 1, with runs that are killed."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.cli.conftest import HEADER, Start, Thor
from tests.cli.output.conftest import final
from tests.conftest import TAG
from thor_async.emulator import Behaviour, Faults, Lists

COUNT = 40
FAST = """
import functools, sys
from thor_async._confirm import ensure_stopped, pinning, poller, tracker
for module in (pinning, tracker):
    module.LONGEST_LAG, module.CLOCK_MARGIN = 0.5, 0.3
ensure_stopped._LONGEST_REPEAT = ensure_stopped._NEXT_LIST = 0.3
ensure_stopped.RepeatedStop = functools.partial(ensure_stopped.RepeatedStop, delay=0.3)
poller._SHORTEST = poller._LONGEST = poller._FRESH = 0.1
from thor_async.cli import main
sys.exit(main())
"""


def start_charges(thor: Thor, rng: random.Random) -> None:
    """Starts old charges; after some of them the next driver comes, with the same tag."""
    began = datetime.now(UTC) - timedelta(hours=1)
    for number in range(COUNT):
        chargebox = f"box-{number}"
        thor.emulator.start_charge(chargebox, 1, TAG, number + 1, date_started=began)
        thor.emulator.behaviours[chargebox] = Behaviour(
            delay=(0.0, 0.2),
            ignores=rng.choice([0, 0, 0, 1, 2]),
            next_driver=rng.choice([None, 1.0, 2.0]),
        )


@pytest.mark.parametrize("never_stops", [False, True])
def test_the_loop_ends_and_calls_no_running_charge_done(
    thor: Thor, start: Start, tmp_path: Path, never_stops: bool
) -> None:
    rng = random.Random(7)
    path, output = tmp_path / "fleet.csv", tmp_path / "out.jsonl"
    rows = (f"box-{n},1,{TAG},{rng.choice(['', n + 1])}" for n in range(COUNT))
    path.write_text("\n".join([HEADER, *rows]))
    start_charges(thor, rng)
    if never_stops:
        thor.emulator.behaviours["box-0"] = Behaviour(ignores=math.inf)
    thor.emulator.faults = Faults.spread(0.2)
    thor.emulator.lists = Lists(lag=(0.0, 0.4), cut=0.05)
    arguments = ("stop-many", path, "--output", output, "--resume", "--ensure", 4)
    statuses: list[int] = []
    for _ in range(9):
        requests = thor.requests
        process = start(*arguments, "--max-in-flight", 8, code=FAST)
        if len(statuses) < 2:
            thor.wait_for_requests(requests + 12)
            process.kill()
        process.communicate()
        statuses.append(process.returncode)
        if statuses[-1] in {0, 3}:
            break
    running = {charge.transaction for charge in thor.emulator.charges.values()}
    applied = {request.effect for request in thor.emulator.ledger.requests} - {None}
    done = {row + 1 for row, line in final(output).items() if line["next_step"] == "done"}
    assert statuses[:2] == [-9, -9]
    assert statuses[-1] == (3 if never_stops else 0)
    assert applied <= set(range(1, COUNT + 1))  # no charge of a next driver
    assert not done & running
    assert len(done) == COUNT - never_stops
