"""Draws the results of the benchmarks, as in `DRAW`: `python -m benchmarks.plots`.

Reads the given `--json` files, and measures what has none; writes SVGs beside this module.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .report import extra, quartiles
from .throughput import ratios

PLOTS = Path(__file__).parent / "plots"
# In the middle between white and black, so that both can be the page.
INK = "#7d8590"
LIBRARY, OTHER = "#2f81f7", "#8b949e"
LABELS = {
    "library": "thor_async",
    "tuned": "aiohttp, tuned pool",
    "naive": "aiohttp, naive pool",
    "gather": "aiohttp, gather",
    "aiohttp_retry": "aiohttp-retry",
    "aiohttp_tenacity": "aiohttp, tenacity",
    "aiohttp_stamina": "aiohttp, stamina",
    "httpx_tenacity": "httpx, tenacity",
    "stop_stream": "stop_stream",
    "aiolimiter": "aiolimiter, set right",
    "aiolimiter_too_high": "aiolimiter, 20 % too high",
}
SHADES = {"asyncio": 1.0, "uvloop": 0.55}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "thor_async",
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK
    ),
}


def draw_throughput(axes: Any, content: Any) -> None:
    _draw_rates(axes, content["chunks"])


def draw_tls(axes: Any, content: Any) -> None:
    """Draws as `draw_throughput`, from the same file."""
    _draw_rates(axes, content["tls_chunks"])


def _draw_rates(axes: Any, results: Any) -> None:
    """Bars: each contender's rate in units of the library's, with quartiles."""
    medians = {name: quartiles(ratios(results["asyncio"], name))[1] for name in results["asyncio"]}
    names = sorted(medians, key=medians.__getitem__, reverse=True)
    for number, (loop, chunks) in enumerate(results.items()):
        parts = [quartiles([1 / ratio for ratio in ratios(chunks, name)]) for name in names]
        axes.barh(
            [place + 0.4 * (0.5 - number) for place in range(len(names))],
            [middle for _, middle, _ in parts],
            height=0.36,
            color=[LIBRARY if name == "library" else OTHER for name in names],
            alpha=SHADES[loop],
            xerr=[[mid - low for low, mid, _ in parts], [high - mid for _, mid, high in parts]],
            error_kw={"ecolor": INK, "elinewidth": 1},
        )
    axes.set_yticks(range(len(names)), [LABELS.get(name, name) for name in names])
    axes.axvline(1, color=INK, linewidth=0.8, linestyle=":")
    axes.set_xlabel(
        "stops a second, thor_async on the same loop = 1 (solid: asyncio, pale: uvloop)"
    )


def draw_memory(axes: Any, content: Any) -> None:
    """Lines: growth over the number of commands."""
    for name, grown in content["growth_mib"].items():
        color = LIBRARY if name == "stop_stream" else OTHER
        counts = [int(count) for count in grown]
        axes.plot(counts, grown.values(), marker="o", color=color, label=LABELS[name])
    axes.set_xscale("log")
    axes.set_xlabel("commands in one batch")
    axes.set_ylabel("growth of the process, MiB")
    axes.legend()


def draw_latency(axes: Any, content: Any) -> None:
    """Bars: time in units of the ideal schedule."""
    scenarios = [("constant", 0.0), ("constant", 0.05), ("lognormal", 0.0), ("lognormal", 0.05)]
    for number, contender in enumerate(("library", "tuned")):
        for loop, shade in SHADES.items():
            rows = {
                (row["latency"], row["failing"]): row["to_ideal"]
                for row in content["rows"]
                if (row["contender"], row["loop"]) == (contender, loop)
            }
            shift = 0.2 * (2 * number + (loop == "uvloop")) - 0.3
            places = [n + shift for n, scenario in enumerate(scenarios) if scenario in rows]
            axes.bar(
                places,
                [rows[scenario] for scenario in scenarios if scenario in rows],
                width=0.18,
                color=LIBRARY if contender == "library" else OTHER,
                alpha=shade,
                label=f"{LABELS[contender]}\non {loop}",
            )
    axes.set_xticks(
        range(len(scenarios)), [f"{latency}\n{share:.0%} of 503" for latency, share in scenarios]
    )
    axes.axhline(1, color=INK, linewidth=0.8, linestyle=":")
    axes.set_ylabel("time / ideal schedule")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))


def draw_throttle(axes: Any, content: Any) -> None:
    """Bars: time in units of the ideal one, and the share of 429; pale for a low limit."""
    rows = content["peers"]
    figure = axes.figure
    axes.remove()
    panels = figure.subplots(1, 2, sharey=True)
    rates = sorted({row["rate"] for row in rows})
    names = list(dict.fromkeys(row["name"] for row in rows))[::-1]
    for number, rate in enumerate(rates):
        found = {row["name"]: row for row in rows if row["rate"] == rate}
        for panel, what, unit in zip(panels, ("to_ideal", "throttled"), (1, 100), strict=True):
            panel.barh(
                [place + 0.27 * (number - (len(rates) - 1) / 2) for place in range(len(names))],
                [unit * found[name][what] for name in names],
                height=0.24,
                color=[LIBRARY if name == "library" else OTHER for name in names],
                alpha=(number + 1) / len(rates),
            )
    relayed = {name: min(row["relayed"] for row in rows if row["name"] == name) for name in names}
    panels[0].set_yticks(
        range(len(names)),
        [f"{LABELS[name]}\n{math.floor(100 * relayed[name])} % relayed" for name in names],
    )
    panels[0].axvline(1, color=INK, linewidth=0.8, linestyle=":")
    panels[0].set_xlabel("time / ideal")
    limits = ", ".join(map(str, rates))
    panels[1].set_xlabel(f"429 of all requests, %\n(pale to solid: {limits} a second)")


DRAW: dict[str, Callable[[Any, Any], None]] = {
    "throughput": draw_throughput,
    "tls": draw_tls,
    "memory": draw_memory,
    "latency": draw_latency,
    "throttle": draw_throttle,
}


def save(name: str, content: Any) -> Path:
    """Draws one of `DRAW`; the same content always gives the same file."""
    with extra():
        import matplotlib as mpl
        from matplotlib.figure import Figure
    path = PLOTS / f"{name}.svg"
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7, 3.6), layout="constrained")
        DRAW[name](figure.subplots(), content)
        path.parent.mkdir(exist_ok=True)
        figure.savefig(path, transparent=True, metadata={"Date": None, "Creator": None})
    return path


def measure(name: str) -> Any:
    with tempfile.NamedTemporaryFile() as file:
        module = "throughput" if name == "tls" else name
        command = [sys.executable, "-m", f"benchmarks.{module}", "--json", file.name]
        subprocess.run(command, check=True)
        return json.load(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in DRAW:
        parser.add_argument(f"--{name}", type=Path, metavar="FILE", help="what it measured")
    given: dict[str, Path | None] = vars(parser.parse_args())
    for name, file in given.items():
        print(save(name, json.loads(file.read_text()) if file else measure(name)))


if __name__ == "__main__":
    main()
