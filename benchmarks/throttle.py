"""The pace under a limit of the account, in virtual time: `python -m benchmarks.throttle`.

Accounts allow 5 to 500 requests a second, after a burst of 1 to 10 s of them; each client stops
2,000 charges at 32 in flight, with `retry_throttled`. Several clients start together and know
nothing of each other: 4 clients stop 8,000. Latencies are drawn within 20 % of the given one.

The ideal time is that of a client that knows the limit: `max((n - burst) / rate, n * latency /
in flight)`. The rows with a Retry-After get `1` with each 429.

`--quick` measures a few of the rows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from .report import Figure, arguments, extra, print_figures, print_table, write_json
from .throttle_peers import IN_FLIGHT, PEERS
from .throttle_scenes import (
    STOPS_OF_ACCOUNT,
    Accounts,
    Change,
    Others,
    PeerRow,
    Row,
    Scene,
    measure,
    measure_accounts,
    measure_change,
    measure_cost,
    measure_noise,
    measure_one_of_a_hundred,
    measure_peer,
    measure_single_stops,
    throttled_policy,
)

RATES = (5, 20, 50, 100, 500)
BURSTS = (1, 4, 10)
LATENCIES = (0.05, 0.3)
CLIENTS = (1, 4, 8)
PEER_RATES = (20, 50, 100)
UNDER = 0.95
ACCOUNTS = 300


def find_scenes(*, quick: bool) -> list[Scene]:
    if quick:
        scenes = itertools.product((20, 100), BURSTS[:1], LATENCIES[:1], (1, 4))
        return list(itertools.starmap(Scene, scenes))
    scenes = itertools.product(RATES, BURSTS, LATENCIES, CLIENTS)
    with_retry_after = [Scene(rate, 1, latency, 1, "1") for rate in RATES for latency in LATENCIES]
    return [*itertools.starmap(Scene, scenes), *with_retry_after]


class Results(NamedTuple):
    """All that was measured. `cost` is in microseconds."""

    rows: list[Row]
    changes: list[Change]
    noisy: dict[str, Others]
    one_of_a_hundred: dict[str, Others]
    without_retries: list[Row]
    below_the_limit: list[Row]
    single_stops: dict[str, list[float]]
    accounts: Accounts
    one_account: Accounts
    cost: float
    peers: list[PeerRow]


def measure_all(*, quick: bool) -> Results:
    rates = (50,) if quick else PEER_RATES
    latencies = LATENCIES[:1] if quick else LATENCIES
    bursts = BURSTS[:1] if quick else BURSTS
    with extra():
        peers = [measure_peer(name, rate) for rate in rates for name in PEERS]
    return Results(
        rows=[measure(scene) for scene in find_scenes(quick=quick)],
        changes=[measure_change(*each) for each in itertools.product(rates, (0.5, 2.0), latencies)],
        noisy={str(rate): measure_noise(rate) for rate in (*rates, None)},
        one_of_a_hundred={
            str(retries): measure_one_of_a_hundred(retries=retries) for retries in (True, False)
        },
        without_retries=[
            measure(Scene(50, burst, latency, 1), retry=throttled_policy(retries=False))
            for burst in bursts
            for latency in latencies
        ],
        below_the_limit=[
            measure(Scene(rate, 1, latency, 1), max_rate=UNDER * rate)
            for rate in RATES
            for latency in latencies
        ],
        single_stops={
            f"{rate}/s, {latency} s": measure_single_stops(rate, latency)
            for rate in rates
            for latency in latencies
        },
        accounts=measure_accounts(ACCOUNTS),
        one_account=measure_accounts(1, ACCOUNTS * STOPS_OF_ACCOUNT),
        cost=measure_cost(2000),
        peers=peers,
    )


def find_figures(results: Results) -> list[Figure]:
    def worst(what: str, holds: Callable[[Scene], bool]) -> float:
        found = [getattr(row, what) for row in results.rows if holds(row.scene)]
        return max(found, default=math.nan)

    def is_one(scene: Scene) -> bool:
        return scene.clients == 1 and scene.rate > 5

    def is_slow(scene: Scene) -> bool:
        return scene.clients == 1 and scene.rate == 5

    def is_shared(scene: Scene) -> bool:
        return scene.clients > 1

    rest = {
        retries: each.others_to_undisturbed for retries, each in results.one_of_a_hundred.items()
    }
    peak, held = (
        (more - one) / 1e6
        for more, one in zip(results.accounts[1:], results.one_account[1:], strict=True)
    )
    relayed = [row.relayed for row in results.rows]
    relayed += [others.relayed for others in results.noisy.values()]
    doubled = [change.recovery for change in results.changes if change.factor > 1]
    slots = [waited for waits in results.single_stops.values() for waited in waits]
    unretried = min(row.relayed for row in results.without_retries)
    below = max(row.throttled for row in results.below_the_limit)
    figures = [
        Figure("relayed", 100, 100 * min(relayed), " %", at_least=True),
        Figure("time / ideal, one client, 20 to 500/s", 1.05, worst("to_ideal", is_one)),
        Figure("429s, one client, 20 to 500/s", 3, 100 * worst("throttled", is_one), " %"),
        Figure("time / ideal, one client, 5/s", 1.10, worst("to_ideal", is_slow)),
        Figure("429s, one client, 5/s", 10, 100 * worst("throttled", is_slow), " %"),
        Figure("time / ideal, 4 and 8 clients", 1.08, worst("to_ideal", is_shared)),
        Figure("429s, 4 and 8 clients", 12, 100 * worst("throttled", is_shared), " %"),
        Figure("slowest / fastest, 4 and 8 clients", 1.5, worst("unfairness", is_shared)),
        Figure("90 % of a doubled limit is used after", 10, max(doubled), " s"),
        Figure("relayed without retry_throttled, 50/s", 95, 100 * unretried, " %", at_least=True),
        Figure("429s with max_rate 5 % under the limit", 0.01, 100 * below, " %"),
        Figure("slots that a single stop waits in a batch", 1.001, max(slots)),
        Figure("one of a hundred always 429: time of the others", 1.05, rest["True"]),
        Figure("the same without retry_throttled", 1.05, rest["False"]),
        Figure("the pace while no limit is known", 1, results.cost, " us"),
        Figure("open connections for 300 accounts", IN_FLIGHT + 1, results.accounts[0]),
        Figure("memory of 300 accounts beyond one, at the peak", 10, peak, " MB"),
        Figure("the same after their batches", 10, held, " MB"),
    ]
    return [figure for figure in figures if not math.isnan(figure.measured)]


def print_results(results: Results) -> None:
    tables: list[tuple[list[str], list[list[str]]]] = [
        (
            ["a second", "burst, s", "latency", "clients", "Retry-After", *_ENDS],
            [
                [
                    *(str(part) for part in row.scene[:4]),
                    row.scene.retry_after or "-",
                    *_end(row),
                    f"{row.unfairness:.2f}" if row.scene.clients > 1 else "-",
                ]
                for row in results.rows
            ],
        ),
        (
            ["a second", "new limit", "latency", "90 % used after, s", "unused in a minute, s"],
            [
                [
                    str(change.rate),
                    f"{change.rate * change.factor:.0f}",
                    str(change.latency),
                    f"{change.recovery:.1f}",
                    f"{change.unused:.1f}",
                ]
                for change in results.changes
            ],
        ),
        (
            ["chargeboxes with 429 of their own", "relayed", "others / undisturbed", "429"],
            [
                [
                    name,
                    f"{each.relayed:.2%}",
                    f"{each.others_to_undisturbed:.3f}",
                    f"{each.throttled:.1%}",
                ]
                for name, each in _named_others(results)
            ],
        ),
        (
            ["one client", "burst, s", "latency", *_ENDS[:-1]],
            [
                [name, str(row.scene.burst), str(row.scene.latency), *_end(row)]
                for name, row in _named_rows(results)
            ],
        ),
        (
            ["single stops in a batch", "stops", "slots, mean", "most"],
            [
                [name, str(len(waits)), f"{sum(waits) / len(waits):.2f}", f"{max(waits):.2f}"]
                for name, waits in results.single_stops.items()
            ],
        ),
        (
            ["a second, HTTP", "client", *_ENDS[:-1]],
            [[str(row.rate), row.name, *_end(row)] for row in results.peers],
        ),
    ]
    for headings, rows in tables:
        print_table(headings, rows)
        print()


_ENDS = ("relayed", "time / ideal", "429", "slowest / fastest")


def _end(row: Row | PeerRow) -> list[str]:
    return [f"{row.relayed:.2%}", f"{row.to_ideal:.3f}", f"{row.throttled:.1%}"]


def _named_others(results: Results) -> Iterator[tuple[str, Others]]:
    for rate, others in results.noisy.items():
        yield f"noisy, limit of the account: {rate}", others
    for retries, others in results.one_of_a_hundred.items():
        yield f"one of a hundred, retry_throttled: {retries}", others


def _named_rows(results: Results) -> Iterator[tuple[str, Row]]:
    for row in results.without_retries:
        yield f"no retry_throttled, {row.scene.rate}/s", row
    for row in results.below_the_limit:
        yield f"max_rate {UNDER * row.scene.rate:g} of {row.scene.rate}/s", row


def to_builtins(value: Any) -> Any:
    """Returns named tuples as dicts."""
    if hasattr(value, "_asdict"):
        return {name: to_builtins(part) for name, part in value._asdict().items()}
    if isinstance(value, dict):
        return {name: to_builtins(part) for name, part in value.items()}
    return [to_builtins(part) for part in value] if isinstance(value, list) else value


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--quick", action="store_true", help="measure a few of the rows")
    args = parser.parse_args()
    results = measure_all(quick=args.quick)
    print_results(results)
    figures = find_figures(results)
    print_figures(figures)
    write_json(args.json, {"figures": figures, **to_builtins(results)})


if __name__ == "__main__":
    main()
