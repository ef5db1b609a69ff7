"""Makes the span of a stop a child of the span in which the producer sent the command."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping

try:
    from opentelemetry import context, propagate
except ModuleNotFoundError:  # the extra `otel` is not installed
    context = propagate = None  # type: ignore[assignment]

LOG = logging.getLogger("thor_async.worker")


@contextlib.contextmanager
def continuing_trace(headers: Mapping[str, str] | None) -> Iterator[None]:
    """Runs its block in the trace of these headers: `traceparent`, or those of the propagator."""
    if not headers or propagate is None:
        yield
        return
    # The names of NATS headers keep their case, those of HTTP headers have none.
    carrier = {name.lower(): value for name, value in headers.items()}
    try:
        found = propagate.extract(carrier)
    except Exception as failure:
        # A producer's header costs its trace, and never its command.
        LOG.warning("no trace from the headers: %s", type(failure).__name__)
        found = context.Context()
    token = context.attach(found)
    try:
        yield
    finally:
        context.detach(token)
