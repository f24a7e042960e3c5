"""A small HTTP server on a free port, on which origin and receiver stand; what they serve is theirs."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from aiohttp import web

Clock = Callable[[], datetime]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


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
