"""The producer's headers and its trace go through a worker, on a real broker."""

from __future__ import annotations

import msgspec
import pytest
from faststream.nats import NatsBroker
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.conftest import KEY, TAG
from tests.worker.conftest import Place, serving
from thor_async import StopCharge, ThorClient
from thor_async.emulator import ThorEmulator
from thor_async.otel import Telemetry
from thor_async.worker.service import add_worker

pytestmark = pytest.mark.broker

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADERS = {"traceparent": f"00-{TRACE}-{SPAN}-01", "Site": "Harbour"}


async def send(place: Place, chargebox: str, headers: dict[str, str]) -> None:
    body = msgspec.json.encode(StopCharge(chargebox, 1, TAG, ref=f"ref-{chargebox}"))
    await place.jetstream.publish(place.names["subject"], body, headers=headers)


async def test_headers_of_the_outcome_and_the_dead_letter(
    place: Place, emulator: ThorEmulator
) -> None:
    emulator.start_charge("A", 1, TAG)
    async with serving(place, emulator):
        await send(place, "A", HEADERS | {"Nats-Msg-Id": "first"})
        await send(place, "B", HEADERS | {"Status": "new"})
        await place.emptied()
        (outcome,) = await place.read("outcomes")
        (letter,) = await place.dead()
    for message in (outcome, letter):
        found = message.headers or {}
        assert HEADERS.items() <= found.items()
        assert found["Nats-Msg-Id"] != "first"
        assert "Status" not in found
    headers = letter.headers or {}
    assert headers["Thor-Code"] == "ChargeboxNotFound"
    assert headers["Thor-Verdict"] == "rejected"
    assert headers["Thor-Ref"] == "ref-B"
    assert headers["Thor-Sequence"] == "2"


async def test_the_span_of_a_stop_is_in_the_trace_of_its_producer(
    place: Place, emulator: ThorEmulator
) -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    emulator.start_charge("A", 1, TAG)
    emulator.start_charge("B", 1, TAG)
    broker = NatsBroker(place.url, logger=None, max_reconnect_attempts=-1)
    telemetry = Telemetry(tracer_provider=provider)
    thor = ThorClient(KEY, base_url=emulator.base_url, on_event=telemetry)
    worker = add_worker(broker, thor, **place.names)
    async with worker.lifespan():
        await broker.start()
        await send(place, "A", {"Traceparent": HEADERS["traceparent"]})
        await send(place, "B", {})
        await place.emptied()
        await broker.stop()
    by_chargebox = {
        (span.attributes or {})["thor.chargebox"]: span for span in spans.get_finished_spans()
    }
    followed, alone = by_chargebox["A"], by_chargebox["B"]
    assert f"{followed.context.trace_id:032x}" == TRACE
    assert followed.parent is not None
    assert f"{followed.parent.span_id:016x}" == SPAN
    assert alone.parent is None
