"""Draws the front page's picture: `python -m benchmarks.demo_picture` writes plots/demo.svg."""

from __future__ import annotations

import io
import re
import subprocess
import sys

from .plots import PLOTS
from .report import extra

COMMAND = ("demo", "--faults", "0.1")


def capture() -> str:
    """Returns what the command prints, with the last line of its progress."""
    ran = subprocess.run(
        [sys.executable, "-m", "thor_async", *COMMAND], capture_output=True, check=True, text=True
    )
    lines = ran.stdout.splitlines()
    table = next(number for number, line in enumerate(lines) if line.startswith("verdict"))
    return "\n".join([f"$ thor-async {' '.join(COMMAND)}", *lines[table - 1 :]])


def draw(text: str) -> str:
    """Returns an SVG of the text in a terminal, which loads nothing from elsewhere."""
    with extra():
        from rich.console import Console
    width = max(map(len, text.splitlines())) + 1
    console = Console(record=True, width=width, file=io.StringIO(), highlight=False)
    console.print(text, markup=False)
    svg = console.export_svg(title="thor-async", unique_id="demo")
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


def main() -> None:
    path = PLOTS / "demo.svg"
    path.write_text(draw(capture()))
    print(path)


if __name__ == "__main__":
    main()
