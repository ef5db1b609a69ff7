"""Controls a headless Chromium through its DevTools protocol, to check how a page looks."""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

NEEDED = "THOR_TESTS_NEED_CHROMIUM"
MISSING = "Chromium is not installed (apt-get install chromium)"


def find_chromium() -> str:
    """Returns the path of Chromium.

    Without one the test is skipped, or fails if the environment variable `NEEDED` is set.
    """
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None and os.environ.get(NEEDED):
        pytest.fail(f"{NEEDED} is set, but {MISSING}")
    if found is None:
        pytest.skip(MISSING)
    return found


class Page:
    """One tab."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._session = ""
        self.requested: list[str] = []

    async def open(self, width: int, height: int) -> None:
        target = await self._call("Target.createTarget", url="about:blank")
        attached = await self._call(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime"):
            await self._call(f"{domain}.enable")
        # Processor time, so that a busy machine does not make a test fail.
        await self._call("Performance.enable", timeDomain="threadTicks")
        await self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )

    async def go(self, place: Path | str) -> None:
        """Loads a file or an address, and waits until it has been loaded."""
        url = place if isinstance(place, str) else place.as_uri()
        await self._send("Page.navigate", url=url)
        while (await self._next()).get("method") != "Page.loadEventFired":
            pass

    async def ask(self, expression: str) -> Any:
        """Returns the value of a JavaScript expression in the page."""
        answer = await self._call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def work(self) -> float:
        """Returns the seconds of processor time that the page has used so far."""
        metrics = (await self._call("Performance.getMetrics"))["metrics"]
        return float(next(one["value"] for one in metrics if one["name"] == "TaskDuration"))

    async def prefer(self, scheme: str, *, media: str = "") -> None:
        """Shows pages in `light` or in `dark` from now on, and as in `print` if `media` is that."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self._call("Emulation.setEmulatedMedia", media=media, features=features)

    async def without_scripts(self) -> None:
        """Runs no script of a page from now on."""
        await self._call("Emulation.setScriptExecutionDisabled", value=True)

    async def print_to(self, path: Path) -> None:
        """Prints the page as PDF, as a browser does by default: without backgrounds."""
        answer = await self._call("Page.printToPDF", preferCSSPageSize=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    async def save(self, expression: str, folder: Path) -> bytes:
        """Evaluates an expression that saves a file, and returns the content of the file."""
        await self._call(
            "Browser.setDownloadBehavior",
            behavior="allow",
            downloadPath=str(folder),
            eventsEnabled=True,
        )
        await self._send("Runtime.evaluate", expression=expression, userGesture=True)
        while True:
            message = await self._next()
            is_progress = message.get("method") == "Browser.downloadProgress"
            if is_progress and message["params"]["state"] == "completed":
                [file] = folder.iterdir()
                return file.read_bytes()

    async def picture(self, path: Path) -> None:
        answer = await self._call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(answer["data"]))

    async def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = await self._send(method, **parameters)
        while (answer := await self._next()).get("id") != number:
            pass
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    async def _send(self, method: str, **parameters: Any) -> int:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        await self._socket.send_json(message)
        return number

    async def _next(self) -> dict[str, Any]:
        message: dict[str, Any] = await self._socket.receive_json(timeout=60)
        if message.get("method") == "Network.requestWillBeSent":
            self.requested.append(message["params"]["request"]["url"])
        return message


@asynccontextmanager
async def browse(folder: Path, width: int, height: int) -> AsyncIterator[Page]:
    """Opens a tab of this size in a browser of its own, whose profile is in `folder`."""
    process = await asyncio.create_subprocess_exec(
        find_chromium(),
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--remote-debugging-port=0",
        f"--user-data-dir={folder}",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(60):
            line = b""
            while b"DevTools listening on " not in line:
                line = await process.stderr.readline()
                assert line, "chromium ended"
        address = line.split()[-1].decode()
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(address, max_msg_size=0) as socket,
        ):
            page = Page(socket)
            await page.open(width, height)
            yield page
    finally:
        process.kill()
        await process.communicate()
