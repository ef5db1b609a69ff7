"""The server to measure against: as little as HTTP allows, in a process of its own.

`python -m benchmarks.server` prints its address, as JSON. A request's latency and status are drawn
in the order of arrival from a generator with a seed; `GET /stats` says what was drawn and what it
cost.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import random
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any, cast

from .processes import Process
from .report import extra

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
DOWN = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"

LATENCIES: dict[str, Callable[[random.Random], float]] = {
    "none": lambda dice: 0.0,
    "constant": lambda dice: 0.02,
    # Median 50 ms; 2.326 is the normal distribution's 99th percentile, so that p99 is 1 s.
    "lognormal": lambda dice: dice.lognormvariate(math.log(0.05), math.log(20) / 2.326),
}


class Draws:
    """What the server decided for each request since the last look, in order of arrival."""

    def __init__(self, latency: str, failing: float) -> None:
        self._draw = LATENCIES[latency]
        self._failing = failing
        self._dice = random.Random(1)
        self.latencies: list[float] = []

    def next(self) -> tuple[float, bytes]:
        latency = self._draw(self._dice)
        self.latencies.append(latency)
        fails = self._failing and self._dice.random() < self._failing
        return latency, DOWN if fails else OK

    def stats(self) -> bytes:
        latencies, self.latencies = self.latencies, []
        if not any(latencies):
            latencies = []
        body = json.dumps({"cpu": time.process_time(), "latencies": latencies}).encode()
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


class Connection(asyncio.Protocol):
    """Answers each request that has arrived whole, one at a time: nobody pipelines."""

    def __init__(self, draws: Draws) -> None:
        self._draws = draws
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, because uvloop's transports are no subclass.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator or len(body) < _content_length(head):
            return
        self._received = b""
        if head.startswith(b"GET /stats"):
            self._transport.write(self._draws.stats())
            return
        latency, answer = self._draws.next()
        if latency:
            asyncio.get_running_loop().call_later(latency, self._write, answer)
        else:
            self._write(answer)

    def _write(self, answer: bytes) -> None:
        # A client may have gone away meanwhile, and uvloop does not take that lightly.
        if not self._transport.is_closing():
            self._transport.write(answer)


def _content_length(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0]) if found else 0


async def serve(latency: str, failing: float) -> None:
    draws = Draws(latency, failing)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(draws), "127.0.0.1", 0, backlog=1024)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    print(json.dumps(address), flush=True)
    await server.serve_forever()


class Server:
    """A running server, as its user sees it."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url

    def stats(self) -> dict[str, Any]:
        """CPU seconds since its start, and the latencies that it drew since the last look."""
        with urllib.request.urlopen(f"{self.base_url}/stats") as response:
            stats: dict[str, Any] = json.load(response)
        return stats


@contextlib.contextmanager
def running(latency: str = "none", failing: float = 0.0) -> Iterator[Server]:
    """A server in a process of its own, for as long as the block lasts."""
    with Process("server", "--latency", latency, "--failing", str(failing)) as process:
        yield Server(process.read())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", choices=LATENCIES, default="none")
    parser.add_argument("--failing", type=float, default=0.0, help="share of 503")
    args = parser.parse_args()
    with extra():
        import uvloop
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(args.latency, args.failing))


if __name__ == "__main__":
    main()
