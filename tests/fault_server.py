"""A server that sends its clients, byte by byte, the faults of a network and of a sick Thor.

A connection follows a script: bytes are written, numbers are pauses in seconds, functions act.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from itertools import cycle
from typing import NamedTuple, Self, cast

_NO_LINGER = struct.pack("ii", 1, 0)
_CONNECTION_ENDED = (OSError, asyncio.IncompleteReadError)


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

    A script that begins with `read` starts again for the next request; after any other script a
    connection stays silent until the client closes it. `requests` holds the requests that a script
    read whole; `connections` counts the accepted connections, with TLS after the handshake.
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
        self.port = self._server.sockets[0].getsockname()[1]
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
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    async def emptied(self) -> None:
        """Waits until no client has a connection."""
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
    except _CONNECTION_ENDED:
        pass
    finally:
        await end(line.writer)


async def end(writer: asyncio.StreamWriter) -> None:
    """Aborts a connection, and takes in how it ended: else asyncio may complain of it."""
    writer.transport.abort()
    with contextlib.suppress(*_CONNECTION_ENDED):
        await writer.wait_closed()


async def write(line: Line, data: bytes) -> None:
    """Returns once most bytes are in the kernel, so that a close or a reset follows them."""
    if line.writer.is_closing():
        raise ConnectionResetError
    line.writer.write(data)
    await line.writer.drain()
    # uvloop hands it to the kernel only at the end of the round.
    await asyncio.sleep(0)


async def read(line: Line) -> None:
    """Reads one whole request, and records it."""
    head = (await line.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *rest = head.split("\r\n")
    fields = (field.partition(":") for field in rest if field)
    headers = {name.strip().lower(): value.strip() for name, _, value in fields}
    body = await line.reader.readexactly(int(headers.get("content-length", "0")))
    method, target, _ = first.split(" ")
    line.requests.append(Request(method, target, headers, body))


async def fin(line: Line) -> None:
    """Ends its own direction, and still reads where the transport allows it."""
    if line.writer.can_write_eof():
        line.writer.write_eof()
    else:
        line.writer.close()


async def close(line: Line) -> None:
    """Closes both directions after the written bytes."""
    line.writer.close()
    await line.writer.wait_closed()


async def rst(line: Line) -> None:
    """Resets the connection."""
    with socket.socket(fileno=os.dup(line.writer.get_extra_info("socket").fileno())) as twin:
        twin.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    line.writer.transport.abort()


def deaf(seconds: float) -> Act:
    """Reads nothing for this time in seconds."""

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
    """Writes the chunk that many times, as fast as the client reads."""

    async def act(line: Line) -> None:
        for _ in range(times):
            await write(line, chunk)

    return act


class SplittingRelay:
    """Passes the bytes of each connection on to a port and back.

    Once `is_splitting` is set, it passes on all but the last byte of what the server sends, and
    that byte only after the client has sent something more. `has_split` tells that it has.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._tasks: set[asyncio.Task[None]] = set()
        self.is_splitting = False
        self.has_split = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.create_task(self._relay(reader, writer)))

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._port)
        held = bytearray()

        async def answer() -> None:
            while data := await server_reader.read(65_536):
                if self.is_splitting:
                    data, held[:] = data[:-1], data[-1:]
                writer.write(data)
                if held:
                    self.has_split.set()
                    self.is_splitting = False
            writer.write_eof()

        answering = asyncio.create_task(answer())
        try:
            while data := await reader.read(65_536):
                writer.write(held)
                held.clear()
                server_writer.write(data)
        except OSError:
            pass
        finally:
            answering.cancel()
            writer.transport.abort()
            server_writer.transport.abort()


@contextmanager
def in_thread(*servers: FaultServer) -> Iterator[None]:
    """Runs servers on a loop in another thread, which runs on while the client's is blocked."""
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
def refusing_port() -> Iterator[str]:
    """Yields the address of a port that refuses every connection."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@contextmanager
def black_hole() -> Iterator[str]:
    """Yields the address of a port that answers no SYN, because its backlog is full."""
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
