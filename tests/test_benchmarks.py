"""What the benchmarks compute, by known values, and the smallest runs that need no extra."""

from __future__ import annotations

import asyncio
import json
import math
import random
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks import (
    command_line,
    demo_picture,
    latency,
    memory,
    outage,
    overhead,
    plots,
    replay,
    report,
    server,
    startup,
    throttle,
    throttle_scenes,
    throughput,
    worker,
)
from benchmarks.contenders import CONTENDERS
from benchmarks.processes import peak_kib
from benchmarks.report import Figure
from benchmarks.throttle_model import LimitedThor
from benchmarks.throttle_peers import PEERS
from benchmarks.throttle_scenes import Accounts, Change, Others, PeerRow, Row, Scene
from thor_async import NotSentError, StopCharge, StopOutcome, Verdict


@pytest.mark.parametrize(
    ("values", "expected"),
    [([7.0], (7, 7, 7)), ([1.0, 2.0], (1.25, 1.5, 1.75)), ([5.0, 1.0, 4.0, 2.0, 3.0], (2, 3, 4))],
)
def test_quartiles(values: list[float], expected: tuple[float, ...]) -> None:
    assert report.quartiles(values) == expected


@pytest.mark.parametrize(
    ("measured", "at_least", "is_reached"),
    [(1.0, True, True), (0.99, True, False), (1.0, False, False), (0.99, False, True)],
)
def test_a_figure_is_reached_on_its_side_of_the_limit(
    measured: float, at_least: bool, is_reached: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = Figure("this", 1.0, measured, " s", at_least)
    assert figure.is_reached is is_reached
    report.print_figures([figure])
    row = capsys.readouterr().out.splitlines()[-1].split("  ")
    assert row[0] == "this"
    assert row[-1].strip() == ("reached" if is_reached else "NOT reached")


@pytest.mark.broker
def test_a_worker_serves_the_benchmark() -> None:
    row = worker.measure("none", 1, 50)
    assert row.stops_per_second > 0 < row.cpu_ms


def test_a_worker_is_compared_with_the_client_alone() -> None:
    rows = [
        worker.Row(latency, workers, 600.0, 0.5 if workers else 0.25)
        for latency in worker.LATENCIES
        for workers in worker.WORKERS
    ]
    assert [figure.measured for figure in worker.find_figures(rows)] == [2.0, 2.0, 600.0]


def test_what_is_not_installed_is_in_the_extra() -> None:
    with pytest.raises(SystemExit, match=r"nowhere is not installed.*\[bench\]"), report.extra():
        __import__("nowhere")


@pytest.mark.parametrize(
    ("latencies", "in_flight", "seconds"),
    [
        ([0.02] * 6, 2, 0.06),
        ([0.02] * 7, 2, 0.08),
        ([3.0, 1.0, 1.0, 1.0], 2, 3.0),
        ([1.0, 1.0, 3.0], 2, 4.0),  # in the order of arrival, not the best order
        ([], 64, 0.0),
    ],
)
def test_the_ideal_schedule(latencies: list[float], in_flight: int, seconds: float) -> None:
    assert latency.ideal_seconds(latencies, in_flight) == pytest.approx(seconds)


def test_the_latencies_have_their_documented_distribution() -> None:
    dice = random.Random(2)
    drawn = sorted(server.LATENCIES["lognormal"](dice) for _ in range(20_000))
    assert drawn[10_000] == pytest.approx(0.05, rel=0.05)
    assert drawn[19_800] == pytest.approx(1.0, rel=0.1)
    assert server.LATENCIES["constant"](dice) == latency.CONSTANT


def test_p99_and_the_median_of_turns() -> None:
    assert latency.p99([float(n) for n in range(101)]) == 99
    rows = [latency.Row("asyncio", "library", "constant", 0.0, n, 1.0 - n / 10) for n in (1, 3, 2)]
    assert latency.median(rows)[4:] == (2, 0.7)


def chunks(**rates: list[tuple[int, float]]) -> throughput.Chunks:
    return {
        name: [
            {"round": number, "rate": rate, "cpu_us": 9.0, "peak_mib": 30.0, "server_share": 0.1}
            for number, rate in each
        ]
        for name, each in rates.items()
    }


def test_throughput_is_compared_round_by_round() -> None:
    found = chunks(
        library=[(0, 100), (1, 300), (2, 200)],
        tuned=[(0, 100), (1, 200), (2, 400)],
        httpx_tenacity=[(1, 30)],
    )
    assert throughput.ratios(found, "tuned") == [1.0, 1.5, 0.5]
    assert throughput.ratios(found, "httpx_tenacity") == [10.0]
    assert [row[0] for row in throughput.summarize(found)] == ["library", "tuned", "httpx_tenacity"]
    figures = throughput.find_figures("asyncio", found)
    assert [(figure.limit, figure.measured) for figure in figures] == [(1.15, 1.0), (8.0, 10.0)]


@pytest.mark.parametrize(
    ("loop", "tls", "limits"),
    [
        ("asyncio", False, [1.15, 1.25]),
        ("asyncio", True, [1.10, 1.25]),
        ("uvloop", False, [1.0, 1.1]),
        ("uvloop", True, [1.0, 1.1]),
    ],
)
def test_the_throughput_to_reach(loop: str, limits: list[float], *, tls: bool) -> None:
    found = chunks(library=[(0, 6)], tuned=[(0, 6)], aiohttp_retry=[(0, 4)])
    figures = throughput.find_figures(loop, found, tls=tls)
    assert [figure.limit for figure in figures] == limits
    assert [figure.measured for figure in figures] == [1.0, 1.5]
    assert all(("TLS" in figure.measure) is tls for figure in figures)


def test_the_lengths_of_streams() -> None:
    assert memory.sizes(1_000_000) == [1000, 10_000, 100_000, 1_000_000]
    assert memory.sizes(20_000) == [1000, 10_000, 20_000]
    assert memory.sizes(1000) == [1000]


def test_the_peak_of_memory_never_falls() -> None:
    before = peak_kib()
    held = b"x" * (before << 10)  # all of it again, beside what is held now
    del held
    assert peak_kib() >= before + 2**12


def test_what_a_layer_adds() -> None:
    us = {
        "encode": 1,
        "bare": 2,
        "policy": 5,
        "permit": 9,
        "outcome": 3,
        "single": 20,
        "stream": 31,
    }
    assert overhead.layers({name: float(cost) for name, cost in us.items()}) == {
        "encode": 1,
        "policy on success": 3,
        "permit and dispatcher": 7,
        "outcome": 3,
        "a whole single call": 20,
        "fan-out, a command": 11,
        "a whole command of a stream": 31,
    }


@pytest.mark.parametrize(
    "opened", [overhead.bare, overhead.policy, overhead.permit, overhead.single]
)
def test_each_layer_can_be_called(opened: overhead.Opened) -> None:
    assert overhead.time_calls(opened, 3) > 0


def test_the_instant_transport_relays() -> None:
    async def main() -> StopOutcome:
        async with overhead.client() as thor:
            return await thor.stop_charge(overhead.COMMAND)

    assert asyncio.run(main()).verdict is Verdict.RELAYED
    assert overhead.time_stream(3) > 0
    assert overhead.read_outcome().verdict is Verdict.RELAYED
    assert overhead.encode().body == (
        b'{"chargebox":"EaJ7cU9NJ3YkTNgy","connector":2,"id_tag":"0012847382","transaction":52}'
    )


def test_the_summary_of_an_outage() -> None:
    command = StopCharge("box", 1, "tag")
    refused = NotSentError("refused", reason="connect")
    outcomes = [
        StopOutcome(command, 0, Verdict.RELAYED, None, 1, 0.1, False),
        StopOutcome(command, 1, Verdict.NOT_SENT, refused, 1, 0.1, False),
    ]
    cost = outage.summarize(outcomes, [1.9, 2.0, 3.9, 4.5, 5.0], 4.0)
    assert cost == (2.5, 2, 0.5, 0.5)
    assert math.isinf(outage.summarize(outcomes, [2.0], 4.0).recovery)


@pytest.mark.parametrize("down", ["refusing", "503"])
def test_an_outage_is_seen_and_ends(down: str) -> None:
    cost = outage.measure(down, 1.0, 4000, returns=2)
    assert (cost.requests_while_away > 0) is (down == "503")
    assert 0 < cost.recovery < outage.PROBES_APART
    assert 0.95 < cost.relayed < 1


def test_an_import_in_a_fresh_interpreter() -> None:
    assert startup.time_import("json") > 0


class Script:
    """Takes the place of `Draws`: answers some 503, then always 200."""

    def __init__(self, failing: int) -> None:
        self.failing = failing
        self.requests = 0

    def next(self) -> tuple[float, bytes]:
        self.requests += 1
        return 0.0, server.DOWN if self.requests <= self.failing else server.OK


@asynccontextmanager
async def serving(script: Any) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: server.Connection(script), "127.0.0.1", 0)
    async with listener:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"


