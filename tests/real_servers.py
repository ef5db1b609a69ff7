"""Runs nginx and HAProxy on loopback, between a client and its server."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest
import trustme

NEEDED = "THOR_TESTS_NEED_SERVERS"
MISSING = "{0} is not installed (apt-get install {0})"

_NGINX = """\
daemon off;
master_process on;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/errors;
{user}
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {settings}
    server {{
        listen 127.0.0.1:{port} {tls};
        location / {{
            proxy_pass http://{upstream};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_read_timeout {timeout_ms}ms;
        }}
    }}
}}
"""
_NGINX_TLS = "ssl; ssl_certificate {folder}/chain.pem; ssl_certificate_key {folder}/chain.pem"

_HAPROXY = """\
defaults
    mode http
    retries 0
    timeout connect 5s
    timeout client 30s
    timeout server {timeout_ms}ms
    {settings}
frontend front
    bind 127.0.0.1:{port} {tls}
    default_backend back
backend back
    server thor {upstream}
"""
_HAPROXY_TLS = "ssl crt {folder}/chain.pem"


def find_server(name: str) -> str:
    """Returns the path of the program.

    Without it the test is skipped, or fails if the environment variable `NEEDED` is set.
    """
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None and os.environ.get(NEEDED):
        pytest.fail(f"{NEEDED} is set, but {MISSING.format(name)}")
    if found is None:
        pytest.skip(MISSING.format(name))
    return found


class RealServer:
    """A reverse proxy that runs; `address` is the one of its port."""

    def __init__(self, process: asyncio.subprocess.Process, address: str) -> None:
        self._process = process
        self.address = address

    def reload(self) -> None:
        """Does what `nginx -s reload` does."""
        self._process.send_signal(signal.SIGHUP)


@asynccontextmanager
async def run_server(
    name: str,
    upstream: str,
    folder: Path,
    *,
    authority: trustme.CA | None = None,
    settings: str = "",
    timeout: float = 30.0,
) -> AsyncIterator[RealServer]:
    """Runs `nginx` or `haproxy` before `upstream`, an address, with its files in `folder`.

    With an authority it speaks TLS. `settings` are lines of its own for all requests. After
    `timeout` seconds without an answer of `upstream` it answers 504.
    """
    program = find_server(name)
    if authority is not None:
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
            str(folder / "chain.pem")
        )
    with _reserved_port() as port:
        template, tls = (_NGINX, _NGINX_TLS) if name == "nginx" else (_HAPROXY, _HAPROXY_TLS)
        config = folder / "config"
        config.write_text(
            template.format(
                folder=folder,
                port=port,
                tls=tls.format(folder=folder) if authority else "",
                settings=settings,
                timeout_ms=round(timeout * 1000),
                upstream=upstream.removeprefix("http://"),
                # As root it would run its workers as somebody who cannot read these files.
                user="user root;" if os.geteuid() == 0 else "",
            )
        )
        options = ["-p", str(folder), "-e", str(folder / "errors"), "-c"]
        with (folder / "output").open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                program,
                *(options if name == "nginx" else ["-db", "-f"]),
                str(config),
                stdout=output,
                stderr=output,
            )
        try:
            async with asyncio.timeout(30):
                while not await _is_listening(port):
                    assert process.returncode is None, (folder / "output").read_text()
                    await asyncio.sleep(0.01)
            scheme = "http" if authority is None else "https"
            yield RealServer(process, f"{scheme}://127.0.0.1:{port}")
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


@contextmanager
def _reserved_port() -> Iterator[int]:
    """Yields a free port that only a server can take that allows its address to be reused."""
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


async def _is_listening(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    writer.close()
    with suppress(ConnectionResetError):
        await writer.wait_closed()
    return True
