"""The result of a stop that an earlier run may have sent."""

from __future__ import annotations

import pytest

from tests.conftest import TAG
from thor_async import NotSentError, StopCharge, StopOutcome
from thor_async.cli.stop_results import StopResult


@pytest.mark.parametrize(
    ("sent_before", "transaction", "step"),
    [(False, None, "resend"), (True, None, "check"), (True, 5, "resend")],
)
def test_a_repeat_needs_a_transaction_if_an_earlier_run_may_have_sent_it(
    sent_before: bool, transaction: int | None, step: str
) -> None:
    command = StopCharge("A", 1, TAG, transaction)
    error = NotSentError("no connection", reason="connect")
    outcome = StopOutcome(command, 0, error.verdict, error, 1, 0.1, maybe_applied=False)
    result = StopResult(outcome, may_have_been_sent=sent_before)
    assert result.next_step == result.record()["next_step"] == step
    assert result.record()["maybe_applied"] is sent_before
    assert result.record()["reason"] == "connect"