async def stop_five(name: str, failing: int) -> tuple[int, int]:
    """Returns the number of relayed stops, and of the requests for them."""
    script = Script(failing)
    async with serving(script) as url, CONTENDERS[name](url) as run:
        return await run(5), script.requests


@pytest.mark.parametrize("name", ["library", "tuned", "naive", "gather"])
async def test_contenders_count_what_was_answered_200(name: str) -> None:
    assert await stop_five(name, 0) == (5, 5)


@pytest.mark.parametrize("name", ["tuned", "naive", "gather"])
async def test_raw_contenders_do_not_retry(name: str) -> None:
    assert await stop_five(name, 2) == (3, 5)


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("aiohttp_tenacity", "tenacity"),
        ("aiohttp_retry", "aiohttp_retry"),
        ("aiohttp_stamina", "stamina"),
        ("httpx_tenacity", "httpx"),
    ],
)
async def test_retrying_peers_retry_a_5xx(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(package)
    sleep = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda seconds: sleep(0))
    assert await stop_five(name, 2) == (5, 7)


def drawn() -> dict[str, Any]:
    """Returns the JSON of each benchmark, with what its plot needs."""
    rows = [
        latency.Row(loop, *scenario, 1.1, 1.0)._asdict()
        for loop in plots.SHADES
        for scenario in latency.SCENARIOS
    ]
    each = chunks(library=[(0, 2), (1, 3)], tuned=[(0, 2), (1, 4)])
    return {
        "throughput": {"chunks": {"asyncio": each, "uvloop": each}},
        "tls": {"tls_chunks": {"asyncio": each, "uvloop": each}},
        "memory": {"growth_mib": {"stop_stream": {"1000": 0.0, "10000": 0.1}, "gather": {}}},
        "latency": {"rows": rows},
        "throttle": {"peers": [row._asdict() for row in throttled_peers()]},
    }


