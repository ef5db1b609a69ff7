"""Text from the server is escaped, cut, and has no secret."""

from __future__ import annotations

import pytest

from tests.conftest import KEY, TAG
from tests.protocol.answers import SECRETS
from thor_async._protocol.sanitize import sanitize


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("", ""),
        ("a\tb", r"a\tb"),
        ("\u200b\ud800\U000e0001", r"\u200b\ud800\U000e0001"),
        ("\u3000\u00a0 'quoted' \\", "\u3000\u00a0 'quoted' \\"),
        (f"{KEY} and {TAG}, {KEY}", "*** and ***, ***"),
        ("x" * 190 + KEY, "x" * 190 + "***"),
        ("x" * 199 + KEY, "x" * 199 + "*"),
        (KEY * 100 + "end", "***" * 66 + "**"),
    ],
)
def test_controls_are_escaped_and_secrets_masked(text: str, expected: str) -> None:
    assert sanitize(text, SECRETS) == expected


@pytest.mark.parametrize(
    "echo", ["S3/crët", r"S3\/crët", r"S3/cr\u00ebt", r"\u00533\/cr\u00EBt", r"S\u0033\u002fcrët"]
)
def test_a_secret_is_masked_in_whatever_way_json_may_write_it(echo: str) -> None:
    assert sanitize(f'no "{echo}"', ("S3/crët",)) == 'no "***"'


@pytest.mark.parametrize("secrets", [("S3cret", "S3cret-tag"), ("S3cret-tag", "S3cret")])
def test_a_secret_that_contains_another_is_masked_whole(secrets: tuple[str, ...]) -> None:
    assert sanitize("S3cret-tag, S3cret", secrets) == "***, ***"


@pytest.mark.parametrize("echo", ["\\ud83d\\ude97", "\\uD83D\\uDE97", "\U0001f697"])
def test_a_secret_is_masked_also_beyond_the_basic_plane(echo: str) -> None:
    assert sanitize(f'no "{echo}tag"', ("\U0001f697tag",)) == 'no "***"'


def test_without_secrets_nothing_is_masked() -> None:
    assert sanitize(KEY) == KEY


@pytest.mark.parametrize("echo", ["TAG-é1", "tag-É1", r"TAG-\u00c91", r"\u0074ag-\u00e91"])
def test_a_secret_is_masked_in_any_case(echo: str) -> None:
    assert sanitize(f'no "{echo}"', ("Tag-é1",)) == 'no "***"'
