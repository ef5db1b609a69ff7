"""Each way to log in to NATS, on a real server, and a user that may do no more than it must."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme

from tests.conftest import KEY, wait_until
from tests.worker.conftest import Place, connect, run_server
from tests.worker.nats_users import make_credentials, make_user_key
from tests.worker.test_command_line import Workers, fleet
from thor_async.emulator import ThorEmulator

pytestmark = pytest.mark.broker

PASSWORD = "s3cret-of-nats"
ADMIN = {"user": "admin", "password": "admin"}


@contextlib.asynccontextmanager
async def running(
    emulator: ThorEmulator, folder: Path, config: str, **login: Any
) -> AsyncIterator[tuple[Place, Workers]]:
    """Runs a server with these settings, for workers and for a test that logs in itself."""
    with run_server(folder, config) as server:
        async with connect(server.url, **login) as place:
            workers = Workers(place, emulator, folder)
            try:
                yield place, workers
            finally:
                for worker in workers.all:
                    await worker.kill()
                    for secret in (KEY, PASSWORD, "Traceback"):
                        assert secret not in worker.log.read_text()


async def serves(place: Place, emulator: ThorEmulator) -> None:
    await place.send(*fleet(emulator, 3))
    await place.emptied(60)
    assert emulator.charges == {}
    assert len(await place.outcomes()) >= 3


def passwords(*users: str) -> str:
    listed = ", ".join(["{ user: admin, password: admin }", *users])
    return f"authorization {{ users: [ {listed} ] }}\n"


USER = f"{{ user: worker, password: {PASSWORD} }}"


async def test_user_and_password(emulator: ThorEmulator, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    async with running(emulator, tmp_path, passwords(USER), **ADMIN) as (place, workers):
        first = await workers.start(NATS_USER="worker", NATS_PASSWORD=PASSWORD)
        await serves(place, emulator)
        await first.end()
        second = await workers.start("--nats-password-file", str(file), NATS_USER="worker")
        await serves(place, emulator)
        await second.end()
        address = place.url.replace("//", f"//worker:{PASSWORD}@")
        # The first address does not answer.
        await workers.start(NATS_URL=f"nats://127.0.0.1:1,{address}")
        await serves(place, emulator)


async def test_a_wrong_password_ends_the_worker(emulator: ThorEmulator, tmp_path: Path) -> None:
    async with running(emulator, tmp_path, passwords(USER), **ADMIN) as (_, workers):
        worker = await workers.start(NATS_USER="worker", NATS_PASSWORD="wrong", until="NATS: ")
        assert await asyncio.wait_for(worker.process.wait(), 30) == 2
        assert "authorization violation" in worker.log.read_text().lower()


async def test_credentials(emulator: ThorEmulator, tmp_path: Path) -> None:
    file = tmp_path / "user.creds"
    config = make_credentials(file)
    login = {"user_credentials": str(file)}
    async with running(emulator, tmp_path, config, **login) as (place, workers):
        await workers.start("--nats-creds", str(file))
        await serves(place, emulator)


async def test_an_nkey(emulator: ThorEmulator, tmp_path: Path) -> None:
    key, file = make_user_key(), tmp_path / "user.nk"
    file.write_bytes(key.seed + b"\n")
    config = f"authorization {{ users: [ {{ nkey: {key.public} }} ] }}\n"
    async with running(emulator, tmp_path, config, nkeys_seed=str(file)) as (place, workers):
        await workers.start("--nats-nkey", str(file))
        await serves(place, emulator)


async def test_a_private_authority_and_a_client_certificate(
    emulator: ThorEmulator, tmp_path: Path
) -> None:
    authority = trustme.CA()
    files = {name: tmp_path / f"{name}.pem" for name in ("ca", "server", "cert", "key", "both")}
    authority.cert_pem.write_to_path(str(files["ca"]))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        str(files["server"])
    )
    client = authority.issue_cert("worker@example.com")
    client.private_key_pem.write_to_path(str(files["key"]))
    client.cert_chain_pems[0].write_to_path(str(files["cert"]))
    client.private_key_and_cert_chain_pem.write_to_path(str(files["both"]))
    config = (
        f'tls {{ cert_file: "{files["server"]}", key_file: "{files["server"]}", '
        f'ca_file: "{files["ca"]}", verify: true }}\n'
    )
    tls = ssl.create_default_context(cafile=str(files["ca"]))
    tls.load_cert_chain(files["cert"], files["key"])
    async with running(emulator, tmp_path, config, tls=tls) as (place, workers):
        ca, cert = ("--nats-ca", str(files["ca"])), ("--nats-cert", str(files["cert"]))
        first = await workers.start(*ca, *cert, "--nats-key", str(files["key"]))
        await serves(place, emulator)
        await first.end()
        await workers.start(*ca, "--nats-cert", str(files["both"]))
        await serves(place, emulator)
        stranger = await workers.start(*ca, until="NATS: ")
        assert "serving" not in stranger.log.read_text()


def allow(names: dict[str, str], durable: str) -> str:
    """The user of a worker whose stream and consumer exist."""
    stream, api = names["stream"], "$JS.API"
    publish = [
        f"{api}.STREAM.INFO.{stream}",
        f"{api}.CONSUMER.INFO.{stream}.{durable}",
        f"{api}.CONSUMER.MSG.NEXT.{stream}.{durable}",
        f"$JS.ACK.{stream}.{durable}.>",
        names["outcomes"],
        names["dead_letter"],
        # Only for messages that are older than the duplicate window: the stored results.
        f"{api}.CONSUMER.CREATE.{stream}.*.{names['outcomes']}",
        f"{api}.CONSUMER.CREATE.{stream}.*.{names['dead_letter']}",
        f"{api}.CONSUMER.INFO.{stream}.*",
        f"{api}.CONSUMER.MSG.NEXT.{stream}.*",
        f"{api}.CONSUMER.DELETE.{stream}.*",
    ]
    permissions = f'publish: {msgspec.json.encode(publish).decode()}, subscribe: [ "_INBOX.>" ]'
    return f"{{ user: worker, password: {PASSWORD}, permissions: {{ {permissions} }} }}"


async def test_a_user_with_the_least_privileges(emulator: ThorEmulator, tmp_path: Path) -> None:
    with run_server(tmp_path, passwords()) as server:
        async with connect(server.url, **ADMIN) as place:
            await place.make(ack_wait=1.0, duplicate_window=0.1)
            await place.send(b"no command", b"")
            await place.deliver_to_a_dead_worker(2)
            server.stop()
            server.config.write_text(passwords(allow(place.names, place.durable)))
            server.start()
            workers = Workers(place, emulator, tmp_path)
            worker = await workers.start(NATS_USER="worker", NATS_PASSWORD=PASSWORD)
            try:
                await serves(place, emulator)
                assert [message.data for message in await place.dead()] == [b"no command", b""]
                log = await worker.end()
            finally:
                await worker.kill()
    assert "NATS: " not in log
    assert "not serving" not in log


async def test_a_key_file_that_changes(emulator: ThorEmulator, tmp_path: Path) -> None:
    file = tmp_path / "api-key"
    file.write_text("rotated-away\n")
    async with running(emulator, tmp_path, "") as (place, workers):
        worker = await workers.start("--api-key-file", str(file), "--max-in-flight", "4")
        await place.send(*fleet(emulator, 8))
        await wait_until(lambda: len(emulator.ledger.requests) >= 2)
        file.write_text(f"{KEY}\n")
        await place.emptied(60)
        assert len(emulator.ledger.requests) <= 8 + 8
        assert "Thor refuses the account" in await worker.end()
    assert emulator.charges == {}


async def test_no_secret_is_in_the_list_of_processes(
    emulator: ThorEmulator, tmp_path: Path
) -> None:
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    async with running(emulator, tmp_path, passwords(USER), **ADMIN) as (_, workers):
        worker = await workers.start(NATS_USER="worker", NATS_PASSWORD=PASSWORD)
        arguments = Path(f"/proc/{worker.process.pid}/cmdline").read_bytes()
        assert PASSWORD.encode() not in arguments
        assert KEY.encode() not in arguments
