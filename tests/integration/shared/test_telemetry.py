"""Telemetry on its way out: what a collector and Sentry receive, and that neither can hurt a service."""

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

import aio_pika
import asyncpg
import pytest
import structlog

from shared import logs, telemetry, trace
from shared.contract import routing_key
from shared.errors import PermanentError, RetryableError
from shared.events import Source, StreamOnline
from shared.ids import event_id
from shared.keyring import generate_key
from shared.settings import ServiceSettings
from shared.telemetry import STOP_S
from tests.builders import NOW, ORGANIZATION, STREAM
from tests.conftest import REPOSITORY, Installation
from tests.fakes.shared.telemetry_collectors import OtlpCollector, SentryDouble, silent_server

CANARY = "canary-7c1e"
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


@asynccontextmanager
async def selector(installation: Installation, **changes: str) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {
        **{key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ},
        "PYTHONPATH": f"{REPOSITORY / 'services'}:{REPOSITORY / 'libs'}",
        "DATABASE_URL": installation.database_url("selector"),
        "RABBITMQ_URL": installation.rabbitmq_url,
        "OPS_PORT": "0",
        "OBJECT_STORE_FOLDER": str(installation.folder / "objects"),
        "URL_SIGNING_SECRET": "s" * 32,
        "SECRETS_KEYRING": generate_key(),
        **changes,
    }
    with (installation.folder / "selector.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "selector"),
            env=environment,
            cwd=installation.folder,
            stdout=log,
            stderr=log,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def handle_one(installation: Installation) -> None:
    """Publish `stream.online` under the trace, and wait until the service has handled it."""
    event = StreamOnline(
        event_id=event_id(STREAM, StreamOnline.name, 0),
        organization_id=ORGANIZATION,
        stream_id=STREAM,
        occurred_at=NOW,
        source=Source(sealed_url=CANARY, display_url="x"),
        profile_key="profiles/0.json",
    )
    async with await aio_pika.connect(installation.rabbitmq_url) as connection:
        exchange = await (await connection.channel()).get_exchange("tldr.events", ensure=False)
        message = aio_pika.Message(
            event.model_dump_json().encode(), headers={"traceparent": TRACEPARENT, "x": CANARY}
        )
        await exchange.publish(message, routing_key(event.name, event.lane))
    database = await asyncpg.connect(installation.admin_url)
    try:
        async with asyncio.timeout(60):
            while not await database.fetchval("SELECT count(*) FROM selector.runs"):
                await asyncio.sleep(0.05)
    finally:
        await database.close()


async def end(process: asyncio.subprocess.Process) -> float:
    """Seconds that the process takes to end in order."""
    began = monotonic()
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(60):
        assert 0 == await process.wait()
    return monotonic() - began


async def test_what_was_recorded_last_leaves_before_the_process_does(installation: Installation) -> None:
    async with (
        OtlpCollector() as collector,
        selector(
            installation,
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.base_url,
            OTEL_EXPORTER_OTLP_HEADERS="Authorization=Bearer%20abc",
        ) as process,
    ):
        await handle_one(installation)
        await end(process)
        received = list(collector.received)
    assert {"Bearer abc"} == {each.headers["authorization"] for each in received}
    assert ("tldr-selector", "tldr-highlight-api") == (
        received[0].resource["service.name"],
        received[0].resource["service.namespace"],
    )
    [span] = [span for each in received for span in each.spans if span.name == "process stream.online"]
    attributes = {each.key: each.value.string_value for each in span.attributes}
    assert (TRACE_ID, "00f067aa0ba902b7") == (span.trace_id.hex(), span.parent_span_id.hex())
    assert (ORGANIZATION, STREAM, "done") == (
        attributes["tldr.organization_id"],
        attributes["tldr.stream_id"],
        attributes["tldr.outcome"],
    )
    assert "selector" == attributes["messaging.consumer.group.name"]
    assert CANARY not in "".join(str(each.message) for each in received)


@pytest.mark.parametrize("kind", ["away", "silent"])
async def test_a_collector_that_is_away_or_silent_hurts_nobody(installation: Installation, kind: str) -> None:
    async with silent_server() as silent:
        url = silent if kind == "silent" else "http://127.0.0.1:1"
        async with selector(
            installation, OTEL_EXPORTER_OTLP_ENDPOINT=url, SENTRY_DSN=url.replace("//", "//key@") + "/1"
        ) as process:
            await handle_one(installation)
            took_s = await end(process)
    lines = (installation.folder / "selector.log").read_text().splitlines()
    assert took_s < STOP_S + 12
    assert len([line for line in lines if "spans_not_exported" in line]) <= 1
    assert all("level" in json.loads(line) for line in lines)


@pytest.fixture
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, configured = root.handlers[:], root.level, structlog.get_config()
    yield
    root.handlers[:], root.level = handlers, level
    structlog.configure(**configured)
    structlog.contextvars.clear_contextvars()


def started(dsn: str) -> telemetry.Telemetry:
    settings = ServiceSettings.model_validate(
        {
            "database_url": "postgresql://u:p@h/d",
            "rabbitmq_url": "amqp://u:p@h/v",
            "ops_port": "0",
            "object_store_folder": "/objects",
            "url_signing_secret": "s" * 32,
            "secrets_keyring": "k",
            "sentry_dsn": dsn,
            "sentry_environment": "staging",
        }
    )
    return telemetry.start("clipper", settings)


def _break(headers: dict[str, str]) -> None:
    url = f"https://user:{CANARY}@example.com/x?signature={CANARY}"
    body = CANARY.encode()
    try:
        raise KeyError(CANARY, headers)
    except KeyError as error:
        raise ValueError(f"bad address {url} {body!r}") from error


@pytest.mark.usefixtures("restored_logging")
async def test_sentry_learns_kind_stack_and_ids_of_an_unexpected_error_and_nothing_secret() -> None:
    async with SentryDouble() as sentry:
        sending = started(sentry.dsn)
        logs.configure("clipper", report=sending.report)
        with trace.span("work"), logs.bound(stream_id="str_1", organization_id="org_1"):
            trace_id = trace.current_trace_id()
            try:
                _break({"X-API-Key": CANARY})
            except ValueError as error:
                log = structlog.get_logger()
                log.error("unexpected_error", event_name="clip.ready", url=CANARY, exc_info=error)
                log.error("told_again_further_up", exc_info=error)
        await asyncio.to_thread(sending.stop, within_s=20)
        [event] = sentry.events
        raw = b"".join(sentry.bodies)
    assert ["KeyError", "ValueError"] == [each["type"] for each in event["exception"]["values"]]
    assert "_break" == event["exception"]["values"][-1]["stacktrace"]["frames"][-1]["function"]
    assert {
        "service": "clipper",
        "organization_id": "org_1",
        "stream_id": "str_1",
        "event_name": "clip.ready",
        "event": "unexpected_error",
        "trace_id": trace_id,
    } == event["tags"]
    assert (trace_id, "staging") == (event["contexts"]["trace"]["trace_id"], event["environment"])
    assert CANARY.encode() not in raw


@pytest.mark.usefixtures("restored_logging")
async def test_sentry_hears_of_the_standard_librarys_errors_but_not_of_those_that_are_foreseen() -> None:
    async with SentryDouble() as sentry:
        sending = started(sentry.dsn)
        logs.configure("clipper", report=sending.report)
        for error in (RetryableError("away"), PermanentError("wrong")):
            structlog.get_logger().error("parked", exc_info=error)
        structlog.get_logger().error("without_an_error")
        logging.getLogger("asyncio").error("task", exc_info=ZeroDivisionError("of a task"))
        await asyncio.to_thread(sending.stop, within_s=20)
        found = [each["exception"]["values"][0]["type"] for each in sentry.events]
    assert ["ZeroDivisionError"] == found


BUGGY = """
import asyncio
from contextlib import asynccontextmanager
from shared.foundation import foundation
from shared.loops import Loop
from shared.runtime import Application, run
from shared.settings import ServiceSettings

async def turn():
    print("turned", flush=True)
    raise ZeroDivisionError("a bug")

@asynccontextmanager
async def build(settings):
    async with foundation("selector", settings) as base:
        yield Application(base, ops_host="127.0.0.1", ops_port=0, loops=(Loop("buggy", turn, pause_s=60),))

run("selector", ServiceSettings, build)
"""


async def test_a_bug_reaches_sentry_before_the_process_ends(tmp_path: Path) -> None:
    async with SentryDouble() as sentry:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", BUGGY),
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": f"{REPOSITORY / 'services'}:{REPOSITORY / 'libs'}",
                "DATABASE_URL": "postgresql://u:p@127.0.0.1:1/none",
                "RABBITMQ_URL": "amqp://u:p@127.0.0.1:1/none",
                "OPS_PORT": "0",
                "OBJECT_STORE_FOLDER": str(tmp_path),
                "URL_SIGNING_SECRET": "s" * 32,
                "SECRETS_KEYRING": generate_key(),
                "SENTRY_DSN": sentry.dsn,
            },
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        async with asyncio.timeout(60):
            while b"turned" not in await process.stdout.readline():
                pass
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            await process.communicate()
        tags = [event["tags"] for event in sentry.events]
    assert 0 == process.returncode
    assert ("selector", "buggy", "loop_failed") == (tags[0]["service"], tags[0]["loop"], tags[0]["event"])
    assert {"loop_failed"} == {each["event"] for each in tags}
