"""The recipe of traces: one trace from the request of the browser to the request to Thor."""

from __future__ import annotations

from collections.abc import Iterator

import aiohttp
import pytest
from opentelemetry import metrics, trace
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.conftest import KEY, TAG
from tests.recipes import serving, traced_app
from thor_async.emulator import ThorEmulator


@pytest.fixture
def metric_reader(monkeypatch: pytest.MonkeyPatch) -> InMemoryMetricReader:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: provider)
    monkeypatch.setattr("opentelemetry.metrics._internal.get_meter_provider", lambda: provider)
    return reader


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    yield exporter
    AioHttpClientInstrumentor().uninstrument()
    provider.shutdown()


def find(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.name == name]


def span_id(span: ReadableSpan) -> int:
    assert span.context is not None
    number: int = span.context.span_id
    return number


async def test_request_stop_and_its_request_are_one_trace(
    spans: InMemorySpanExporter,
    metric_reader: InMemoryMetricReader,
    emulator: ThorEmulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("THOR_API_KEY", KEY)
    monkeypatch.setenv("THOR_BASE_URL", emulator.base_url)
    emulator.start_charge("box-1", 1, TAG)
    emulator.start_charge("box-1", 2, TAG)
    async with (
        serving.by_uvicorn(traced_app.make_app()) as served,
        aiohttp.ClientSession() as session,
        session.post(f"{served.url}/sites/box-1/stop") as response,
    ):
        assert [row["verdict"] for row in await response.json()] == ["relayed", "relayed"]
    [request] = find(spans, "POST /sites/{chargebox}/stop")
    stops = find(spans, "thor.stop_charge")
    sent = [span for span in find(spans, "POST") if span.parent]  # not that of the browser
    assert len(stops) == len(sent) == 2
    assert {stop.parent.span_id for stop in stops if stop.parent} == {span_id(request)}
    assert {one.parent.span_id for one in sent if one.parent} >= set(map(span_id, stops))
    assert {span.context.trace_id for span in (request, *stops, *sent) if span.context} == {
        request.context.trace_id
    }
    exported = "".join(span.to_json() for span in spans.get_finished_spans())
    assert TAG not in exported
    assert KEY not in exported
    recorded = str(metric_reader.get_metrics_data())
    assert "thor.client.stops" in recorded
    assert TAG not in recorded
