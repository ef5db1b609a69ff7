"""The commands of the front page and of this package's page run as they stand there."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.conftest import KEY
from tests.documents import DOCUMENTS
from thor_async.emulator import ThorEmulator

NEEDS_A_BROKER = ("worker", "publish", "dead")
EXAMPLE = ("EaJ7cU9NJ3YkTNgy", 2, "0012847382", 52)


def documented(name: str) -> list[str]:
    """Returns the lines of the page's first block of commands that need no broker."""
    blocks = re.findall(r"```sh\n(.*?)```", DOCUMENTS[name], re.DOTALL)
    [block] = [block for block in blocks if "thor-async check" in block]
    lines = [line for line in block.splitlines() if "thor-async" in line]
    return [
        line for line in lines if not re.search(rf"thor-async ({'|'.join(NEEDS_A_BROKER)})", line)
    ]


@pytest.mark.parametrize("name", ["README.md", "thor_async/cli/README.md"])
async def test_the_commands_of_a_page(name: str, emulator: ThorEmulator, tmp_path: Path) -> None:
    began = datetime.now(UTC) - timedelta(hours=13)
    box, connector, id_tag, emulator.next_transaction = EXAMPLE
    emulator.start_charge(box, connector, id_tag, date_started=began)
    rows = ["chargebox,connector,id_tag,transaction"]
    for number in range(30):
        charge = emulator.start_charge(f"box-{number}", 1, date_started=began)
        emulator.aliases[charge.chargebox] = f"Depot {number}"
        rows.append(f"{charge.chargebox},1,{charge.id_tag},{charge.transaction}")
    (tmp_path / "fleet.csv").write_text("\n".join(rows))
    emulator.aliases |= {"harbour-1": "Harbour 1", "harbour-2": "Harbour 2"}
    emulator.start_charge("harbour-1", 1, date_started=began)
    environment = os.environ | {
        "THOR_API_KEY": KEY,
        "THOR_BASE_URL": emulator.base_url,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    lines = documented(name)
    assert len(lines) >= 5
    for line in lines:
        if "stop-many -" in line:  # the journal is that of the command before
            for path in tmp_path.glob("harbour.jsonl*"):
                path.unlink()
            emulator.start_charge("harbour-2", 1, date_started=began)
        process = await asyncio.create_subprocess_exec(
            "bash", "-o", "pipefail", "-ec", line, cwd=tmp_path, env=environment,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, said = await process.communicate()
        # Nothing of the file runs any more by then, which this command tells by its status.
        expected = 1 if "running --file" in line else 0
        assert process.returncode == expected, (line, said.decode())
    assert {place[0] for place in emulator.charges} <= {box, "harbour-1"}
    assert (tmp_path / "stopped.html").exists()
