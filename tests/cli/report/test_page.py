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

from .samples import ROWS, make_row

EVIL = "<script>document.title='evil'</script><img src=http://evil.example/>&\"'"


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return tmp_path / "stop.html"


def text(page: Path) -> str:
    """Returns the text of the page, without its tags."""
    body = page.read_text(encoding="utf-8").split("</style>")[1]
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", body)))


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
    assert "1 rows were left out: their charges may still run" in content
    still, rest = content.split("May still be charging: 7 ")[1].split(" When ")
    still, over = still.split("Known to be over: 1 ")
    refused, unknown = still.split("unknown: 1 ")
    unknown, relayed = unknown.split("relayed, not looked at: 5 ")
    assert "box-2 connector 1, transaction 3 line 4, site: south Thor answered" in refused
    assert "box-3 connector 1, transaction 4 line 5, site: north" in unknown
    assert [f"{n + 2}: box-{n} " in relayed for n in range(8)] == [
        n not in (2, 3, 4) for n in range(8)
    ]
    assert "1 over" in over
    assert "box-4" not in still + over
    assert "By site site charges may still be charging north 4 4 south 4 3 " in rest
    assert [f"box-{n} " in rest.split("All 8 charges")[1] for n in range(8)] == [True] * 8
    assert TAG not in page.read_text()
    assert KEY not in page.read_text()
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(("category", "verdict", "more"), ROWS)
def test_a_row_says_what_is_known(
    page: Path, category: str, verdict: str, more: dict[str, object]
) -> None:
    is_over = category in ("stopped", "over")
    content = write(page, [make_row(0, verdict, **more)])
    label = "relayed, not looked at" if category == "relayed" else category.replace("_", " ")
    assert f" 1 {label} " in content
    still = content.split("May still be charging: ")[1].split(" When ")[0]
    assert still.startswith("0 " if is_over else "1 The command")
    assert is_over or f" {label}: 1 " in still
    assert ("box-0" in still) is not is_over
    assert f"{int(not is_over)} of 1 may still be charging" in page.read_text()


def test_the_page_is_calm_only_if_every_charge_is_known_to_be_over(page: Path) -> None:
    done = [make_row(n, verdict, **more) for n, (_, verdict, more) in enumerate(ROWS[:8])]
    write(page, done)
    assert '<section class="calm">' in page.read_text()
    for category, verdict, more in ROWS[8:]:
        write(page, [*done, make_row(8, verdict, **more)])
        assert "calm" not in page.read_text().split("</style>")[1], category
    write(page, done, left_out=1)
    assert "calm" not in page.read_text().split("</style>")[1]


def test_merely_relayed_stops_may_still_be_charging(page: Path) -> None:
    rows = [make_row(n, at=f"2026-01-31T18:00:{n % 60:02}.000Z") for n in range(10_000)]
    content = write(page, rows)
    html = page.read_text()
    still = content.split("May still be charging: 10,000 ")[1].split(" When ")[0]
    assert all(f": box-{n} connector 1" in still for n in range(10_000))
    assert "not looked at" in still
    assert "Known to be over: 0" in still
    assert 'class="stopped"' not in html
    assert "calm" not in html.split("</style>")[1]
    assert "nothing is left to do" not in content
    # Compact: one line of plain text for each row, here and in the list of all rows.
    assert len(html) < 150 * len(rows)


def test_a_row_in_fix_may_still_be_charging(page: Path) -> None:
    rows = [
        make_row(0, "rejected", next_step="fix", code="ChargeboxNotFound", message="no such box"),
        make_row(
            1,
            "rejected",
            next_step="fix",
            message="no such box",
            state="unconfirmed",
            evidence="Thor did not take the stop",
        ),
    ]
    content = write(page, rows)
    still = content.split("May still be charging: 2 ")[1].split(" When ")[0]
    assert still.count("no such box") == 2
    assert "no such box; Thor did not take the stop" in still


def test_the_number_of_repeated_stops_is_shown(page: Path) -> None:
    rows = [
        make_row(n, state="still_running", next_step="check", stops_sent=sent)
        for n, sent in enumerate((1, 1_234))
    ]
    content = write(page, rows)
    assert content.count("stops sent") == content.count(", 1,234 stops sent") == 1


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
    assert "May still be charging: 60" in content
    assert "relayed, not looked at: 3 " in content
    assert "not sent: 57 " in content
    assert content.count("the run ended before it was sent") >= 57


@pytest.mark.usefixtures("throttled_ends")
def test_a_resumed_report_has_the_last_result_of_each_row(
    thor: Thor, run: Run, fleet: Fleet, page: Path, tmp_path: Path
) -> None:
    path, output = fleet(4), tmp_path / "out.jsonl"
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.script("TooManyRequests", "TooManyRequests")
    run("stop-many", path, "--output", output)
    run("stop-many", path, "--output", output, "--resume", "--report", page)
    assert "relayed, not looked at: 4 " in text(page)


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
    """The worst case: every charge may still be running, each for another reason."""
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
async def test_ten_thousand_relayed_rows_in_a_browser(
    page: Path, tmp_path: Path, width: int
) -> None:
    rows = [msgspec.structs.replace(row, verdict="relayed") for row in make_rows(10_000)]
    write(page, rows)
    async with browse(tmp_path / "chromium", width, 844) as tab:
        await tab.go(page)
        assert await tab.work() < 1.0
        assert await tab.ask("document.documentElement.scrollWidth") <= width
        heading = "document.querySelector('section h2')"
        assert await tab.ask(f"{heading}.innerText") == "May still be charging: 10,000"
        assert await tab.ask(f"{heading}.getBoundingClientRect().bottom") < 844
        lines = await tab.ask("document.querySelector('section').textContent")
        assert lines.count("box-") == 10_000
        assert await tab.ask("document.querySelectorAll('.calm, .stopped').length") == 0


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
        assert await tab.ask("document.title") == "2 of 2 may still be charging"
        assert len(tab.requested) == 1
