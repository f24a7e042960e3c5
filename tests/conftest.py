"""Real servers for the tests: private ones, or those that the environment names; one database for each test.

Under xdist the controller starts the servers once and gives each worker a virtual host of its own.
"""

import asyncio
import secrets
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aio_pika
import pytest
import structlog
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from localcluster.children import scratch_folder
from localcluster.cluster import LocalServers
from localcluster.s3 import S3Server
from localcluster.scratch_database import database_url, execute, scratch_database
from shared import topology, trace
from shared.bootstrap import Roles, service_url, set_up
from shared.contract import SERVICES, active, queue_name
from shared.events import Lane
from shared.migrate import upgrade_all

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY / ".." / "shared"
PASSWORD = secrets.token_hex(12)

_servers: LocalServers | None = None

# How long an example takes tells how busy the machine is, and nothing of the code.
hypothesis_settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("patient")

# A job that a shell started in the background ignores SIGINT, and so would every child that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Servers:
    rabbitmq_url: str
    database_admin_url: str
    rabbitmq_environment: dict[str, str] | None = None
    """For `rabbitmqctl`; None where the broker is a given one."""


@dataclass(frozen=True)
class Installation:
    """One database with all schemas and roles, and one set of empty queues."""

    rabbitmq_url: str
    admin_url: str
    roles: Roles
    folder: Path

    def database_url(self, service: str) -> str:
        return service_url(self.admin_url, self.roles, service, PASSWORD)


def _start_servers() -> LocalServers:
    global _servers  # noqa: PLW0603
    if _servers is None:
        _servers = LocalServers(postgres_settings={"fsync": "off", "synchronous_commit": "off"})
        _servers.__enter__()
    return _servers


@pytest.fixture(scope="session", autouse=True)
def plain_logs() -> None:
    """Log lines for people who read a failed test; structlog's own tracebacks take seconds each."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ]
    )


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Called by xdist's controller for each worker."""
    servers = _start_servers()
    if servers.rabbitmq is None and node.config.option.numprocesses > 1:
        raise pytest.UsageError("RABBITMQ_URL names one virtual host: use one worker (-n 1)")
    vhost_url = servers.rabbitmq.add_vhost(node.gateway.id) if servers.rabbitmq else servers.rabbitmq_url
    node.workerinput["rabbitmq_url"] = vhost_url
    node.workerinput["database_admin_url"] = servers.database_admin_url
    node.workerinput["rabbitmq_environment"] = _rabbitmq_environment(servers)


def _rabbitmq_environment(servers: LocalServers) -> dict[str, str] | None:
    return dict(servers.rabbitmq.command_environment) if servers.rabbitmq else None


def pytest_unconfigure(config: pytest.Config) -> None:
    if _servers is not None and not hasattr(config, "workerinput"):
        _servers.__exit__(None, None, None)


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest) -> Servers:
    given = getattr(request.config, "workerinput", None)
    if given is not None:
        return Servers(given["rabbitmq_url"], given["database_admin_url"], given["rabbitmq_environment"])
    started = _start_servers()
    return Servers(started.rabbitmq_url, started.database_admin_url, _rabbitmq_environment(started))


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """One S3 server for each worker, with short pages and small parts; tests make buckets of their own."""
    with scratch_folder() as folder:
        server = S3Server(folder / "s3", page_keys=50, least_part_bytes=10_000)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@dataclass(frozen=True)
class Postgres:
    """A server on which a test may make databases of its own."""

    admin_url: str


@pytest.fixture(scope="session")
def postgres(servers: Servers) -> Postgres:
    return Postgres(servers.database_admin_url)


@pytest.fixture(scope="session")
async def template(servers: Servers) -> AsyncIterator[tuple[str, Roles]]:
    """A database that has been bootstrapped and migrated, to be copied; its roles go with it."""
    async with scratch_database(servers.database_admin_url) as made:
        await set_up(made.admin_url, roles=made.roles, password=PASSWORD)
        await upgrade_all(made.admin_url, roles=made.roles)
        yield made.name, made.roles


@pytest.fixture(scope="session")
async def queues(servers: Servers) -> str:
    """The address of a virtual host in which the topology stands."""
    async with await aio_pika.connect(servers.rabbitmq_url) as connection:
        await topology.declare(await connection.channel())
    return servers.rabbitmq_url


async def _purge(url: str) -> None:
    names = [queue_name(s, spec.name, lane) for spec in active() for s in spec.consumers for lane in Lane]
    names += [topology.dead_queue_name(service) for service in SERVICES]
    names.append(topology.KEPT_WEBHOOKS)
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        declared = [await channel.get_queue(name, ensure=False) for name in names]
        await asyncio.gather(*(queue.purge() for queue in declared))


@pytest.fixture
async def installation(
    servers: Servers, template: tuple[str, Roles], queues: str, tmp_path: Path
) -> AsyncIterator[Installation]:
    trace.configure()
    source, roles = template
    name = f"db_{secrets.token_hex(6)}"
    await execute(servers.database_admin_url, f"CREATE DATABASE {name} TEMPLATE {source}")
    await _purge(queues)
    yield Installation(queues, database_url(servers.database_admin_url, name), roles, tmp_path)
    await execute(servers.database_admin_url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