def throttled_peers() -> list[PeerRow]:
    return [PeerRow(rate, name, 0.97, 1.1, 0.2) for rate in (20, 50, 100) for name in PEERS]


@pytest.mark.parametrize("name", plots.DRAW)
def test_a_plot_is_small_and_the_same_each_time(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(plots, "PLOTS", tmp_path)
    first = plots.save(name, drawn()[name]).read_bytes()
    assert len(first) < 60 * 1024
    assert plots.save(name, drawn()[name]).read_bytes() == first
    assert plots.LABELS["library" if name != "memory" else "stop_stream"].encode() in first


def test_a_run_of_two_contenders(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "throughput.json"
    tiny = "throughput --heats 1 --rounds 1 --chunk 64 --only tuned --loops asyncio --json"
    monkeypatch.setattr(sys, "argv", [*tiny.split(), str(file)])
    throughput.main()
    written = json.loads(file.read_text())
    assert written["chunks"]["asyncio"].keys() == {"library", "tuned"}
    assert written["tls_chunks"]["asyncio"].keys() == {"library", "tuned"}
    printed = capsys.readouterr().out
    assert "library / tuned raw aiohttp pool (asyncio) " in printed
    assert "library / tuned raw aiohttp pool (asyncio, TLS) " in printed


def test_a_tiny_batch_against_the_ideal() -> None:
    row = latency.measure("asyncio", "library", "constant", 0.0, 64)
    assert row.relayed == 1
    assert row.to_ideal > 1


def test_a_replay_sees_no_more_than_its_workers_have_in_flight() -> None:
    costs = {
        name: replay.replay(reply, 500, 2, age) for name, (reply, age) in replay.SCENES.items()
    }
    assert {cost.most_in_flight for cost in costs.values()} == {64, 0}
    assert [cost.done for cost in costs.values()] == [1.0, 1.0, 1.0, 0.0]
    assert [costs[name].requests_per_command for name in ("backlog", "done before")] == [1, 1]
    assert costs["an hour old"].requests_per_command == 0


def test_a_replay_through_an_outage() -> None:
    assert replay.replay(replay.away, 6000, 2).while_away < 500


@pytest.mark.parametrize(
    ("scene", "seconds"),
    [
        (Scene(50, 1, 0.05, 1), 39.0),
        (Scene(500, 10, 0.3, 1), 18.75),  # by its latency, not by its limit
        (Scene(5, 4, 0.05, 8), 3196.0),
    ],
)
def test_the_ideal_time_under_a_limit(scene: Scene, seconds: float) -> None:
    assert scene.ideal_seconds(2000) == pytest.approx(seconds)


def test_a_limited_thor_takes_a_token_before_a_chargebox_answers_429_itself() -> None:
    thor = LimitedThor(2.0, retry_after="1", own={"a": 1.0})
    commands = {name: StopCharge(name, 1, "tag") for name in "ab"}
    statuses = [thor.reply(commands[name], 0.0).status for name in "aaab"]
    assert statuses == [429, 200, 429, 429]
    assert thor.reply(commands["b"], 0.25).retry_after == "1"
    assert thor.reply(commands["b"], 0.5).status == 200
    assert thor.accepted == [(0.0, "a"), (0.5, "b")]
    assert thor.throttled_share == 4 / 6
    thor.change(10.0, 0.5)
    assert thor.reply(commands["b"], 0.6).status == 200


def test_when_a_limit_is_used_again() -> None:
    slow = [n / 10 for n in range(50)]
    times = slow + [5 + n / 20 for n in range(100)]
    assert throttle_scenes.find_use(times, 10.0, 1.0, 10.0) == 1.0
    # 36 in 2 s: 0.4 s of the slow ones are as good as 0.2 s of the others.
    assert throttle_scenes.find_use(times, 20.0, 1.0, 10.0) == pytest.approx(4.6, abs=0.11)
    assert math.isinf(throttle_scenes.find_use(times, 40.0, 1.0, 10.0))


def test_a_small_batch_under_a_limit() -> None:
    row = throttle_scenes.measure(Scene(20, 1, 0.05, 2), 100)
    assert row.relayed == 1
    assert row.throttled > 0
    assert row.to_ideal > 1
    assert row.unfairness >= 1
    below = throttle_scenes.measure(Scene(20, 1, 0.05, 1), 100, max_rate=19.0)
    assert (below.relayed, below.throttled) == (1, 0)


def test_the_seconds_of_a_limit_that_were_not_used() -> None:
    halved = throttle_scenes.measure_change(20, 0.5, 0.05, settled=20.0)
    doubled = throttle_scenes.measure_change(20, 2.0, 0.05, settled=20.0)
    assert halved.recovery < doubled.recovery < 20
    assert halved.unused < doubled.unused < 10
    # 32 in flight could not use 160 a second.
    assert throttle_scenes.measure_change(80, 2.0, 0.3, settled=20.0).recovery < 20


def test_chargeboxes_with_429_of_their_own() -> None:
    assert throttle_scenes.measure_noise(50, 200).relayed == 1
    one = throttle_scenes.measure_one_of_a_hundred(retries=False, stops=200)
    assert one.relayed == 0.99
    assert one.throttled == 0.01
    assert throttle_scenes.measure_one_of_a_hundred(retries=True, stops=200).throttled > 0.01


def test_single_stops_wait_for_slots() -> None:
    waits = throttle_scenes.measure_single_stops(20, 0.05, 200)
    assert len(waits) > 5
    assert all(-1e-3 < waited < 3 for waited in waits)
    assert max(waits) > 0.1


def test_accounts_share_connections() -> None:
    few, many = (throttle_scenes.measure_accounts(accounts) for accounts in (1, 20))
    assert few.connections <= 10 < many.connections <= 32
    assert few.held < few.peak < many.peak
    assert few.held < many.held < many.peak


def test_the_cost_of_the_pace_is_measured_against_none() -> None:
    assert math.isfinite(throttle_scenes.measure_cost(10, turns=2))


def test_the_library_learns_a_limit_over_http() -> None:
    row = throttle_scenes.measure_peer("library", 50, 200)
    assert row.relayed == 1
    assert 0 < row.throttled < 0.2


@pytest.mark.parametrize("name", ["aiohttp_retry", "aiohttp_tenacity"])
def test_peers_that_retry_a_429_meet_many_of_them(name: str) -> None:
    pytest.importorskip("aiohttp_retry")
    row = throttle_scenes.measure_peer(name, 50, 200)
    assert row.relayed > 0.9
    assert row.throttled > 0.3


@pytest.mark.parametrize(("name", "lost"), [("aiolimiter", 0.0), ("aiolimiter_too_high", 1 / 6)])
def test_a_limiter_loses_what_is_above_the_limit(name: str, lost: float) -> None:
    pytest.importorskip("aiolimiter")
    row = throttle_scenes.measure_peer(name, 50, 200)
    assert row.throttled == pytest.approx(1 - row.relayed)
    assert row.throttled == pytest.approx(lost, abs=0.01 if lost else 0)


def throttle_results() -> throttle.Results:
    """Returns results whose worst values are known."""
    scenes = [Scene(5, 1, 0.05, 1), Scene(50, 1, 0.05, 1), Scene(100, 4, 0.3, 1)]
    rows = [Row(scene, 1.0, 1.0 + n / 100, n / 100, 1.0) for n, scene in enumerate(scenes)]
    rows.append(Row(Scene(50, 1, 0.05, 8), 0.99, 1.07, 0.11, 1.4))
    return throttle.Results(
        rows=rows,
        changes=[Change(50, 0.5, 0.05, 99.0, 0.0), Change(50, 2.0, 0.05, 7.0, 3.0)],
        noisy={"None": Others(0.98, 1.2, 0.1)},
        one_of_a_hundred={"True": Others(0.99, 1.01, 0.1), "False": Others(0.99, 1.2, 0.1)},
        without_retries=[rows[1]._replace(relayed=0.96)],
        below_the_limit=[rows[0]],
        single_stops={"50/s, 0.05 s": [0.2, 0.9]},
        accounts=Accounts(32, 9_000_000, 5_000_000),
        one_account=Accounts(32, 2_000_000, 1_000_000),
        cost=0.2,
        peers=throttled_peers(),
    )


def test_the_figures_of_the_pace_are_the_worst_of_their_rows() -> None:
    figures = {figure.measure: figure for figure in throttle.find_figures(throttle_results())}
    assert [round(figure.measured, 3) for figure in figures.values()] == [
        *(98.0, 1.02, 2.0, 1.0, 0.0, 1.07, 11.0, 1.4, 7.0, 96.0, 0.0, 0.9, 1.01, 1.2, 0.2),
        *(32, 7.0, 4.0),
    ]
    missed = [name for name, figure in figures.items() if not figure.is_reached]
    assert missed == ["relayed", "the same without retry_throttled"]
    few = throttle_results()._replace(rows=throttle_results().rows[1:])
    assert len(throttle.find_figures(few)) == len(figures) - 2


def test_a_run_prints_and_writes_what_was_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "throttle.json"
    monkeypatch.setattr(throttle, "measure_all", lambda quick: throttle_results())
    monkeypatch.setattr(sys, "argv", ["throttle", "--quick", "--json", str(file)])
    throttle.main()
    written = json.loads(file.read_text())
    assert written["rows"][0]["scene"]["rate"] == 5
    assert written["peers"] == drawn()["throttle"]["peers"]
    printed = capsys.readouterr().out
    assert "no retry_throttled, 50/s" in printed
    assert "NOT reached" in printed


@pytest.mark.parametrize(("quick", "count"), [(True, 4), (False, 100)])
def test_the_scenes_of_the_pace(count: int, *, quick: bool) -> None:
    scenes = throttle.find_scenes(quick=quick)
    assert len(scenes) == len(set(scenes)) == count


def test_the_picture_of_the_demo_shows_what_it_prints_and_loads_nothing() -> None:
    pytest.importorskip("rich")
    svg = demo_picture.draw(demo_picture.capture())
    assert "relayed" in svg
    assert "@font-face" not in svg
    assert not re.search(r"(?:url\(|href=|src=)[\"']?http", svg)


def test_the_command_line_is_measured_beside_the_library() -> None:
    took = command_line.measure(rounds=1, rows=20)
    assert {name: len(each) for name, each in took.items()} == {"stop_stream": 1, "stop-many": 1}
    assert took["stop-many"][0] > took["stop_stream"][0] > 0
