"""The README's example does what it says, against the emulator."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import thor_async
from tests.conftest import KEY
from thor_async import StopCharge
from thor_async.emulator import ThorEmulator

README = (Path(__file__).parent.parent / "README.md").read_text()


async def test_the_example_runs_as_it_stands(emulator: ThorEmulator) -> None:
    example = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert example is not None
    tag = "0012847382"
    emulator.start_charge("EaJ7cU9NJ3YkTNgy", 2, tag)
    emulator.fill(StopCharge(f"box-{n}", 1, tag) for n in range(999))
    emulator.add_chargebox("box-999")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-Werror",
        "-c",
        example.group(1),
        stdout=asyncio.subprocess.PIPE,
        env={"THOR_API_KEY": KEY, "THOR_BASE_URL": emulator.base_url},
        cwd=Path(__file__).parent.parent,
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    assert printed.decode().startswith("relayed in ")
    assert printed.count(b"\n") == 1  # nothing of the 1,000 is left to do: 999 relayed, 1 over
    assert emulator.charges == {}


def test_what_the_readme_names_is_there() -> None:
    tree = re.search(r"```\nThorError(.*?)```", README, re.DOTALL)
    assert tree is not None
    names = set(re.findall(r"\b[A-Z]\w+(?:Error|Found|Lost|Response|Valid|Transaction)\b", tree[0]))
    assert names
    assert names - {"TimeoutError"} <= set(thor_async.__all__)
