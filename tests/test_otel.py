"""The spans and metrics that the real SDK exports."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tests.conftest import KEY, TAG, Rests
from tests.fake_transport import OK, FakeTransport, fleet, thor_says
from thor_async import NotInTransaction, PaceLowered, PaceRestored, StopCharge, ThorClient
from thor_async._protocol.http_messages import Answer
from thor_async.emulator import ScriptedAnswer, ThorEmulator
from thor_async.otel import Telemetry


class Backend:
    """Collects spans and metrics in memory."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.traces = TracerProvider(shutdown_on_exit=False)
        self.traces.add_span_processor(SimpleSpanProcessor(self._spans))
        self.meters = MeterProvider([self._reader], shutdown_on_exit=False)
        self.telemetry = Telemetry(self.traces, self.meters)

    def spans(self, name: str = "thor.stop_charge") -> list[ReadableSpan]:
        return [span for span in self._spans.get_finished_spans() if span.name == name]

    def points(self, name: str) -> list[Any]:
        data = self._reader.get_metrics_data()
        metrics = [
            metric
            for resource in (data.resource_metrics if data else [])
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]
        found = [metric for metric in metrics if metric.name == name]
        return [point for metric in found for point in metric.data.data_points]

    def export(self) -> str:
        data = self._reader.get_metrics_data()
        assert data is not None
        return data.to_json() + "".join(s.to_json() for s in self._spans.get_finished_spans())


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
def instrumented(backend: Backend) -> Iterator[None]:
    instrumentor = AioHttpClientInstrumentor()
    instrumentor.instrument(tracer_provider=backend.traces, meter_provider=backend.meters)
    yield
    instrumentor.uninstrument()


def attributes(span: Any) -> dict[str, Any]:
    return dict(span.attributes)


async def test_a_stop_is_a_span_with_an_event_for_each_attempt(
    backend: Backend, emulator: ThorEmulator, rests: Rests
) -> None:
    charge = emulator.start_charge("box-1", 2, TAG)
    emulator.script("InternalServerError", 503)
    server = {"server.address": "127.0.0.1", "server.port": urlsplit(emulator.base_url).port}
    async with ThorClient(
        KEY, base_url=emulator.base_url, on_event=backend.telemetry, retry=rests.policy()
    ) as thor:
        await thor.stop_charge(StopCharge("box-1", 2, TAG, charge.transaction))
    [span] = backend.spans()
    assert (span.kind, span.status.status_code) == (SpanKind.CLIENT, StatusCode.UNSET)
    assert attributes(span) == {
        "thor.chargebox": "box-1",
        "thor.connector": 2,
        "thor.transaction": charge.transaction,
        "thor.verdict": "relayed",
        "thor.attempts": 3,
        "thor.maybe_applied": True,
        "thor.next_step": "done",
        "http.response.status_code": 200,
    }
    events = [attributes(event) for event in span.events]
    assert [event.name for event in span.events] == ["attempt"] * 3
    assert all(event.pop("thor.attempt.duration") > 0 for event in events)
    request = {"http.request.method": "POST", **server}
    assert events == [
        {
            **request,
            "http.response.status_code": 500,
            "error.type": "500",
            "thor.attempt": 1,
            "thor.verdict": "indeterminate",
            "thor.code": "InternalServerError",
        },
        {
            **request,
            "http.response.status_code": 503,
            "error.type": "503",
            "http.request.resend_count": 1,
            "thor.attempt": 2,
            "thor.verdict": "indeterminate",
        },
        {
            **request,
            "http.response.status_code": 200,
            "http.request.resend_count": 2,
            "thor.attempt": 3,
            "thor.verdict": "relayed",
        },
    ]


async def test_a_failed_stop_sets_the_status_of_its_span(
    backend: Backend, command: StopCharge
) -> None:
    thor = FakeTransport(lambda *_: thor_says("NotInTransaction", 400))
    with thor.installed():
        async with thor.client(on_event=backend.telemetry) as client:
            with pytest.raises(NotInTransaction):
                await client.stop_charge(command)
    [span] = backend.spans()
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "Thor answered 400: NotInTransaction"
    recorded = attributes(span)
    assert recorded["error.type"] == recorded["thor.code"] == "NotInTransaction"
    assert recorded["thor.next_step"] == "done"


async def test_the_error_type_of_an_unsent_attempt_is_its_error(
    backend: Backend, command: StopCharge
) -> None:
    async with ThorClient(KEY, base_url="http://127.0.0.1:1", on_event=backend.telemetry) as thor:
        await thor.stop_many([command])
    [span] = backend.spans()
    [event] = span.events
    assert attributes(event)["error.type"] == "NotSentError"
    assert "http.response.status_code" not in attributes(event)


