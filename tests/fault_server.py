"""A server that does to its clients, byte by byte, what a network and a sick Thor can do.

A connection follows a script: bytes are written, numbers are pauses in seconds, functions act.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from itertools import cycle
from typing import NamedTuple, Self, cast

_LINGER_NOT = struct.pack("ii", 1, 0)
_GONE = (OSError, asyncio.IncompleteReadError)


class Request(NamedTuple):
    """One request that arrived whole."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Line(NamedTuple):
    """One connection, as the server sees it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    requests: list[Request]


Act = Callable[[Line], Awaitable[None]]
Script = Sequence[bytes | float | Act]


class FaultServer:
    """Listens on loopback; the nth connection follows the nth script, later ones the last.

    A script that begins with `read` begins anew for the next request; after any other a connection
    stays silent until the client closes it. `requests` are those that arrived whole and that a
    script read; `connections` counts those accepted, with TLS after the handshake.
    """

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None) -> None:
        self._scripts = scripts
        self._tls = tls
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._failures: list[BaseException] = []
        self.requests: list[Request] = []
        self.connections = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        for task, writer in self._open.items():
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._server.wait_closed()
        if self._failures:
            raise self._failures[0]

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    async def emptied(self) -> None:
        """Waits until no client holds a connection."""
        while self._open:
            await asyncio.wait(self._open)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = self._scripts[min(self.connections, len(self._scripts) - 1)]
        self.connections += 1
        task = asyncio.create_task(_perform(script, Line(reader, writer, self.requests)))
        self._open[task] = writer
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._open[task]
        if not task.cancelled() and (failure := task.exception()):
            self._failures.append(failure)


async def _perform(script: Script, line: Line) -> None:
    try:
        for step in cycle(script) if read in script[:1] else script:
            if isinstance(step, bytes):
                await write(line, step)
            elif isinstance(step, int | float):
                await asyncio.sleep(step)
            else:
                await step(line)
            if step in (fin, close, rst):
                break
        while await line.reader.read(65_536):
            pass
    except _GONE:
        pass
    finally:
        line.writer.transport.abort()


async def write(line: Line, data: bytes) -> None:
    """Writes, and goes on when little of it is left; a close or a reset then follows the bytes."""
    if line.writer.is_closing():
        raise ConnectionResetError
    line.writer.write(data)
    await line.writer.drain()
    # uvloop hands it to the kernel only at the end of the round.
    await asyncio.sleep(0)


async def read(line: Line) -> None:
    """Reads one request to its end, and notes it."""
    head = (await line.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *rest = head.split("\r\n")
    fields = (field.partition(":") for field in rest if field)
    headers = {name.strip().lower(): value.strip() for name, _, value in fields}
    body = await line.reader.readexactly(int(headers.get("content-length", "0")))
    method, target, _ = first.split(" ")
    line.requests.append(Request(method, target, headers, body))


async def fin(line: Line) -> None:
    """Says that nothing more will come, but still reads where the transport allows it."""
    if line.writer.can_write_eof():
        line.writer.write_eof()
    else:
        line.writer.close()


async def close(line: Line) -> None:
    """Closes both directions, after what was written."""
    line.writer.close()
    await line.writer.wait_closed()


async def rst(line: Line) -> None:
    """Resets the connection."""
    with socket.socket(fileno=os.dup(line.writer.get_extra_info("socket").fileno())) as twin:
        twin.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    line.writer.transport.abort()


def deaf(seconds: float) -> Act:
    """Leaves everything unread for so long."""

    async def act(line: Line) -> None:
        transport = cast("asyncio.ReadTransport", line.writer.transport)
        transport.pause_reading()
        await asyncio.sleep(seconds)
        transport.resume_reading()

    return act


def dribble(data: bytes, every: float) -> Act:
    """Writes byte by byte."""

    async def act(line: Line) -> None:
        for index in range(len(data)):
            await write(line, data[index : index + 1])
            await asyncio.sleep(every)

    return act


def flood(chunk: bytes, times: int) -> Act:
    """Writes the same again and again, as fast as the client takes it."""

    async def act(line: Line) -> None:
        for _ in range(times):
            await write(line, chunk)

    return act


@contextmanager
def in_thread(*servers: FaultServer) -> Iterator[None]:
    """Runs them on a loop of their own, which goes on while the client's is blocked."""
    started, ended = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with AsyncExitStack() as stack:
            for server in servers:
                await stack.enter_async_context(server)
            loops.append(asyncio.get_running_loop())
            started.set()
            await ended.wait()

    loops: list[asyncio.AbstractEventLoop] = []
    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert started.wait(5)
        yield
    finally:
        loops[0].call_soon_threadsafe(ended.set)
        thread.join()


@contextmanager
def nobody_listens() -> Iterator[str]:
    """The address of a port that refuses every connection."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@contextmanager
def black_hole() -> Iterator[str]:
    """The address of a port that answers no SYN, because its backlog is full."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
            yield f"http://127.0.0.1:{full.getsockname()[1]}"
        finally:
            for filler in fillers:
                filler.close()
