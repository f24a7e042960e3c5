"""Lets pages of any origin read what a signed link opens: players run on the customers' own pages.

The link is the permission, and no cookie is ever looked at; so this holds whatever `ALLOWED_ORIGINS` says.
"""

import re
from http import HTTPStatus

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SIGNED_PATH = re.compile(r"/objects/.+|(/[a-z0-9]+)+/highlights/[^/]+/playlist\.m3u8")
_EXPOSED = "Accept-Ranges, Content-Length, Content-Range, ETag, X-Trace-Id, Retry-After"
_PREFLIGHT = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    "Access-Control-Allow-Headers": "Range, If-None-Match, If-Range, If-Modified-Since, traceparent",
    "Access-Control-Max-Age": "600",
}


class AnyOrigin:
    """Stands before the middleware for the other routes, which never sees the origin of these requests."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _SIGNED_PATH.fullmatch(scope["path"]):
            await self._app(scope, receive, send)
            return
        if scope["method"] == "OPTIONS":
            await Response(status_code=HTTPStatus.NO_CONTENT, headers=_PREFLIGHT)(scope, receive, send)
            return

        async def send_readable(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Access-Control-Allow-Origin"] = "*"
                headers["Access-Control-Expose-Headers"] = _EXPOSED
            await send(message)

        # In place, for what is around us reads the route from this very scope.
        scope["headers"] = [(name, value) for name, value in scope["headers"] if name != b"origin"]
        await self._app(scope, receive, send_readable)
