"""The report of a batch: one page that needs nothing else, for whoever has to act on it."""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from html import escape
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import UsageError
from ..output.console import ADVICE
from ..output.timestamps import utc_timestamp
from .rows import ReportRow
from .timeline import draw_timeline

_MOST_GROUPS = 500
_CHUNK = 50


class ReportHeader(NamedTuple):
    """What a batch was asked to do, and how it ended."""

    name: str
    digest: str
    address: str
    charges: int
    left_out: int
    trouble: str | None


def check_report(path: str) -> None:
    """Raises BadInput when no report could be written there."""
    if Path(path).suffix != ".html":
        # Most likely the name of something that must not be written over.
        raise UsageError(f"--report {path}: give it a name that ends with .html")
    folder = Path(path).parent
    if Path(path).is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(
            f"cannot write {path}: give --report a file in a folder that can be written"
        )


def write_report(path: str, asked: ReportHeader, story: Iterable[ReportRow]) -> None:
    """Writes the page, whole or not at all; `story` is iterated several times."""
    part = Path(f"{path}.part")
    try:
        with part.open("w", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(f"{piece}\n" for piece in _page(asked, story))
        part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _page(asked: ReportHeader, story: Iterable[ReportRow]) -> Iterator[str]:
    kinds = Counter(told.kind for told in story)
    yield _HEAD.format(css=files(__package__).joinpath("report.css").read_text(encoding="utf-8"))
    yield from _summary(asked, kinds)
    yield '<p><a href="#when">When</a>, <a href="#all">all charges</a></p>'
    yield from _still_charging(story)
    yield '<h2 id="when">When</h2>'
    yield from draw_timeline(story)
    yield from _groups(story)
    yield f'<details id="all"><summary>All {asked.charges:,} charges</summary>'
    yield from _chunks("pre", map(_line, story))
    yield "</details>"


# No script, and nothing from anywhere else: the page says so to the browser.
_HEAD = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Stopped charges</title>
<style>{css}</style>"""


def _summary(asked: ReportHeader, kinds: Counter[str]) -> Iterator[str]:
    yield f"<h1>{asked.charges:,} charges to stop</h1>"
    yield f"<p>from {escape(asked.name)} through {escape(asked.address)}</p>"
    yield f'<p class="note">written {utc_timestamp()}, input {asked.digest[:12]}</p>'
    if asked.left_out:
        yield f'<p class="alarm">{asked.left_out:,} bad rows of the file were left out</p>'
    if asked.trouble:
        yield f'<p class="alarm">{escape(asked.trouble)}</p>'
    yield '<ul class="tiles">'
    for kind, count in kinds.most_common():
        yield f'<li><b>{count:,}</b><span class="tag {escape(kind)}">{_words(kind)}</span></li>'
    yield "</ul>"


def _still_charging(story: Iterable[ReportRow]) -> Iterator[str]:
    count = sum(told.may_still_charge for told in story)
    unwatched = sum(told.kind == "relayed" for told in story)
    yield f'<section class="{"alarm" if count else "calm"}">'
    yield f"<h2>May still be charging: {count:,}</h2>"
    if unwatched:
        yield (
            f"<p>{unwatched:,} more were handed on to their chargeboxes, which may still refuse; "
            "nobody looked whether they stopped.</p>"
        )
    yield from _chunks("ul", (_item(told) for told in story if told.may_still_charge))
    yield "</section>"


def _chunks(tag: str, rows: Iterator[str]) -> Iterator[str]:
    """Fifty rows an element, because a browser can leave out whole ones that are off the screen."""
    while chunk := list(islice(rows, _CHUNK)):
        yield f'<{tag} class="charges">'
        yield from chunk
        yield f"</{tag}>"


def _item(told: ReportRow) -> str:
    maybe = ", may have been applied" if told.maybe_applied else ""
    said = escape(told.evidence or told.message or "")
    return (
        f"<li><b>{escape(told.chargebox)}</b> {_place(told)}"
        f" <small>line {told.line}{_about(told.ref)}</small><br>"
        f'<span class="tag {escape(told.kind)}">{_words(told.kind)}</span> '
        f"{said}{maybe} <small>{ADVICE[told.next_step]}</small></li>"
    )


def _line(told: ReportRow) -> str:
    """The same as plain text: ten thousand items with their marks would take seconds to open."""
    return (
        f"{told.line}: {escape(told.chargebox)} {_place(told)}: {_words(told.kind)}"
        f"{_about(told.ref)}"
    )


def _place(told: ReportRow) -> str:
    transaction = "" if told.transaction is None else f", transaction {told.transaction}"
    return f"connector {told.connector}{transaction}"


def _groups(story: Iterable[ReportRow]) -> Iterator[str]:
    """A table for each column of the refs: how the charges of each of its values fared."""
    groups: dict[str, dict[str, list[int]]] = {}
    for told in story:
        for name, value in _columns(told.ref):
            group = groups.setdefault(name, {})
            if len(group) <= _MOST_GROUPS:
                counts = group.setdefault(value, [0, 0])
                counts[0] += told.may_still_charge
                counts[1] += 1
    for name, group in groups.items():
        # More than that are no groups, but names of single charges.
        if len(group) <= _MOST_GROUPS:
            yield from _group(name, group)


def _group(name: str, group: dict[str, list[int]]) -> Iterator[str]:
    yield f'<h2>By {escape(name)}</h2><table><tr><th>{escape(name)}<th class="n">charges'
    yield '<th class="n">may still be charging'
    for value, (still, count) in sorted(group.items(), key=lambda item: item[1], reverse=True):
        yield f'<tr><td>{escape(value)}<td class="n">{count:,}<td class="n">{still:,}'
    yield "</table>"


def _columns(ref: Any) -> list[tuple[str, str]]:
    if ref is None:
        return []
    if isinstance(ref, dict):
        return [(str(name), _text(value)) for name, value in ref.items()]
    return [("ref", _text(ref))]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _about(ref: Any) -> str:
    return "".join(f", {escape(name)}: {escape(value)}" for name, value in _columns(ref))


def _words(kind: str) -> str:
    return escape(kind.replace("_", " "))
