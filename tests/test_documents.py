"""Each example of the documents is run by a test, and each of their links leads somewhere."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

from tests.documents import DOCUMENTS, README, ROOT, blocks, code
from thor_async.cli.parser import parse

LINKS = [
    (name, link)
    for name, text in DOCUMENTS.items()
    for link in re.findall(r"\]\(([^)\s]+)\)", text)
    if "://" not in link
]
RUNNERS = {"code", "perform"}


def performed() -> set[str]:
    """Returns the texts by which tests choose an example to run."""
    calls = (
        node
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if node.func.id in RUNNERS and node.args
    )
    parts = (call.args[0] for call in calls)
    return {str(part.value) for part in parts if isinstance(part, ast.Constant)}


def anchors(text: str) -> set[str]:
    """Returns the anchors that GitHub gives to the headings of a document."""
    titles = re.findall(r"(?m)^#+ (.*)$", re.sub(r"(?s)```.*?```", "", text))
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize(("name", "link"), LINKS)
def test_a_link_leads_somewhere(name: str, link: str) -> None:
    path, _, anchor = link.partition("#")
    target = (ROOT / name).parent / path if path else ROOT / name
    assert target.resolve().is_relative_to(ROOT)
    assert target.exists()
    if anchor:
        assert anchor in anchors(target.read_text())


@pytest.mark.parametrize("block", blocks("python"))
def test_an_example_in_python_is_run(block: str) -> None:
    files = {path.read_text() for path in (ROOT / "tests" / "recipes").glob("*.py")}
    assert block in files or any(part in block for part in performed())


def commands() -> list[str]:
    lines = (line for block in blocks("sh") for line in block.splitlines())
    found = (re.search(r"(?:^|\| )thor-async (.*)", line) for line in lines)
    return [match[1].partition(" | ")[0] for match in found if match]


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_documents_has_right_options(command: str) -> None:
    parse(shlex.split(command, comments=True))


def test_the_front_page_is_short() -> None:
    assert len(README.splitlines()) <= 250
    first = README.index("```sh")
    assert README[:first].count("\n") < 24  # less than a screen before something can be run


def test_an_example_is_found_by_a_text_that_only_it_has() -> None:
    with pytest.raises(ValueError, match="not enough values"):
        code("this is in no example")
    with pytest.raises(ValueError, match="too many values"):
        code("thor")


def test_a_document_that_is_not_listed_is_not_tested() -> None:
    hidden = {".venv", ".ci-run", ".pytest_cache"}
    found = {
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.md")
        if not hidden & set(path.relative_to(ROOT).parts)
    }
    assert found == set(DOCUMENTS)


def test_the_files_that_are_named_for_maintainers_exist() -> None:
    names = set(re.findall(r"`([a-z_/]+\.py)`", DOCUMENTS["tests/README.md"]))
    package, tests = ROOT / "thor_async", ROOT / "tests"
    assert len(names) > 15
    missing = [
        name
        for name in sorted(names)
        if not any((root / name).is_file() for root in (Path(ROOT), package, tests))
    ]
    assert missing == []
