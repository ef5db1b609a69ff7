"""The figures of a worker for Prometheus. Needs the extra `metrics`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from .health import State
from .stats import WorkerStats

CONTENT_TYPE = CONTENT_TYPE_LATEST
_PREFIX = "thor_worker_"


def format_metrics(stats: WorkerStats) -> bytes:
    """Returns the page `/metrics`. What is unknown, as the pace without a limit, has no line."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_WorkerCollector(stats))
    return generate_latest(registry)


class _WorkerCollector(Collector):
    """Makes the metrics of one moment: the worker itself counts, so that nothing is counted twice.

    No metric has a chargebox, an id_tag or a subject as a label.
    """

    def __init__(self, stats: WorkerStats) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        yield from self._collect_counters()
        yield from self._collect_gauges()

    def _collect_counters(self) -> Iterator[Metric]:
        stats = self._stats
        outcomes = CounterMetricFamily(
            f"{_PREFIX}outcomes", "Outcomes of stops.", labels=["verdict", "code"]
        )
        for verdict, code, count in stats.results:
            outcomes.add_metric([verdict, code], count)
        yield outcomes
        counters = {
            "dead_letters": ("Dead letters that were stored.", stats.dead_letters),
            "redeliveries": ("Messages that had been delivered before.", stats.redeliveries),
            "throttled": ("Answers 429 of Thor.", stats.throttled),
        }
        for name, (text, value) in counters.items():
            yield CounterMetricFamily(f"{_PREFIX}{name}", text, value=value)

    def _collect_gauges(self) -> Iterator[Metric]:
        stats = self._stats
        states = GaugeMetricFamily(f"{_PREFIX}state", "1 for the current state.", labels=["state"])
        for state in get_args(State):
            states.add_metric([state], state == stats.state)
        yield states
        gauges = {
            "in_hand": ("Commands received and not ended.", stats.in_hand),
            "watched": ("Those of them that are only watched.", stats.watched),
            "paused": ("1 while Thor or the store of results is away.", stats.state == "paused"),
            "oldest_seconds": ("Age of the oldest command in hand.", stats.oldest),
            "pending": ("Commands that no worker has received.", stats.pending),
            "pace": ("Requests that may begin in a second, where a limit is known.", stats.pace),
        }
        for name, (text, value) in gauges.items():
            if value is not None:
                yield GaugeMetricFamily(f"{_PREFIX}{name}", text, value=value)
