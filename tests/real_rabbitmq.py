"""Runs a RabbitMQ server on loopback, with a node name and a folder of its own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.real_servers import find_server

# The command on the path changes to a user who cannot write into a test's folder.
_SCRIPT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


@contextlib.contextmanager
def run_rabbitmq(folder: Path) -> Iterator[str]:
    """Yields the address of the server. Without RabbitMQ see `find_server`."""
    found = find_server("rabbitmq-server")
    program = str(_SCRIPT) if _SCRIPT.exists() else found
    port, peer_port, mapper_port = _find_free_ports(3)
    environment = os.environ | _make_environment(folder, port, peer_port, mapper_port)
    mapper = [find_server("epmd"), "-port", str(mapper_port), "-address", "127.0.0.1"]
    with (folder / "log").open("wb") as log, subprocess.Popen(mapper, env=environment) as names:
        try:
            with subprocess.Popen(
                [program], env=environment, stdout=log, stderr=log, start_new_session=True
            ) as server:
                try:
                    _wait_for(port, server, folder / "log")
                    yield f"amqp://guest:guest@127.0.0.1:{port}/"
                finally:
                    server.terminate()
        finally:
            names.terminate()


def _make_environment(folder: Path, port: int, peer_port: int, mapper_port: int) -> dict[str, str]:
    (folder / "rabbitmq.conf").write_text(f"listeners.tcp.1 = 127.0.0.1:{port}\n")
    (folder / "plugins").write_text("[].\n")
    loopback = "-kernel inet_dist_use_interface {127,0,0,1}"
    return {
        "HOME": str(folder),  # for the cookie of Erlang
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(mapper_port),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
        "RABBITMQ_DIST_PORT": str(peer_port),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_LOG_BASE": str(folder),
        "RABBITMQ_MNESIA_BASE": str(folder),
        "RABBITMQ_NODENAME": f"thor-{port}@localhost",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"+sbwt none {loopback}",
    }


def _find_free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        bound = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in bound:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in bound]


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        assert server.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError("no RabbitMQ within 120 s")
