"""OpenTelemetry on top of the events: `ThorClient(on_event=Telemetry())`. Needs the extra `otel`.

Names follow the semantic conventions of HTTP clients where these have one, else begin with `thor.`.
"""

from __future__ import annotations

from contextvars import Token
from functools import lru_cache
from urllib.parse import urlsplit

from opentelemetry import context, metrics, trace
from opentelemetry.util.types import AttributeValue

from ._events import AttemptFinished, AttemptStarted, CallFinished, CallStarted, Event

Attributes = dict[str, AttributeValue]

_OPEN = context.create_key("thor_async.stop")
_PORTS = {"http": 80, "https": 443}
# Those that the conventions ask for; the SDK's own are for milliseconds.
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30)


class Telemetry:
    """A span for each stop with an event for each attempt, and metrics of both.

    The span `thor.stop_charge` is current while its stop goes on, so that the spans of the aiohttp
    instrumentation are its children. Chargebox, connector and transaction are attributes of spans
    only, because a metric has to have few; an id_tag is nowhere.

    Metrics: `http.client.request.duration` (seconds) and `http.client.active_requests` of the
    attempts; `thor.client.stop.duration` (seconds), `thor.client.stop.attempts` and the counter
    `thor.client.stops` of the stops, by `thor.verdict` and `error.type`. The aiohttp
    instrumentation may report its own `http.client.request.duration`: that of the meter
    `thor_async` is the one to drop by a view.

    The global providers are used where none is given.
    """

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        self._tracer = trace.get_tracer("thor_async", tracer_provider=tracer_provider)
        meter = metrics.get_meter("thor_async", meter_provider=meter_provider)
        self._request_duration = meter.create_histogram(
            "http.client.request.duration",
            unit="s",
            description="Duration of HTTP client requests.",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )
        self._active_requests = meter.create_up_down_counter(
            "http.client.active_requests",
            unit="{request}",
            description="Number of active HTTP requests.",
        )
        self._stop_duration = meter.create_histogram(
            "thor.client.stop.duration",
            unit="s",
            description="Duration of stops, with their waits and retries.",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )
        self._stop_attempts = meter.create_histogram(
            "thor.client.stop.attempts",
            unit="{attempt}",
            description="Attempts that a stop took.",
            explicit_bucket_boundaries_advisory=(0, 1, 2, 3, 5, 10),
        )
        self._stops = meter.create_counter(
            "thor.client.stops", unit="{stop}", description="Stops that have ended."
        )

    def __call__(self, event: Event) -> None:
        match event:
            case CallStarted():
                self._open(event)
            case AttemptStarted():
                self._active_requests.add(1, _request(event))
            case AttemptFinished():
                self._attempt(event)
            case CallFinished():
                self._close(event)

    def _open(self, event: CallStarted) -> None:
        span = self._tracer.start_span(
            "thor.stop_charge", kind=trace.SpanKind.CLIENT, attributes=_call(event)
        )
        stop = _Stop(span)
        stop.token = context.attach(trace.set_span_in_context(span, context.set_value(_OPEN, stop)))

    def _attempt(self, event: AttemptFinished) -> None:
        request, answer = _request(event), _answer(event)
        self._active_requests.add(-1, request)
        self._request_duration.record(event.duration, request | answer)
        if (stop := _open_stop()) is not None:
            stop.span.add_event("attempt", request | answer | _attempt(event))

    def _close(self, event: CallFinished) -> None:
        result = _result(event)
        self._stop_duration.record(event.elapsed, result)
        self._stop_attempts.record(event.attempts, result)
        self._stops.add(1, result)
        if (stop := _open_stop()) is not None:
            stop.close(event, result)


class _Stop:
    """The open span of one stop, and what makes the span around it current again."""

    __slots__ = ("span", "token")

    token: Token[context.Context]

    def __init__(self, span: trace.Span) -> None:
        self.span = span

    def close(self, event: CallFinished, result: Attributes) -> None:
        self.span.set_attributes(
            result
            | {
                "thor.attempts": event.attempts,
                "thor.maybe_applied": event.maybe_applied,
                "thor.next_step": event.next_step,
            }
            | _known({"http.response.status_code": event.status, "thor.code": event.code})
        )
        if event.error is not None:
            self.span.set_status(trace.StatusCode.ERROR, event.message)
        self.span.end()
        context.detach(self.token)


def _open_stop() -> _Stop | None:
    stop = context.get_value(_OPEN)
    return stop if isinstance(stop, _Stop) else None


def _call(event: CallStarted) -> Attributes:
    return _known(
        {
            "thor.chargebox": event.chargebox,
            "thor.connector": event.connector,
            "thor.transaction": event.transaction,
        }
    )


def _request(event: AttemptStarted | AttemptFinished) -> Attributes:
    return {"http.request.method": "POST", **_server(event.url)}


@lru_cache(maxsize=16)
def _server(url: str) -> Attributes:
    parts = urlsplit(url)
    port = parts.port or _PORTS[parts.scheme]
    return {"server.address": parts.hostname or "", "server.port": port}


def _answer(event: AttemptFinished) -> Attributes:
    """The conventions' `error.type` of a request is the status, where one came."""
    is_status = event.status is not None and event.status >= 400
    error = str(event.status) if is_status else event.error
    return _known({"http.response.status_code": event.status, "error.type": error})


def _attempt(event: AttemptFinished) -> Attributes:
    return _known(
        {
            "http.request.resend_count": event.attempt - 1 or None,
            "thor.attempt": event.attempt,
            "thor.attempt.duration": event.duration,
            "thor.verdict": event.verdict.value,
            "thor.code": event.code,
        }
    )


def _result(event: CallFinished) -> Attributes:
    return _known({"thor.verdict": event.verdict.value, "error.type": event.error})


def _known(values: dict[str, AttributeValue | None]) -> Attributes:
    return {name: value for name, value in values.items() if value is not None}
