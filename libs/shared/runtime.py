"""The one `serve` that all services run: health, supervised loops, consumers, and a graceful end.

A loop's turn may fail in any way: it is logged, counted and tried again; readiness tells when it keeps failing.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TypeVar

import structlog
import uvloop
from faststream.rabbit import RabbitBroker
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from shared import logs, metrics, telemetry
from shared.cancellation import is_meant_for_us
from shared.errors import PipelineError
from shared.foundation import Foundation
from shared.http_server import HttpServer
from shared.loops import Loop
from shared.settings import ServiceSettings, load

log = structlog.get_logger()

FAILING_AFTER_TURNS = 3
SILENT_AFTER_S = 60.0
MAX_BACKOFF_S = 5.0
CHECK_TIMEOUT_S = 2.0
LEAVE_S = 5.0


@dataclass(frozen=True)
class Api:
    """A public HTTP face: only the gateway has one."""

    app: ASGIApp
    host: str
    port: int
    trusted_proxies: tuple[str, ...] = ()


@dataclass(frozen=True)
class Application:
    """A service, put together by its composition root and not yet started.

    `on_stop` ends what the service's loops have started; what it writes still leaves with the last publish.
    """

    foundation: Foundation
    ops_host: str
    ops_port: int
    loops: tuple[Loop, ...] = ()
    api: Api | None = None
    on_stop: Callable[[], Awaitable[None]] | None = None


@dataclass
class LoopHealth:
    """How a loop fares; the supervisor writes it, readiness reads it."""

    failures: int = 0
    succeeded_at: float = 0.0
    last_error: str = ""
    pause_s: float = 0.0

    def fault(self, now: float) -> str | None:
        if self.failures >= FAILING_AFTER_TURNS:
            return f"failing: {self.last_error}"
        if now - self.succeeded_at > self.pause_s + SILENT_AFTER_S:
            return "no turn has ended for a minute"
        return None


class Supervisor:
    """Runs loops until they are cancelled."""

    def __init__(self, service: str) -> None:
        self._service = service
        self.health: dict[str, LoopHealth] = {}

    async def run(self, loop: Loop) -> None:
        health = self.health.setdefault(loop.name, LoopHealth(succeeded_at=monotonic(), pause_s=loop.pause_s))
        while True:
            more = await self._turn(loop, health)
            pause_s = loop.pause_s if not health.failures else self._backoff_s(loop, health)
            if not more:
                await _wait(pause_s, None if health.failures else loop.wake)

    async def _turn(self, loop: Loop, health: LoopHealth) -> bool:
        try:
            more = await loop.turn()
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and is_meant_for_us():
                raise
            self._note_failure(loop, health, error)
            return False
        health.failures, health.succeeded_at = 0, monotonic()
        return more

    def _note_failure(self, loop: Loop, health: LoopHealth, error: BaseException) -> None:
        health.failures += 1
        health.last_error = f"{type(error).__name__}: {error}"
        known = isinstance(error, PipelineError)
        code = error.code if isinstance(error, PipelineError) else type(error).__name__
        metrics.loop_failures.labels(self._service, loop.name, code).inc()
        write = log.warning if known else log.error
        write("loop_failed", loop=loop.name, reason=health.last_error, exc_info=None if known else error)

    def _backoff_s(self, loop: Loop, health: LoopHealth) -> float:
        return max(min(0.1 * 2.0**health.failures, MAX_BACKOFF_S), min(loop.pause_s, 1.0))


async def _wait(pause_s: float, wake: asyncio.Event | None) -> None:
    if wake is None:
        await asyncio.sleep(pause_s)
        return
    # Python 3.11's wait_for loses a cancellation that comes together with the wake-up; the loop would never end.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(pause_s):
            await wake.wait()


class Readiness:
    """Whether the service can do its work now, and what stands in the way."""

    def __init__(self, foundation: Foundation, supervisor: Supervisor) -> None:
        self._foundation = foundation
        self._supervisor = supervisor
        self.consuming = False
        self.stopping = False

    async def faults(self) -> dict[str, str]:
        found: dict[str, str] = {}
        if self.stopping:
            found["service"] = "stopping"
        if not self.consuming:
            found["consumers"] = "not started"
        found |= await self._outside()
        now = monotonic()
        for name, health in self._supervisor.health.items():
            fault = health.fault(now)
            if fault:
                found[name] = fault
        metrics.ready.labels(self._foundation.service).set(0 if found else 1)
        return found

    async def _outside(self) -> dict[str, str]:
        found = {}
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                await self._foundation.database.ping()
        except (PipelineError, TimeoutError) as error:
            found["database"] = str(error) or "does not answer"
        for name, broker in (
            ("consume", self._foundation.consuming),
            ("publish", self._foundation.publishing),
        ):
            if not await broker.ping(timeout=CHECK_TIMEOUT_S):
                found[f"broker_{name}"] = "not connected"
        return found


def _ops_app(readiness: Readiness) -> Starlette:
    async def healthz(_request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(_request: Request) -> Response:
        faults = await readiness.faults()
        body = {"status": "ready"} if not faults else {"status": "not ready", "faults": faults}
        return JSONResponse(body, status_code=503 if faults else 200)

    async def metrics_text(_request: Request) -> Response:
        return PlainTextResponse(metrics.exposition(), media_type="text/plain; version=0.0.4")

    return Starlette(
        routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics_text)]
    )


@dataclass(frozen=True)
class Running:
    """A started service: where it answers."""

    application: Application
    readiness: Readiness
    ops_port: int
    api_port: int | None


@asynccontextmanager
async def running(application: Application) -> AsyncIterator[Running]:
    """Start everything; at the end of the block stop intake, let work finish, then stop the rest."""
    base = application.foundation
    supervisor = Supervisor(base.service)
    readiness = Readiness(base, supervisor)
    ops = HttpServer(_ops_app(readiness), host=application.ops_host, port=application.ops_port)
    await ops.start()
    api = await _start_api(application)
    base.consumer.rescue_dead_letters()
    starting = asyncio.create_task(_start_consuming(base, readiness), name="start consuming")
    tasks = {
        loop.name: asyncio.create_task(supervisor.run(loop), name=loop.name)
        for loop in (*base.loops, *application.loops)
    }
    try:
        yield Running(application, readiness, ops.port, api.port if api else None)
    finally:
        readiness.stopping = True
        await _stop(application, api=api, starting=starting, tasks=tasks)
        await ops.stop()


async def _start_api(application: Application) -> HttpServer | None:
    if application.api is None:
        return None
    api = application.api
    server = HttpServer(api.app, host=api.host, port=api.port, forwarded_allow_ips=api.trusted_proxies)
    await server.start()
    return server


async def _start_consuming(base: Foundation, readiness: Readiness) -> None:
    """Connect when the broker can be had; until then the service stands, and says that it is not ready."""
    while not readiness.consuming:
        try:
            await base.publishing.start()
            await base.epoch.ensure()
            await base.consuming.start()
        except Exception as error:
            log.warning("broker_away", reason=f"{type(error).__name__}: {error}")
            # Those that did start would be started once more with the others, and take twice as many messages.
            await _disconnect(base.consuming, within_s=LEAVE_S)
            await asyncio.sleep(1)
        else:
            readiness.consuming = True
            log.info("consuming", service=base.service)


async def _stop(
    application: Application,
    *,
    api: HttpServer | None,
    starting: "asyncio.Task[None]",
    tasks: "dict[str, asyncio.Task[None]]",
) -> None:
    base = application.foundation
    if api is not None:
        await api.stop()
    # Without its loop the sweeper takes up nothing of what is given back from here on.
    await _end([starting, tasks["sweeper"], *(tasks[loop.name] for loop in application.loops)])
    if application.on_stop is not None:
        await application.on_stop()
    await asyncio.gather(base.sweeper.stop(grace_s=base.graceful_timeout_s), _stop_consuming(base))
    await _last_publish(base)
    await _end(tasks.values())
    await _disconnect(base.publishing, within_s=LEAVE_S)


async def _stop_consuming(base: Foundation) -> None:
    await _disconnect(base.consuming, within_s=base.graceful_timeout_s + LEAVE_S)
    await base.consumer.cut_short()


async def _disconnect(broker: RabbitBroker, *, within_s: float) -> None:
    """Leave the broker; one that is away or does not answer keeps nobody from ending."""
    try:
        async with asyncio.timeout(within_s):
            await broker.stop()
    except Exception as error:
        log.warning("broker_not_left_in_order", reason=f"{type(error).__name__}: {error}")
    else:
        return
    with contextlib.suppress(Exception):
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            await (await broker.connect()).close()


async def _end(tasks: "Iterable[asyncio.Task[None]]") -> None:
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)


async def _last_publish(base: Foundation) -> None:
    """One more turn of the relay, so that what the last handlers wrote leaves with them where it can."""
    relay = next(loop for loop in base.loops if loop.name == "relay")
    try:
        async with asyncio.timeout(5):
            while await relay.turn():
                pass
    except Exception as error:
        log.warning("outbox_left_for_later", reason=f"{type(error).__name__}: {error}")


SettingsT = TypeVar("SettingsT", bound=ServiceSettings)
Build = Callable[[SettingsT], AbstractAsyncContextManager[Application]]


def run(service: str, model: type[SettingsT], build: Build[SettingsT]) -> None:
    """The body of every `__main__`: settings, telemetry, logs, then serve until SIGTERM or SIGINT."""
    settings = load(model)
    sending = telemetry.start(service, settings)
    logs.configure(
        service, debug=settings.debug, as_json=settings.log_format == "json", report=sending.report
    )
    try:
        uvloop.run(_serve(service, settings, build))
    finally:
        sending.stop()
        sys.stdout.flush()


async def _serve(service: str, settings: SettingsT, build: Build[SettingsT]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with build(settings) as application, running(application) as started:
        log.info("started", service=service, ops_port=started.ops_port, api_port=started.api_port)
        await stop.wait()
        log.info("stopping", service=service)
    log.info("stopped", service=service)
