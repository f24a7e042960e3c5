"""A small HTTP server on a free port, on which origins and receiver stand; what they serve is theirs."""

import inspect
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from aiohttp import web

Clock = Callable[[], datetime]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
FaultOutcome = web.StreamResponse | Awaitable[web.StreamResponse | None] | None
Fault = Callable[[web.Request], FaultOutcome]


def utc_now() -> datetime:
    """Return the wall clock (aware UTC)."""
    return datetime.now(UTC)


class HttpServer:
    """Hands every request to `answer`; an async context manager, listening on `port` (0: any free one)."""

    def __init__(self, *, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._runner: web.AppRunner | None = None

    @property
    def base_url(self) -> str:
        """`http://host:port` without a slash at the end; raises RuntimeError before `start`."""
        if self._runner is None:
            raise RuntimeError("the server has not been started")
        return f"http://{self._host}:{self._port}"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request; subclasses say how."""
        raise web.HTTPNotFound

    async def start(self) -> None:
        """Listen; raises OSError if the port is taken."""
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self.answer)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        await web.TCPSite(runner, self._host, self._port).start()
        self._runner = runner
        self._port = runner.addresses[0][1]

    async def close(self) -> None:
        """Stop listening and drop open connections."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


@dataclass(frozen=True)
class OriginRequest:
    """One request as the origin answered it; `path` without the query, `fault` what was done to the answer."""

    at: datetime
    path: str
    status: int
    fault: str = ""


class RecordingOrigin(HttpServer):
    """Keeps every request in `requests` and lets `faults` answer in the origin's place.

    `faults` maps a regular expression, searched in the path, to a callable that returns the response to
    send instead, or None to let the origin answer (it may be a coroutine function, for delays).
    """

    def __init__(self, *, host: str, port: int, clock: Clock) -> None:
        super().__init__(host=host, port=port)
        self.requests: list[OriginRequest] = []
        self.faults: dict[str, Fault] = {}
        self._clock = clock

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer from `faults` or from the media, and record it."""
        try:
            response = await self._faulty(request)
            if response is None:
                response = await self.serve(request)
        except web.HTTPException as refusal:
            self._record(request, status=refusal.status)
            raise
        self._record(request, status=response.status)
        return response

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer from the media; raises web.HTTPNotFound for what is not there (or no longer)."""
        raise web.HTTPNotFound

    async def _faulty(self, request: web.Request) -> web.StreamResponse | None:
        for pattern, fault in tuple(self.faults.items()):
            if re.search(pattern, request.path):
                outcome = fault(request)
                response = await outcome if inspect.isawaitable(outcome) else outcome
                if response is not None:
                    return response
        return None

    def _record(self, request: web.Request, *, status: int, fault: str = "") -> None:
        self.requests.append(OriginRequest(at=self._clock(), path=request.path, status=status, fault=fault))
