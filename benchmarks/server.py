"""The server to measure against: as little as HTTP allows, in a process of its own.

`python -m benchmarks.server` prints its address as JSON. It draws the latency and the status of
each request, in the order of arrival, from a generator with a seed. `GET /stats` returns what was
drawn and the CPU time of the process.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import random
import ssl
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from .processes import Process
from .report import extra

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
DOWN = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"

LATENCIES: dict[str, Callable[[random.Random], float]] = {
    "none": lambda dice: 0.0,
    "constant": lambda dice: 0.02,
    "fifty": lambda dice: 0.05,
    # Median 50 ms; 2.326 is the normal distribution's 99th percentile, so that p99 is 1 s.
    "lognormal": lambda dice: dice.lognormvariate(math.log(0.05), math.log(20) / 2.326),
}


class Draws:
    """Draws latency and status of each request, and keeps the latencies until the next `stats`."""

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
    """Answers each request that has arrived whole, one at a time: no client pipelines."""

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
        # The client may have closed the connection meanwhile: uvloop would log a warning.
        if not self._transport.is_closing():
            self._transport.write(answer)


def _content_length(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0]) if found else 0


def issue_certificate(authority_file: Path) -> ssl.SSLContext:
    """Returns the server's TLS context, and writes the certificate of its authority to the file."""
    with extra():
        import trustme
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(authority_file))
    return context


async def serve(latency: str, failing: float, tls: ssl.SSLContext | None) -> None:
    draws = Draws(latency, failing)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Connection(draws), "127.0.0.1", 0, backlog=1024, ssl=tls
    )
    scheme = "https" if tls else "http"
    address = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    print(json.dumps(address), flush=True)
    await server.serve_forever()


class Server:
    """A running server. `environment` is for its clients: with TLS it names the authority."""

    def __init__(self, base_url: str, authority_file: Path | None) -> None:
        self.base_url = base_url
        self.environment = {"SSL_CERT_FILE": str(authority_file)} if authority_file else {}
        self._tls = ssl.create_default_context(cafile=authority_file) if authority_file else None

    def stats(self) -> dict[str, Any]:
        """Returns the CPU seconds since the start, and the latencies drawn since the last call."""
        with urllib.request.urlopen(f"{self.base_url}/stats", context=self._tls) as response:
            stats: dict[str, Any] = json.load(response)
        return stats


@contextlib.contextmanager
def running(latency: str = "none", failing: float = 0.0, *, tls: bool = False) -> Iterator[Server]:
    """Runs a server in a process of its own, for as long as the block lasts."""
    arguments = ["--latency", latency, "--failing", str(failing)]
    with tempfile.TemporaryDirectory() as directory:
        authority_file = Path(directory, "authority.pem") if tls else None
        if authority_file:
            arguments += ["--tls", str(authority_file)]
        with Process("server", *arguments) as process:
            yield Server(process.read(), authority_file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", choices=LATENCIES, default="none")
    parser.add_argument("--failing", type=float, default=0.0, help="share of 503")
    parser.add_argument("--tls", type=Path, metavar="FILE", help="write the authority there")
    args = parser.parse_args()
    with extra():
        import uvloop
    tls = issue_certificate(args.tls) if args.tls else None
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(args.latency, args.failing, tls))


if __name__ == "__main__":
    main()
