"""The site of a charge, by the columns of its row."""

from __future__ import annotations

import pytest

from thor_async.cli.sites import site_of_ref


@pytest.mark.parametrize(
    ("ref", "site"),
    [
        (None, None),
        ("a-site", None),
        ({"note": "x"}, None),
        ({"Site": "Harbour 2", "alias": "H 1"}, "Harbour 2"),
        ({"alias": "Quay 17"}, "Quay"),
        ({"site": "", "location": "Quay-3b"}, "Quay"),
        ({"alias": "17"}, "17"),
    ],
)
def test_the_site_of_a_row(ref: object, site: str | None) -> None:
    assert site_of_ref(ref) == site
