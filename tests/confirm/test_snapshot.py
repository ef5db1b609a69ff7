"""One complete list, looked into by place and by transaction."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.confirm.test_tracker import charge
from thor_async import RunningCharge
from thor_async._confirm.snapshot import ListedCharge, Snapshot


def test_a_snapshot_of_rows_in_disorder() -> None:
    snapshot = Snapshot(0, [charge(1)])
    snapshot.add([charge(2), charge(3), charge(4, "B")])
    assert [listed.transaction for listed in snapshot.charges_at("A", 1)] == [1, 2, 3]
    assert list(snapshot.charges_at("A", 2)) == []
    assert snapshot.chargeboxes == {"A", "B"}
    assert snapshot.find("B", 4) == ListedCharge(4)
    assert snapshot.find("A", 4) is None


def test_a_charge_without_a_connector_may_be_on_each_one_of_its_chargebox() -> None:
    snapshot = Snapshot(0, [charge(1), charge(2, connector=0), charge(3, "B")])
    assert snapshot.charges_at("A", 1) == (ListedCharge(1), ListedCharge(2, is_placed=False))
    assert snapshot.charges_at("A", 2) == (ListedCharge(2, is_placed=False),)
    assert snapshot.charges_at("B", 1) == (ListedCharge(3),)
    assert snapshot.find("A", 2) == ListedCharge(2, is_placed=False)


def test_what_a_list_tells_is_kept_and_what_it_does_not_tell_is_none() -> None:
    started = datetime(2026, 1, 1, tzinfo=UTC)
    full = RunningCharge(
        chargebox="A", connector=1, transaction=5, id_tag="tag", date_started=started
    )
    snapshot = Snapshot(0, [full, RunningCharge(chargebox="A", connector=2, transaction=None)])
    assert snapshot.find("A", 5) == ListedCharge(5, "tag", started.timestamp())
    assert list(snapshot.charges_at("A", 2)) == [ListedCharge(None)]
