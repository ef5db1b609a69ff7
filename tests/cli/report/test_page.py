"""`--report`: what the page says, and that nothing of the data in it can run."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from html import unescape
from pathlib import Path

import msgspec
import pytest

from tests.cli.conftest import HEADER, Fleet, Run, Start, Thor, interrupt
from tests.conftest import KEY, TAG
from thor_async.cli.input.command_file import read_command_file
from thor_async.cli.report.history import Run as RunOfJournal
from thor_async.cli.report.rows import ReportRow
from thor_async.emulator import ScriptedAnswer

from .samples import EVIL, ROWS, make_row, write_page


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return tmp_path / "stop.html"


def text(page: Path) -> str:
    """Returns the text of the page, without its tags."""
    body = page.read_text(encoding="utf-8").split("</style>")[1].split("<script")[0]
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", body)))


def write(page: Path, rows: list[ReportRow], failure: str | None = None, left_out: int = 0) -> str:
    write_page(page, rows, failure=failure, left_out=left_out)
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
    assert f"Asked for to stop 8 charges of {path} " in content
    assert f"Stops sent to {thor.base_url} " in content
    assert (
        "Of 8 charges, 7 may still be charging (1 refused; 1 unknown; 5 relayed, not looked at), "
        "and 1 is known to be over (1 over). 1 row was left out, and may still be charging."
    ) in content
    assert "Rows that were left out: 1 No stop was sent" in content
    assert "line 10: 1 cells under 5 columns" in content
    still, rest = content.split("May still be charging: 7 ")[1].split(" What to do with ", 1)
    assert "north : 4 of 4 (1 unknown; 3 relayed, not looked at)" in still
    assert "south : 3 of 4 (1 refused; 2 relayed, not looked at)" in still
    assert "By site site charges may still be charging north 4 4 south 4 3 " in rest
    table = rest.split(" All 8 charges ")[1]
    north, south = table.split("north: 4 of 4 may still be charging")[1].split("south: 3 of 4 ")
    south, over = south.split("Known to be over: 1")
    assert "4 box-2 connector 1, transaction 3 site: south refused Thor answered" in south
    assert "5 box-3 connector 1, transaction 4 site: north unknown " in north
    assert "6 box-4 connector 1, transaction 5 site: south over Thor answered" in over
    assert [f" box-{n} " in table for n in range(8)] == [True] * 8
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
    still, over = content.split("May still be charging: ")[1].split(" Known to be over: ")[:2]
    assert still.startswith("0" if is_over else f"1 1 {label} ")
    assert ("box-0" in still) is not is_over
    assert over.startswith("1 1 " if is_over else "0 ")
    assert f"{int(not is_over)} of 1 may still be charging" in page.read_text()


def test_the_page_is_calm_only_if_every_charge_is_known_to_be_over(page: Path) -> None:
    done = [make_row(n, verdict, **more) for n, (_, verdict, more) in enumerate(ROWS[:8])]
    write(page, done)
    assert '<section id="open" class="calm">' in page.read_text()
    for category, verdict, more in ROWS[8:]:
        write(page, [*done, make_row(8, verdict, **more)])
        assert 'class="calm"' not in page.read_text(), category
    write(page, done, left_out=1)
    assert 'class="calm"' not in page.read_text()


def test_merely_relayed_stops_may_still_be_charging(page: Path) -> None:
    rows = [make_row(n, at=f"2026-01-31T18:00:{n % 60:02}.000Z") for n in range(1000)]
    content = write(page, rows)
    still = content.split("May still be charging: 1,000 ")[1].split(" Known to be over: ")[0]
    assert "1,000 relayed, not looked at" in still
    assert "no site given : 1,000 of 1,000" in still
    assert "and 995 more" in still
    assert 'class="tag stopped"' not in page.read_text()
    assert 'class="calm"' not in page.read_text()


def test_a_row_in_fix_may_still_be_charging(page: Path) -> None:
    row = make_row(
        1,
        "rejected",
        next_step="fix",
        message="no such box",
        state="unconfirmed",
        evidence="Thor did not take the stop",
    )
    content = write(page, [row])
    assert "refused no such box; Thor did not take the stop next: fix" in content
    assert "fix : correct the data or the account" in content


@pytest.mark.parametrize(("category", "verdict", "more"), ROWS)
def test_what_to_do_is_told_where_a_charge_goes_on(
    page: Path, category: str, verdict: str, more: dict[str, object]
) -> None:
    content = write(page, [make_row(0, verdict, **more)])
    assert ("What to do with refused" in content) is (category in {"refused", "still_running"})
    assert "Who ended a charge. Thor tells no reason" in content


def test_every_link_has_its_target(page: Path) -> None:
    rows = [
        make_row(n, verdict, ref={"site": f"S{n % 3}"}, **more)
        for n, (_, verdict, more) in enumerate(ROWS)
    ]
    write_page(page, rows, left_out=1)
    html = page.read_text()
    targets = set(re.findall(r'href="#([^"]+)"', html))
    ids = re.findall(r' id="([^"]+)"', html)
    assert targets <= set(ids)
    assert len(set(ids)) == len(ids)
    assert {f"r{row.line}" for row in rows} <= targets
    assert not re.search(r'(src|href)="(?!#)', html)


def test_the_rows_left_out_are_told_by_line_and_reason(
    thor: Thor, run: Run, write: Callable[..., Path], page: Path, tmp_path: Path
) -> None:
    bad = [f"box-{n},zero,{TAG},1" for n in range(30)]
    path = write(HEADER, f"A,1,{TAG},1", *bad, f"A,1,{TAG},1")
    thor.emulator.fill(read_command_file(str(path), skip_bad=True))
    output = tmp_path / "out.jsonl"
    run("stop-many", path, "--skip-bad", "--output", output, "--report", page)
    content = text(page)
    assert [f" line {n}: connector must be" in content for n in range(3, 33)] == [True] * 30
    assert (
        "Duplicates, sent once: 1 These lines repeat the charge of an earlier line: 33" in content
    )
    assert TAG not in page.read_text()


def test_charges_that_the_list_did_not_tell_whole_are_left_out_by_name(
    thor: Thor, run: Run, page: Path, tmp_path: Path
) -> None:
    thor.emulator.start_charge("box-1", 1, TAG, 1)
    thor.emulator.start_charge("box-2", 1, mode="api", transaction=2)
    output = tmp_path / "out.jsonl"
    arguments = ("--output", output, "--report", page)
    run("stop-running", *arguments)
    reason = "chargebox 'box-2' connector 1 transaction 2: no id_tag in the list: not stopped"
    assert reason in text(page)
    # A later run reads the copy of the input, which has only the charges that could be stopped.
    run("stop-many", "--resume", *arguments)
    assert reason in text(page)


def test_a_resumed_report_tells_all_runs(
    thor: Thor, run: Run, fleet: Fleet, page: Path, tmp_path: Path
) -> None:
    path, output = fleet(3), tmp_path / "out.jsonl"
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.script("ChargeboxNotFound", chargebox="box-1")
    arguments = ("stop-many", path, "--output", output)
    run(*arguments, "--operator", "Ada")
    run(*arguments, "--operator", "Bo", "--resume", "--resend", "fix", "--report", page)
    content = text(page)
    assert "Operator Bo " in content
    first, second = content.split(" Runs: 2 ")[1].split(" What is not proven ")[0].split(": Bo on")
    assert ": Ada on " in first
    assert ", 3 outcomes thor-async stop-many" in first
    assert ", 1 outcomes thor-async stop-many" in second
    # The outcome that the second run replaced is in the chart, too.
    assert "1 refused</title>" in page.read_text()
    assert "<title>a run begins</title>" in page.read_text()


def test_a_report_without_a_journal_has_its_head(
    thor: Thor, run: Run, fleet: Fleet, page: Path
) -> None:
    path = fleet(2)
    thor.emulator.fill(read_command_file(str(path)))
    result = run("stop-many", path, "--report", page, "--operator", "Ada")
    assert len(result.records) == 2
    content = text(page)
    assert "Operator Ada " in content
    assert f"Command thor-async stop-many {path} --report {page} --operator Ada " in content
    assert "Ended not recorded" not in content


def test_a_journal_that_was_edited_by_hand_costs_only_the_report(
    thor: Thor, run: Run, fleet: Fleet, page: Path, tmp_path: Path
) -> None:
    path, output = fleet(2), tmp_path / "out.jsonl"
    thor.emulator.fill(read_command_file(str(path)))
    run("stop-many", path, "--output", output)
    output.write_text(re.sub('"ended":"[^"]*"', '"ended":"now"', output.read_text()))
    result = run("stop-many", path, "--output", output, "--resume", "--report", page)
    assert result.status == 1
    assert result.err.splitlines()[-1].startswith(
        f"thor-async: cannot write {page}: a line of the journal has another form (Invalid RFC3339"
    )
    assert not page.exists()


def test_without_jinja_nothing_is_sent(
    thor: Thor, run: Run, fleet: Fleet, page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    result = run("stop-many", fleet(1), "--report", page)
    assert (result.status, thor.requests) == (2, 0)
    assert result.err == ("thor-async: --report needs jinja2: run pip install 'thor_async[cli]'\n")


def test_jinja_is_imported_for_a_report_only() -> None:
    code = "import sys, thor_async.cli.commands.stop_many; assert 'jinja2' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_rows_that_were_never_sent_are_on_the_page(
    thor: Thor, start: Start, fleet: Fleet, page: Path
) -> None:
    path = fleet(60)
    thor.emulator.always(ScriptedAnswer(200, b"{}", delay=2.0))
    process = start("stop-many", path, "--report", page, "--max-in-flight", 3)
    thor.wait_for_requests(3)
    assert interrupt(process).status == 130
    content = text(page)
    assert "to stop 60 charges" in content
    assert "The run ended early: interrupted" in content
    assert "May still be charging: 60 3 relayed, not looked at" in content
    assert "57 not sent" in content
    assert content.count("the run ended before it was sent") == 57


@pytest.mark.usefixtures("throttled_ends")
def test_a_resumed_report_has_the_last_result_of_each_row(
    thor: Thor, run: Run, fleet: Fleet, page: Path, tmp_path: Path
) -> None:
    path, output = fleet(4), tmp_path / "out.jsonl"
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.script("TooManyRequests", "TooManyRequests")
    run("stop-many", path, "--output", output)
    run("stop-many", path, "--output", output, "--resume", "--report", page)
    assert "May still be charging: 4 4 relayed, not looked at" in text(page)


def test_text_from_data_is_only_text(page: Path) -> None:
    rows = [
        make_row(
            n,
            "rejected",
            **dict.fromkeys(("message", "chargebox", "state", "evidence", "code"), EVIL),
            request_id=EVIL,
            next_step=EVIL,
            ref={EVIL: EVIL, "site": EVIL},
        )
        for n in (0, 1)
    ]
    info = dict.fromkeys(("run", "operator", "machine", "command", "version", "lists"), EVIL)
    run_info = msgspec.convert(info, RunOfJournal)
    write_page(page, rows, failure=EVIL, left_out=1, left_out_rows=[(3, EVIL)], runs=[run_info] * 2)
    assert text(page).count("document.title='evil'") > 20
    html = page.read_text()
    assert re.findall("<script[^>]*>", html) == [
        '<script type="application/json" id="csv">',
        "<script>",
    ]
    assert "<img" not in html
    [data] = re.findall(r'id="csv">(.*?)</script>', html, re.DOTALL)
    assert len(msgspec.json.decode(data)) == 3


def test_what_cannot_be_printed_is_escaped(page: Path) -> None:
    bad = "a\x1b[2J\u202eb\x00\udce9"
    write_page(page, [make_row(0, "rejected", message=bad, ref={bad: bad})], failure=bad)
    html = page.read_text(encoding="utf-8")
    assert html.count("a\\x1b[2J\\u202eb\\x00\\udce9") >= 3
    assert all(c.isprintable() or c == "\n" for c in html)


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

    monkeypatch.setattr("thor_async.cli.batch_report.write_report", write)
    result = run("stop-many", path, "--report", page)
    assert result.status == 1
    assert len(result.records) == 2
    assert f"cannot write {page} (No space left on device)" in result.err
