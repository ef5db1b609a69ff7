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


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Too Many Requests", "s"),
        ("Too Many Requests", "Ma"),
        ("Too Many Requests", "est"),
        ("Internal server error", "serve"),
        ("tag 12 of connector 12", "12"),
        (r"Too Many\nRequests", "equ"),
    ],
)
def test_a_short_secret_makes_no_holes_in_other_words(text: str, secret: str) -> None:
    assert sanitize(text, (secret,)) == text


@pytest.mark.parametrize(
    "echo",
    [
        "{}", "({})", "'{}'", "tag={}", "tag:{},", "tag_{}_", "x-{}-y", "{}.", "#{};", "\u00e4,{}!",
        r"\n{}\n", r"\u0022{}\u0022", r"\\t{}", "%22{}%22", "%3D{}", "%0A{}%0a", "&#34;{}&#34;",
    ],
)  # fmt: skip
@pytest.mark.parametrize("secret", ["abc", "4711", "TAG12", "-x-"])
def test_a_short_secret_is_masked_where_it_is_a_word_of_its_own(echo: str, secret: str) -> None:
    for spelling in (secret, secret.lower(), secret.upper()):
        assert sanitize(f"no {echo.format(spelling)} here", (secret,)) == f"no {echo} here".format(
            "***"
        )


@pytest.mark.parametrize("secret", ["00128473", "k3y-that-is-long", "Longword", "a1b", "x-y"])
def test_a_long_secret_is_masked_also_within_a_word(secret: str) -> None:
    assert sanitize(f"idTag{secret}invalid", (secret,)) == "idTag***invalid"


@pytest.mark.parametrize(
    "echo",
    ["S3%2Fcr%C3%ABt+x", "S3%2fcr%c3%abt%20x", "s3/CR%C3%8Bt x", "%53%33%2F%63%72%C3%AB%74%20%78"],
)
def test_a_secret_is_masked_in_whatever_way_an_address_may_write_it(echo: str) -> None:
    assert sanitize(f"no tag={echo}&x=1", ("S3/cr\u00ebt x",)) == "no tag=***&x=1"


def test_a_secret_is_masked_between_an_escape_and_a_percent() -> None:
    assert sanitize(r"100 % of \"Tag\u002d1\"", ("tag-1",)) == r"100 % of \"***\""
