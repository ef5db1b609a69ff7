"""The cost of an outage of Thor, under virtual time: `python -m benchmarks.outage`.

A batch runs with 32 in flight and 20 ms. Thor goes away after 2 s: it refuses connections or
answers 503. It comes back at several times between two probes; the batch never gives up. The
table shows the worst values. The last row is a Thor that answers every command with its own 500:
this is no outage, so only the retry budget limits the requests.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import NamedTuple

from tests import virtual_time
from tests.fake_transport import OK, FakeTransport, fleet, refused, thor_says
from thor_async import NotSentError, RetryPolicy, StopCharge, StopOutcome, Verdict
from thor_async._protocol.http_messages import Answer

from .report import Figure, arguments, print_figures, print_table, write_json

AWAY = {"0.1 s": 0.1, "2 s": 2.0, "10 s": 10.0, "60 s": 60.0, "10 min": 600.0, "1 h": 3600.0}
FAILING = "failing"
REPLIES: dict[str, Callable[[], Answer | NotSentError]] = {
    "refusing": refused,
    "503": lambda: Answer(503),
    FAILING: lambda: thor_says("InternalServerError", 500),
}
LATENCY = 0.02
LEAVES = 2.0
PROBES_APART = 15.0


class Cost(NamedTuple):
    """The cost of one batch. `recovery`: seconds from Thor's return to the next request."""

    requests_per_command: float
    requests_while_away: int
    relayed: float
    recovery: float


def summarize(outcomes: list[StopOutcome], times: list[float], back: float) -> Cost:
    """Computes the cost from the outcomes and the times of all requests, in order."""
    relayed = sum(outcome.verdict is Verdict.RELAYED for outcome in outcomes)
    return Cost(
        requests_per_command=len(times) / len(outcomes),
        requests_while_away=sum(LEAVES <= at < back for at in times),
        relayed=relayed / len(outcomes),
        recovery=next((at for at in times if at >= back), math.inf) - back,
    )


def stop_through(down: str, back: float, count: int) -> Cost:
    """Runs a batch of `count` commands through an outage that ends at the time `back`."""

    def reply(command: StopCharge, now: float) -> Answer | NotSentError:
        return REPLIES[down]() if LEAVES <= now < back else OK

    thor = FakeTransport(reply, LATENCY)

    async def main() -> list[StopOutcome]:
        policy = RetryPolicy(random=random.Random(7).uniform)
        with thor.installed():
            async with thor.client(retry=policy) as client:
                return await client.stop_many(fleet(count), give_up_after=None)

    outcomes = virtual_time.run(main)
    return summarize(outcomes, [at for at, _ in thor.requests], back)


def measure(down: str, away: float, count: int, returns: int) -> Cost:
    """Returns the worst values over several times of return."""
    offsets = [min(away, PROBES_APART) * n / returns for n in range(returns)]
    costs = [stop_through(down, LEAVES + away + offset, count) for offset in offsets]
    return Cost(
        max(cost.requests_per_command for cost in costs),
        max(cost.requests_while_away for cost in costs),
        min(cost.relayed for cost in costs),
        max(cost.recovery for cost in costs),
    )


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--commands", type=int, default=8000)
    parser.add_argument("--returns", type=int, default=5, help="batches for each kind of outage")
    args = parser.parse_args()
    costs = {
        (name, down): measure(down, away, args.commands, args.returns)
        for name, away in AWAY.items()
        for down in ("refusing", "503")
    }
    costs["always", FAILING] = stop_through(FAILING, math.inf, args.commands)
    print_table(
        ["away", "Thor is", "requests/command", "while away", "relayed", "recovers in, s"],
        [
            [
                name,
                down,
                f"{cost.requests_per_command:.3f}",
                str(cost.requests_while_away),
                f"{cost.relayed:.1%}",
                "-" if math.isnan(cost.recovery) else f"{cost.recovery:.2f}",
            ]
            for (name, down), cost in costs.items()
        ],
    )
    most = max(cost.requests_per_command for cost in costs.values())
    figures = [Figure("requests per command while Thor is down", 1.05, most)]
    print_figures(figures)
    outages = [
        {"away": name, "down": down, **cost._asdict()} for (name, down), cost in costs.items()
    ]
    write_json(args.json, {"figures": figures, "outages": outages})


if __name__ == "__main__":
    main()
