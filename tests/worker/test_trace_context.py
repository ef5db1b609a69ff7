"""The trace of a producer, with and without OpenTelemetry."""

from __future__ import annotations

import pytest
from opentelemetry import trace

from thor_async.worker import trace_context
from thor_async.worker.trace_context import continuing_trace

HEADERS = {"Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}


def find_span_id() -> int:
    return trace.get_current_span().get_span_context().span_id


def test_the_trace_lasts_for_its_block() -> None:
    with continuing_trace(HEADERS):
        assert find_span_id() == 0xB7AD6B7169203331
    assert find_span_id() == 0


@pytest.mark.parametrize("headers", [None, {}, {"traceparent": "nonsense"}, {"Site": "Harbour"}])
def test_without_a_trace_there_is_none(headers: dict[str, str] | None) -> None:
    with continuing_trace(headers):
        assert find_span_id() == 0


def test_a_header_that_cannot_be_read_costs_the_trace_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The propagator raises for a lone surrogate, for example."""
    with continuing_trace(HEADERS | {"baggage": "a=\ud800"}):
        assert find_span_id() == 0
    assert "no trace from the headers: UnicodeEncodeError" in caplog.text


def test_without_opentelemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_context, "propagate", None)
    with continuing_trace(HEADERS):
        assert find_span_id() == 0
