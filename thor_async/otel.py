"""OpenTelemetry spans and metrics: `ThorClient(on_event=Telemetry())`. Needs the extra `otel`.

Names follow the semantic conventions of HTTP clients; all other names begin with `thor.`.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import Token
from functools import lru_cache
from urllib.parse import urlsplit

from opentelemetry import context, metrics, trace
from opentelemetry.util.types import AttributeValue

from ._events import (
    AttemptFinished,
    AttemptStarted,
    CallFinished,
    CallStarted,
    Event,
    PaceLowered,
    PaceRestored,
)

Attributes = dict[str, AttributeValue]

_STOP_SPAN_KEY = context.create_key("thor_async.stop")
_TOO_MANY_REQUESTS = 429
_DEFAULT_PORTS = {"http": 80, "https": 443}
# The boundaries of the conventions, in seconds. The SDK's defaults are for milliseconds.
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30)


class Telemetry:
    """Records a span for each stop, with an event for each attempt, and metrics of both.

    The span `thor.stop_charge` is the current span during its stop, so that the spans of the
    aiohttp instrumentation are its children. Chargebox, connector and transaction are attributes of
    spans only, as a metric must have few attribute values. The id_tag is never recorded.

    Metrics of attempts: `http.client.request.duration` (seconds) and `http.client.active_requests`.
    Metrics of stops, by `thor.verdict` and `error.type`: `thor.client.stop.duration` (seconds),
    `thor.client.stop.attempts` and the counter `thor.client.stops`. The aiohttp instrumentation may
    record `http.client.request.duration` too: then use a view to drop that of the meter
    `thor_async`.

    Metrics of the rate limit: the counter `thor.client.throttled` of answers 429, and the gauge
    `thor.client.pace`, the requests a second that Thor allows; it has no value while no limit is
    known. It knows one limit only, so give each account a `Telemetry` of its own.

    Without `tracer_provider` or `meter_provider`, the global provider is used.
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
        self._throttled = meter.create_counter(
            "thor.client.throttled",
            unit="{response}",
            description="Answers 429: too many requests.",
        )
        self._pace: float | None = None
        meter.create_observable_gauge(
            "thor.client.pace",
            [self._observe_pace],
            unit="{request}/s",
            description="Requests a second that Thor allows.",
        )

    def __call__(self, event: Event) -> None:
        match event:
            case CallStarted():
                self._start_span(event)
            case AttemptStarted():
                self._active_requests.add(1, _request_attributes(event))
            case AttemptFinished():
                self._record_attempt(event)
            case CallFinished():
                self._record_stop(event)
            case PaceLowered() | PaceRestored():
                self._pace = event.rate

    def _start_span(self, event: CallStarted) -> None:
        span = self._tracer.start_span(
            "thor.stop_charge", kind=trace.SpanKind.CLIENT, attributes=_command_attributes(event)
        )
        stop_span = _StopSpan(span)
        in_context = context.set_value(_STOP_SPAN_KEY, stop_span)
        stop_span.token = context.attach(trace.set_span_in_context(span, in_context))

    def _record_attempt(self, event: AttemptFinished) -> None:
        request, response = _request_attributes(event), _response_attributes(event)
        self._active_requests.add(-1, request)
        self._request_duration.record(event.duration, request | response)
        if event.status == _TOO_MANY_REQUESTS:
            self._throttled.add(1, _server_attributes(event.url))
        if (stop_span := _current_stop_span()) is not None:
            attributes = request | response | _attempt_attributes(event)
            stop_span.span.add_event("attempt", attributes)

    def _record_stop(self, event: CallFinished) -> None:
        attributes = _outcome_attributes(event)
        self._stop_duration.record(event.elapsed, attributes)
        self._stop_attempts.record(event.attempts, attributes)
        self._stops.add(1, attributes)
        if (stop_span := _current_stop_span()) is not None:
            stop_span.end(event, attributes)

    def _observe_pace(self, options: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
        return [] if self._pace is None else [metrics.Observation(self._pace)]


class _StopSpan:
    """The span of one running stop, with the token that restores the span around it."""

    __slots__ = ("span", "token")

    token: Token[context.Context]

    def __init__(self, span: trace.Span) -> None:
        self.span = span

    def end(self, event: CallFinished, attributes: Attributes) -> None:
        self.span.set_attributes(
            attributes
            | {
                "thor.attempts": event.attempts,
                "thor.maybe_applied": event.maybe_applied,
                "thor.next_step": event.next_step,
            }
            | _without_none({"http.response.status_code": event.status, "thor.code": event.code})
        )
        if event.error is not None:
            self.span.set_status(trace.StatusCode.ERROR, event.message)
        self.span.end()
        context.detach(self.token)


def _current_stop_span() -> _StopSpan | None:
    stop_span = context.get_value(_STOP_SPAN_KEY)
    return stop_span if isinstance(stop_span, _StopSpan) else None


def _command_attributes(event: CallStarted) -> Attributes:
    return _without_none(
        {
            "thor.chargebox": event.chargebox,
            "thor.connector": event.connector,
            "thor.transaction": event.transaction,
        }
    )


def _request_attributes(event: AttemptStarted | AttemptFinished) -> Attributes:
    return {"http.request.method": "POST", **_server_attributes(event.url)}


@lru_cache(maxsize=16)
def _server_attributes(url: str) -> Attributes:
    parts = urlsplit(url)
    port = parts.port or _DEFAULT_PORTS[parts.scheme]
    return {"server.address": parts.hostname or "", "server.port": port}


def _response_attributes(event: AttemptFinished) -> Attributes:
    """By the conventions, `error.type` of a request is its status if there is one."""
    is_error_status = event.status is not None and event.status >= 400
    error = str(event.status) if is_error_status else event.error
    return _without_none({"http.response.status_code": event.status, "error.type": error})


def _attempt_attributes(event: AttemptFinished) -> Attributes:
    return _without_none(
        {
            "http.request.resend_count": event.attempt - 1 or None,
            "thor.attempt": event.attempt,
            "thor.attempt.duration": event.duration,
            "thor.verdict": event.verdict.value,
            "thor.code": event.code,
        }
    )


def _outcome_attributes(event: CallFinished) -> Attributes:
    return _without_none({"thor.verdict": event.verdict.value, "error.type": event.error})


def _without_none(values: dict[str, AttributeValue | None]) -> Attributes:
    return {name: value for name, value in values.items() if value is not None}
