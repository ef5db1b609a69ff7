"""What a type checker accepts and refuses. mypy reports an ignored error that is none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import assert_type

import pytest

from thor_async import (
    Commands,
    Confirmation,
    ConfirmationStream,
    NextStep,
    NotSentError,
    NotSentReason,
    OnEvent,
    State,
    StopCharge,
    StopOutcome,
    StopStream,
    ThorClient,
)


async def accepted(thor: ThorClient, commands: Commands, command: StopCharge) -> NextStep:
    async with thor.stop_stream(commands) as stream:
        assert_type(stream, StopStream)
        async for outcome in stream:
            assert_type(outcome, StopOutcome)
            assert_type(outcome.next_step, NextStep)
    async with thor.ensure_stopped_stream(commands) as watched:
        assert_type(watched, ConfirmationStream)
        async for confirmation in watched:
            assert_type(confirmation, Confirmation)
            assert_type(confirmation.state, State)
    async with thor.stop_and_confirm_stream([command]) as more:
        # A checker knows that the block swallows no exception, so no return is missing.
        return (await anext(more)).next_step


def make_client(on_event: OnEvent) -> ThorClient:
    return ThorClient("key", on_event=on_event)


def refused_without_async(thor: ThorClient) -> None:
    with thor:  # type: ignore[attr-defined]
        pass


async def refused(thor: ThorClient, commands: Commands) -> None:
    NotSentError(reason="no_conection")  # type: ignore[arg-type]
    reason: NotSentReason = "later"  # type: ignore[assignment]
    state: State = "finished"  # type: ignore[assignment]
    step: NextStep = "retry"  # type: ignore[assignment]
    async for _ in thor.stop_stream(commands):  # type: ignore[attr-defined]
        print(reason, state, step)
    async for _ in thor.ensure_stopped_stream(commands):  # type: ignore[attr-defined]
        pass
    await thor.stop_many("box-1")  # type: ignore[arg-type]
    await thor.stop_charge({"chargebox": "box-1"})  # type: ignore[arg-type]


PUBLIC = ("thor_async", "thor_async.emulator", "thor_async.otel", "thor_async.testing",
          "thor_async.worker")  # fmt: skip


def test_every_public_name_has_a_whole_type() -> None:
    pytest.importorskip("pyright", reason="it comes with the extra dev")
    here = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # of pyright's Python
    for module in PUBLIC:
        ran = subprocess.run(
            [sys.executable, "-m", "pyright", "--verifytypes", module, "--ignoreexternal",
             "--outputjson"],
            capture_output=True,
            check=False,
            text=True,
            env=os.environ | {"PATH": here},
        )  # fmt: skip
        found = json.loads(ran.stdout)
        bad = [
            symbol["name"]
            for symbol in found["typeCompleteness"]["symbols"]
            if symbol["isExported"] and not symbol["isTypeKnown"]
        ]
        assert (bad, found["typeCompleteness"]["completenessScore"]) == ([], 1), module
