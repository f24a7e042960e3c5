"""What surrounds every request: body limit and pace, trace id, security and rate limit headers, log line and metric."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from http import HTTPStatus
from time import monotonic, perf_counter
from types import MappingProxyType

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.routes.limit_headers import limit_headers
from gateway.routes.limited import verdict_on
from gateway.routes.problems import NO_SUCH_PATH, problem
from gateway.workflow.uploads import BodyBroken
from shared import metrics
from shared.trace import current_trace_id

log = structlog.get_logger()

TRACE_HEADER = "X-Trace-Id"
BODY_WITHIN_S = 30.0
NOTHING_FOR_S = 15.0
PACE_GRACE_S = 30.0
LEAST_BYTES_PER_S = 8 * 1024
_SECURITY: Mapping[str, str] = MappingProxyType(
    {
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        "Cache-Control": "no-store",
    }
)
_HSTS = "max-age=31536000"


class Edge:
    """Adds headers to every answer, also to errors, and counts requests by route when their answer begins."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if "\x00" in scope["path"]:
            await _no_such_path(scope, receive, send)
            return
        began = perf_counter()
        scope.setdefault("state", {})  # routes may get a copy of the scope, and share this

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_limits_told(scope))
                _add_headers(headers, secure=scope["scheme"] == "https")
                # A number also where the route gave it a name.
                _note(scope, status=int(message["status"]), seconds=perf_counter() - began)
            await send(message)

        await self._app(scope, receive, send_with_headers)


async def _no_such_path(scope: Scope, receive: Receive, send: Send) -> None:
    """No id and no key holds U+0000; PostgreSQL's text cannot even be asked for it."""
    answer = problem(HTTPStatus.NOT_FOUND, code="not_found", detail=NO_SUCH_PATH)
    await answer(scope, receive, send)


def _limits_told(scope: Scope) -> dict[str, str]:
    verdict = verdict_on(scope)
    return limit_headers(verdict) if verdict else {}


def _add_headers(headers: MutableHeaders, *, secure: bool) -> None:
    for name, value in _SECURITY.items():
        headers.setdefault(name, value)
    if secure:
        headers.setdefault("Strict-Transport-Security", _HSTS)
    trace_id = current_trace_id()
    if trace_id:
        headers[TRACE_HEADER] = trace_id


def _note(scope: Scope, *, status: int, seconds: float) -> None:
    route = getattr(scope.get("route"), "path", "unmatched")
    metrics.http_requests.labels(route, scope["method"], str(status)).inc()
    log.info("request", method=scope["method"], route=route, status=status, ms=round(seconds * 1000, 1))


class BodyLimit:
    """Refuses bodies that are too long, by their announced length or while they arrive, or that take too long."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_bytes: int,
        within_s: float = BODY_WITHIN_S,
        is_bounded_elsewhere: Callable[[Scope], bool] = lambda _: False,
    ) -> None:
        """`is_bounded_elsewhere` names requests whose route reads the body piece by piece, with bounds of its own."""
        self._app = app
        self._is_bounded_elsewhere = is_bounded_elsewhere
        self._max_bytes = max_bytes
        self._within_s = within_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._is_bounded_elsewhere(scope):
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        if not announced.isdigit() or int(announced) > self._max_bytes:
            await self._refusal()(scope, receive, send)
            return
        await self._app(scope, self._limited(receive), send)

    def _limited(self, receive: Receive) -> Receive:
        received, whole, deadline = 0, False, monotonic() + self._within_s

        async def limited() -> Message:
            nonlocal received, whole
            message = await (receive() if whole else self._in_time(receive, deadline))
            received += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if received > self._max_bytes:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._text())
            return message

        return limited

    async def _in_time(self, receive: Receive, deadline: float) -> Message:
        try:
            async with asyncio.timeout(deadline - monotonic()):
                return await receive()
        except TimeoutError as error:
            detail = f"The body did not arrive within {self._within_s:g} seconds"
            raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, detail, {"Connection": "close"}) from error

    def _text(self) -> str:
        return f"The body is longer than {self._max_bytes} bytes"

    def _refusal(self) -> ASGIApp:
        return problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, code="body_too_large", detail=self._text())


async def paced(
    stream: AsyncGenerator[bytes], *, now_s: Callable[[], float] = monotonic
) -> AsyncIterator[bytes]:
    """The body as it comes. Raises BodyBroken when it breaks off, nothing comes for long, or it only drips.

    Time that we take to store what came does not count: a writer's place is not to be had for a byte now and then.
    """
    received_bytes, waited_s, began_s = 0, 0.0, now_s()
    while (chunk := await _next(stream)) is not None:
        received_bytes += len(chunk)
        waited_s += now_s() - began_s
        if received_bytes < (waited_s - PACE_GRACE_S) * LEAST_BYTES_PER_S:
            raise BodyBroken(f"only {received_bytes} bytes came in {waited_s:.0f} s")
        yield chunk
        began_s = now_s()


async def _next(stream: AsyncGenerator[bytes]) -> bytes | None:
    try:
        async with asyncio.timeout(NOTHING_FOR_S):
            return await anext(stream, None)
    except ClientDisconnect as error:
        raise BodyBroken("the connection broke") from error
    except TimeoutError as error:
        raise BodyBroken(f"nothing came for {NOTHING_FOR_S:g} s") from error
