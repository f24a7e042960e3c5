"""A real RabbitMQ: started once, killed, frozen, wiped, and gone without a trace. One node serves all tests here."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aio_pika
import pytest
from aiormq.exceptions import ChannelNotFoundEntity

from localcluster.children import live_pids, scratch_folder
from localcluster.rabbitmq import RabbitCommandError, RabbitServer
from tests.integration.localcluster.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("localcluster-rabbitmq")]

PARENT = """
import sys, time
from localcluster.cluster import LocalServers
with LocalServers(environment={}) as servers:
    print(servers.folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture(name="server", scope="module")
def _server() -> Iterator[RabbitServer]:
    with scratch_folder() as folder:
        server = RabbitServer(folder / "rabbitmq")
        server.start()
        try:
            yield server
        finally:
            server.stop()


async def _publish(url: str, queue: str) -> None:
    """A confirmed message in a classic queue: a quorum queue is lost when its node dies within 2 s of its birth."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel(publisher_confirms=True)
        await channel.declare_queue(queue, durable=True)
        message = aio_pika.Message(b"kept", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, routing_key=queue)


async def _get(url: str, queue: str) -> bytes:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        message = await (await channel.get_queue(queue)).get(timeout=10)
        assert message is not None
        await message.ack()
        return message.body


async def test_a_new_vhost_is_usable_until_it_is_deleted(server: RabbitServer) -> None:
    url = server.add_vhost("test one/ü")
    await _publish(url, "jobs")
    body = await _get(url, "jobs")

    server.delete_vhost("test one/ü")

    assert body == b"kept"
    assert "test one" not in server.ctl("list_vhosts")
    with pytest.raises(RabbitCommandError):
        server.delete_vhost("test one/ü")


async def test_a_frozen_node_goes_on_after_the_thaw(server: RabbitServer) -> None:
    server.freeze()
    server.thaw()

    await _publish(server.url, "thawed")

    assert await _get(server.url, "thawed") == b"kept"


async def test_confirmed_messages_survive_a_kill_and_not_a_wipe(server: RabbitServer) -> None:
    url = server.url
    await _publish(url, "durable")

    server.kill()
    server.start()
    body = await _get(url, "durable")
    server.stop()
    server.wipe()
    server.start()

    assert (server.url, body) == (url, b"kept")
    with pytest.raises(ChannelNotFoundEntity):
        await _get(url, "durable")


def test_a_stopped_node_leaves_no_process(server: RabbitServer) -> None:
    family = _processes_of(server.root)

    server.stop()
    left = family & live_pids()
    server.start()

    assert len(family) >= 2
    assert left == set()


def test_killing_the_owner_with_9_takes_both_servers_and_their_folder_along() -> None:
    libs = Path(__file__).resolve().parents[3] / "libs"
    environment = {**os.environ, "PYTHONPATH": str(libs)}
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, env=environment
    ) as owner:
        assert owner.stdout is not None
        folder = Path(owner.stdout.readline().strip())
        family = _processes_of(folder)
        owner.kill()

    wait_until(lambda: not (family & live_pids()))
    wait_until(lambda: not folder.exists())
    assert len(family) >= 8


def _processes_of(folder: Path) -> frozenset[int]:
    """Ids of the processes that have `folder` in their environment, arguments or working folder."""
    return frozenset(pid for pid in live_pids() if str(folder) in _traces(pid))


def _traces(pid: int) -> str:
    try:
        process = Path(f"/proc/{pid}")
        contents = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
        return contents.decode(errors="replace") + str((process / "cwd").readlink())
    except OSError:
        return ""
