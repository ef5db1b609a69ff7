"""`--report`: what the page says, that nothing in it can run, and how a browser shows it."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.cli.browser import MISSING, NEEDED, browse, find_chromium
from tests.cli.conftest import HEADER, Fleet, Run, Start, Thor, interrupt
from tests.conftest import KEY, TAG
from thor_async.cli.input.command_file import read_command_file
from thor_async.cli.report.page import ReportHeader, write_report
from thor_async.cli.report.rows import ReportRow
from thor_async.emulator import ScriptedAnswer

EVIL = "<script>document.title='evil'</script><img src=http://evil.example/>&\"'"


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return tmp_path / "stop.html"


def text(page: Path) -> str:
    """Returns the text of the page, without its tags."""
    body = page.read_text(encoding="utf-8").split("</style>")[1]
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", body)))


def make_row(index: int, verdict: str = "relayed", **more: object) -> ReportRow:
    step = {"relayed": "done", "not_sent": "resend"}.get(verdict, "check")
    line = {"line": index + 2, "index": index, "chargebox": f"box-{index}", "connector": 1}
    return msgspec.convert(line | {"verdict": verdict, "next_step": step} | more, ReportRow)


def write(page: Path, rows: list[ReportRow], failure: str | None = None, left_out: int = 0) -> str:
    header = ReportHeader(
        "fleet.csv", "d1ge57" * 10, "https://thor.example", len(rows), left_out, failure
    )
    write_report(str(page), header, rows)
    return text(page)


def test_what_may_still_be_charging_comes_first(
    thor: Thor, run: Run, write: Callable[..., Path], page: Path, tmp_path: Path
) -> None:
    rows = [f"box-{n},1,{TAG},{n + 1},{'north' if n % 2 else 'south'}" for n in range(8)]
    path = write(f"{HEADER},site", *rows, "bad")
    thor.emulator.fill(read_command_file(str(path), skip_bad=True))
    thor.emulator.script("WrongTransaction", chargebox="box-2")
    thor.emulator.script(ScriptedAnswer(drop=True), chargebox="box-3")
    thor.emulator.script("NotInTransaction", chargebox="box-4")
    output = tmp_path / "out.jsonl"
    result = run("stop-many", path, "--skip-bad", "--output", output, "--report", page)
    content = text(page)
    assert result.err.endswith(f"the report is in {page}\n")
    assert "8 charges to stop" in content
    assert f"from {path} through {thor.base_url}" in content
    assert "1 bad rows of the file were left out" in content
    still, rest = content.split("May still be charging: 2 ")[1].split(" When ")
    assert "5 more were handed on to their chargeboxes, which may still refuse" in still
    assert "box-2 connector 1, transaction 3 line 4, site: south rejected" in still
    assert "box-3 connector 1, transaction 4 line 5, site: north indeterminate" in still
    assert "box-4" not in still
    assert "By site site charges may still be charging south 4 1 north 4 1 " in rest
    assert [f"box-{n} " in rest.split("All 8 charges")[1] for n in range(8)] == [True] * 8
    assert TAG not in page.read_text()
    assert KEY not in page.read_text()
    assert not list(tmp_path.glob("*.part"))


def test_confirmations_count_for_more_than_verdicts(page: Path) -> None:
    states = ["stopped", "refused", "still_running", "unconfirmed"]
    steps = ["done", "check", "check", "check"]
    rows = [
        make_row(n, state=state, next_step=step)
        for n, (state, step) in enumerate(zip(states, steps, strict=True))
    ]
    content = write(page, rows)
    still = content.split("May still be charging: 3 ")[1].split(" When ")[0]
    assert "box-0" not in still
    assert [f"box-{n}" in still for n in (1, 2, 3)] == [True] * 3
    assert "not watched" not in content


def test_no_charge_may_still_be_charging(page: Path) -> None:
    write(
        page,
        [
            make_row(0, "rejected", code="NotInTransaction", next_step="done"),
            make_row(1, state="stopped"),
        ],
    )
    assert "May still be charging: 0" in text(page)
    assert '<section class="calm">' in page.read_text()


def test_rows_that_were_never_sent_are_on_the_page(
    thor: Thor, start: Start, fleet: Fleet, page: Path
) -> None:
    path = fleet(60)
    thor.emulator.always(ScriptedAnswer(200, b"{}", delay=2.0))
    process = start("stop-many", path, "--report", page, "--max-in-flight", 3)
    thor.wait_for_requests(3)
    assert interrupt(process).status == 130
    content = text(page)
    assert "60 charges to stop" in content
    assert "interrupted" in content
    assert "May still be charging: 57" in content
    assert content.count("the run ended before it was sent") >= 57


def test_a_resumed_report_has_the_last_result_of_each_row(
    thor: Thor, run: Run, fleet: Fleet, page: Path, tmp_path: Path
) -> None:
    path, output = fleet(4), tmp_path / "out.jsonl"
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.script("TooManyRequests", "TooManyRequests")
    run("stop-many", path, "--output", output)
    run("stop-many", path, "--output", output, "--resume", "--report", page)
    assert "May still be charging: 0" in text(page)
    assert "4 relayed" in text(page)


def test_text_from_data_is_only_text(page: Path) -> None:
    ref = {EVIL: EVIL}
    rows = [
        make_row(n, "rejected", message=EVIL, chargebox=EVIL, ref=ref, state=EVIL) for n in (0, 1)
    ]
    content = write(page, rows, failure=EVIL)
    assert content.count("document.title='evil'") >= 8
    html = page.read_text()
    assert "<script" not in html
    assert "<img" not in html
    assert not re.search(r'class="[^"]*[<&\'](?!lt;|gt;|quot;|amp;|#x27;)', html)


@pytest.mark.parametrize("ref", ["a-site", 7, ["x"], None])
def test_any_ref(page: Path, ref: object) -> None:
    content = write(page, [make_row(0, ref=ref), make_row(1, ref=ref)])
    expected = {"a-site": "By ref", 7: "ref: 7"}.get(ref, "") if ref != ["x"] else 'ref: ["x"]'
    assert str(expected) in content


def test_a_report_that_cannot_be_written_at_the_end(
    thor: Thor, run: Run, fleet: Fleet, page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fleet(2)
    thor.emulator.fill(read_command_file(str(path)))

    def write(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("thor_async.cli.commands.stop_many.write_report", write)
    result = run("stop-many", path, "--report", page)
    assert result.status == 1
    assert len(result.records) == 2
    assert f"cannot write {page} (No space left on device)" in result.err


# In a browser


@pytest.mark.parametrize(("needed", "ending"), [("", pytest.skip), ("1", pytest.fail)])
def test_without_chromium_a_test_is_skipped_unless_it_is_needed(
    needed: str, ending: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv(NEEDED, needed)
    with pytest.raises(ending.Exception, match=re.escape(MISSING)):
        find_chromium()


def make_rows(count: int) -> list[ReportRow]:
    """The worst case: every charge may still be running."""
    dice = random.Random(1)
    return [
        make_row(
            n,
            dice.choice(["not_sent", "indeterminate", "rejected"]),
            at=f"2026-01-31T18:{n * 30 // count:02}:{dice.randrange(60):02}.000Z",
            message=None if dice.random() < 0.5 else "Thor answered 503 and said nothing else",
            transaction=dice.randrange(10**6),
            ref={"site": f"Harbour {n % 40}", "note": f"row {n} of the night"},
        )
        for n in range(count)
    ]


@pytest.mark.parametrize("width", [390, 1280])
async def test_ten_thousand_rows_in_a_browser(page: Path, tmp_path: Path, width: int) -> None:
    write(page, make_rows(10_000))
    async with browse(tmp_path / "chromium", width, 844) as tab:
        await tab.go(page)
        assert await tab.work() < 1.0
        assert {url.split(":")[0] for url in tab.requested} == {"file"}
        assert await tab.ask("document.documentElement.scrollWidth") <= width
        assert await tab.ask("parseFloat(getComputedStyle(document.body).fontSize)") >= 16
        heading = "document.querySelector('section h2')"
        assert (await tab.ask(f"{heading}.innerText")).startswith("May still be charging: ")
        assert await tab.ask(f"{heading}.getBoundingClientRect().bottom") < 844
        assert await tab.ask("document.querySelectorAll('section li').length") == 10_000
        assert await tab.ask("document.querySelectorAll('rect').length") > 60


async def test_nothing_in_the_page_runs(page: Path, tmp_path: Path) -> None:
    write(page, [make_row(0, "rejected", message=EVIL, chargebox=EVIL, ref={EVIL: EVIL})] * 2)
    async with browse(tmp_path / "chromium", 1280, 844) as tab:
        await tab.go(page)
        assert await tab.ask("document.title") == "Stopped charges"
        assert len(tab.requested) == 1
