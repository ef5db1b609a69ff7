"""The page for Prometheus."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from thor_async import RejectedError, ResponseTimeout, ThorError, WrongTransaction
from thor_async.worker.metrics import format_metrics
from thor_async.worker.stats import WorkerStats, find_counted_code

STATS = WorkerStats(
    state="paused",
    in_hand=3,
    pending=70,
    watched=1,
    oldest=12.5,
    pace=19.5,
    throttled=4,
    results=(("relayed", "", 5), ("rejected", "NotInTransaction", 2)),
    dead_letters=6,
    redeliveries=7,
)


def samples(stats: WorkerStats) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(format_metrics(stats).decode())
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_all_figures() -> None:
    found = samples(STATS)
    states = {key[1]: value for key, value in found.items() if key[0] == "thor_worker_state"}
    assert states.pop("paused") == 1
    assert set(states.values()) == {0}
    assert {key: value for key, value in found.items() if key[0] != "thor_worker_state"} == {
        ("thor_worker_outcomes_total", "", "relayed"): 5,
        ("thor_worker_outcomes_total", "NotInTransaction", "rejected"): 2,
        ("thor_worker_dead_letters_total",): 6,
        ("thor_worker_redeliveries_total",): 7,
        ("thor_worker_throttled_total",): 4,
        ("thor_worker_in_hand",): 3,
        ("thor_worker_watched",): 1,
        ("thor_worker_paused",): 1,
        ("thor_worker_oldest_seconds",): 12.5,
        ("thor_worker_pending",): 70,
        ("thor_worker_pace",): 19.5,
    }


def test_what_is_unknown_has_no_line() -> None:
    names = {key[0] for key in samples(WorkerStats())}
    assert names.isdisjoint({"thor_worker_pace", "thor_worker_pending"})
    assert "thor_worker_in_hand" in names


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, None),
        (ResponseTimeout("no"), None),
        (RejectedError("no", status=400, code="Request7f3a"), "other"),
        (WrongTransaction("no", status=400, code="WrongTransaction"), "WrongTransaction"),
    ],
)
def test_a_word_that_thor_does_not_document_makes_no_label(
    error: ThorError | None, code: str | None
) -> None:
    assert find_counted_code(error) == code
