"""Runs a nats-server with JetStream on loopback."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def running() -> Iterator[str]:
    """Yields its address. Its store is removed at the end."""
    server = shutil.which("nats-server", path=sysconfig.get_path("scripts")) or "nats-server"
    with tempfile.TemporaryDirectory() as folder:
        where = ["-sd", folder, "--ports_file_dir", folder]
        process = subprocess.Popen(
            [server, "-js", "-a", "127.0.0.1", "-p", "-1", *where],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield _find_address(Path(folder))
        finally:
            process.terminate()
            process.wait()


def _find_address(folder: Path) -> str:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        for file in folder.glob("*.ports"):
            with contextlib.suppress(json.JSONDecodeError):
                return str(json.loads(file.read_text())["nats"][0])
        time.sleep(0.02)
    raise SystemExit("no nats-server within 30 s")
