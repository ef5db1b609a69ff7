"""The order of the rows, and the counts by the columns of the input."""

from __future__ import annotations

from thor_async.cli.report.groups import count_columns, group_rows

from .samples import make_row

STOPPED: dict[str, object] = {"state": "stopped"}
STILL: dict[str, object] = {"state": "still_running", "next_step": "check"}


def test_what_may_still_be_charging_comes_first_by_site() -> None:
    rows = [
        make_row(0, ref={"site": "south"}),
        make_row(1, ref={"site": "north"}),
        make_row(2, "relayed", ref={"site": "south"}, **STOPPED),
        make_row(3, "relayed", ref={"site": "north"}, **STILL),
        make_row(4),
    ]
    north, none, south, over = group_rows(rows)
    assert [group.site for group in (north, none, south)] == ["north", "", "south"]
    assert list(north.rows) == [3, 1]  # the worst first
    assert (list(south.rows), south.total, dict(south.counts)) == ([0], 2, {"relayed": 1})
    assert (over.is_over, list(over.rows), list(none.rows)) == (True, [2], [4])
    assert [group.number for group in (north, none, south, over)] == [0, 1, 2, 3]


def test_a_column_is_counted_if_it_puts_charges_together() -> None:
    rows = [
        make_row(
            n,
            "relayed",
            ref={"site": f"S{n % 3}", "note": f"row {n}"},
            **(STOPPED if n < 4 else {}),
        )
        for n in range(12)
    ]
    [column] = count_columns(rows)
    assert column.name == "site"
    assert column.values == [("S2", 4, 3), ("S1", 4, 3), ("S0", 4, 2)]


def test_a_column_of_too_many_values_is_no_table() -> None:
    rows = [make_row(n, ref={"site": f"S{n % 501}"}) for n in range(2000)]
    assert list(count_columns(rows)) == []
    assert len(list(count_columns(rows[:500] * 2))) == 1
