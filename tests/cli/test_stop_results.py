"""The result of a stop that an earlier run may have sent."""

from __future__ import annotations

import pytest

from tests.conftest import TAG
from thor_async import NotSentError, StopCharge, StopOutcome
from thor_async.cli.stop_results import StopResult


@pytest.mark.parametrize(("sent_before", "step"), [(False, "resend"), (True, "check")])
def test_resend_becomes_check_if_an_earlier_run_may_have_sent_it(
    sent_before: bool, step: str
) -> None:
    command = StopCharge("A", 1, TAG)
    error = NotSentError("no connection", reason="connect")
    outcome = StopOutcome(command, 0, error.verdict, error, 1, 0.1, maybe_applied=False)
    result = StopResult(outcome, may_have_been_sent=sent_before)
    assert result.next_step == result.record()["next_step"] == step
    assert result.record()["maybe_applied"] is sent_before