async def test_metrics_count_attempts_and_stops_by_verdict(backend: Backend) -> None:
    def reply(command: StopCharge, now: float) -> Answer:
        return Answer(404) if command.chargebox == "box-1" else OK

    thor = FakeTransport(reply)
    with thor.installed():
        async with thor.client(on_event=backend.telemetry) as client:
            await client.stop_many(fleet(10))
    relayed = {"thor.verdict": "relayed"}
    rejected = {"thor.verdict": "rejected", "error.type": "RejectedError"}
    stops = backend.points("thor.client.stops")
    assert [(attributes(point), point.value) for point in stops] == [(relayed, 9), (rejected, 1)]
    for name in ("thor.client.stop.duration", "thor.client.stop.attempts"):
        points = backend.points(name)
        assert [(attributes(p), p.count) for p in points] == [(relayed, 9), (rejected, 1)]
    server = {"http.request.method": "POST", "server.address": "127.0.0.1", "server.port": 1}
    ok, missing = backend.points("http.client.request.duration")
    assert attributes(ok) == {**server, "http.response.status_code": 200}
    error = {"http.response.status_code": 404, "error.type": "404"}
    assert attributes(missing) == server | error
    assert (ok.count, missing.count) == (9, 1)
    assert ok.explicit_bounds[:3] == (0.005, 0.01, 0.025)


async def test_active_requests_counts_requests_in_flight(backend: Backend) -> None:
    thor = FakeTransport(lambda *_: None)
    with thor.installed():
        async with thor.client(on_event=backend.telemetry, max_in_flight=3) as client:
            batch = asyncio.create_task(client.stop_many(fleet(10)))
            while thor.in_flight < 3:
                await asyncio.sleep(0)
            [active] = backend.points("http.client.active_requests")
            assert active.value == 3
            batch.cancel()
            await asyncio.wait([batch])
    [active] = backend.points("http.client.active_requests")
    assert active.value == 0


async def test_the_pace_is_recorded_while_a_limit_is_known(backend: Backend) -> None:
    assert backend.points("thor.client.pace") == []
    backend.telemetry(PaceLowered(20.5))
    [pace] = backend.points("thor.client.pace")
    assert (pace.value, attributes(pace)) == (20.5, {})
    backend.telemetry(PaceRestored(80.0))
    [pace] = backend.points("thor.client.pace")
    assert pace.value == 80.0
    backend.telemetry(PaceRestored(None))
    assert backend.points("thor.client.pace") == []


async def test_answers_429_are_counted(backend: Backend, rests: Rests) -> None:
    """Also those that are sent again, and so are the error of no stop."""
    answers = iter([Answer(429), Answer(429), OK])
    thor = FakeTransport(lambda *_: next(answers))
    policy = rests.policy(retry_throttled=True)
    with thor.installed():
        async with thor.client(on_event=backend.telemetry, retry=policy) as client:
            await client.stop_many(fleet(1))
    [throttled] = backend.points("thor.client.throttled")
    assert throttled.value == 2
    assert attributes(throttled) == {"server.address": "127.0.0.1", "server.port": 1}
    [stops] = backend.points("thor.client.stops")
    assert attributes(stops) == {"thor.verdict": "relayed"}


async def test_the_surrounding_span_is_the_parent_and_current_again_afterwards(
    backend: Backend, command: StopCharge
) -> None:
    thor = FakeTransport(lambda *_: OK)
    tracer = backend.traces.get_tracer("test")
    with thor.installed(), tracer.start_as_current_span("request") as parent:
        async with thor.client(on_event=backend.telemetry) as client:
            await client.stop_charge(command)
            assert trace.get_current_span() is parent
            await client.stop_many(fleet(2))
    assert len(backend.spans()) == 3
    assert [span.parent for span in backend.spans()] == [parent.get_span_context()] * 3


async def test_a_cancelled_stop_closes_its_span(backend: Backend, command: StopCharge) -> None:
    thor = FakeTransport(lambda *_: None)
    with thor.installed():
        async with thor.client(on_event=backend.telemetry) as client:
            call = asyncio.create_task(client.stop_charge(command))
            while not thor.in_flight:
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])
    [span] = backend.spans()
    assert attributes(span)["thor.verdict"] == "indeterminate"
    assert len(span.events) == 1


@pytest.mark.usefixtures("instrumented")
async def test_the_spans_of_the_aiohttp_instrumentation_are_inside_their_stop(
    backend: Backend, emulator: ThorEmulator, rests: Rests
) -> None:
    commands = list(fleet(30))
    emulator.fill(commands)
    for command in commands[::3]:
        emulator.script(500, chargebox=command.chargebox)
    async with ThorClient(
        KEY,
        base_url=emulator.base_url,
        on_event=backend.telemetry,
        retry=rests.policy(),
        max_in_flight=4,
    ) as thor:
        await thor.stop_many(commands)
    stops = {span.context.span_id: span for span in backend.spans() if span.context}
    requests = backend.spans("POST")
    assert len(stops) == 30
    assert len(requests) == 40
    inside: dict[int, list[ReadableSpan]] = {span_id: [] for span_id in stops}
    for request in requests:
        assert request.parent is not None
        inside[request.parent.span_id].append(request)
    for span_id, stop in stops.items():
        assert stop.parent is None
        assert len(inside[span_id]) == attributes(stop)["thor.attempts"]


async def test_no_secret_is_exported(
    backend: Backend, emulator: ThorEmulator, rests: Rests
) -> None:
    emulator.script(ScriptedAnswer(418, f'{{"message": "{TAG} {KEY}"}}'.encode()))
    async with ThorClient(
        KEY, base_url=emulator.base_url, on_event=backend.telemetry, retry=rests.policy()
    ) as thor:
        await thor.stop_many([StopCharge("box-1", 1, TAG)])
    exported = backend.export()
    assert "box-1" in exported
    assert TAG not in exported
    assert KEY not in exported
