"""Puts the rows of a report in order, by site, and counts them by the columns of their refs."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ..sites import site_of_ref
from .rows import CATEGORIES, ReportRow

_MAX_VALUES = 500
_ORDER = {category: number for number, category in enumerate(CATEGORIES)}


class RowGroup(NamedTuple):
    """The rows of a site that may still be charging, or all rows that are known to be over.

    `site` is empty for rows without one, `rows` has their indexes, and `total` also counts the
    rows of the site that are over.
    """

    number: int
    site: str
    is_over: bool
    rows: array[int]
    counts: Counter[str]
    total: int


class ColumnCounts(NamedTuple):
    """The charges by the values of one column: value, charges, and how many may still charge."""

    name: str
    values: list[tuple[str, int, int]]


def group_rows(rows: Iterable[ReportRow]) -> list[RowGroup]:
    """Returns what may still be charging, by site, the largest one first; then what is over."""
    open_rows: dict[str, array[int]] = {}
    over, categories, totals = array("Q"), array("B"), Counter[str]()
    for index, row in enumerate(rows):
        site = site_of_ref(row.ref) or ""
        totals[site] += 1
        categories.append(_ORDER[row.category])
        group = open_rows.setdefault(site, array("Q")) if row.may_still_charge else over
        group.append(index)
    sites = sorted(open_rows, key=lambda site: (-len(open_rows[site]), site))
    groups: list[RowGroup] = []
    for site in sites:
        ordered = array("Q", sorted(open_rows[site], key=categories.__getitem__))
        counts = _count(ordered, categories)
        groups.append(RowGroup(len(groups), site, False, ordered, counts, totals[site]))
    if over:
        groups.append(RowGroup(len(groups), "", True, over, _count(over, categories), len(over)))
    return groups


def count_columns(rows: Iterable[ReportRow]) -> Iterator[ColumnCounts]:
    """Yields the counts by each column of the refs whose values put charges together."""
    columns: dict[str, dict[str, list[int]]] = {}
    for row in rows:
        for name, value in ref_columns(row.ref):
            values = columns.setdefault(name, {})
            if len(values) <= _MAX_VALUES:
                counts = values.setdefault(value, [0, 0])
                counts[0] += row.may_still_charge
                counts[1] += 1
    for name, values in columns.items():
        # A column whose values name single charges would be a second list of them.
        charges = sum(count for _, count in values.values())
        if len(values) <= min(_MAX_VALUES, (charges + 1) // 2):
            ordered = sorted(values.items(), key=lambda item: (item[1], item[0]), reverse=True)
            yield ColumnCounts(name, [(value, count, still) for value, (still, count) in ordered])


def ref_columns(ref: Any) -> list[tuple[str, str]]:
    """Returns the names and values of a ref; one that is not a dict is a column named `ref`."""
    if ref is None:
        return []
    cells = ref if isinstance(ref, dict) else {"ref": ref}
    return [(str(name), _text(value)) for name, value in cells.items()]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _count(rows: Iterable[int], categories: array[int]) -> Counter[str]:
    names = tuple(CATEGORIES)
    return Counter(names[categories[row]] for row in rows)
