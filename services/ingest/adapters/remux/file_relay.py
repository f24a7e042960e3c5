"""Serves one file to FFmpeg over HTTP, on a socket that nothing else reaches; remembers why serving failed."""

import re
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Final

import structlog
from aiohttp import web

from ingest.adapters.remux.file_bytes import FileBytes
from ingest.domain.actions import FailureKind, FetchFailure
from ingest.domain.remux_plan import ENCRYPTED_MARK
from ingest.workflow.ports import FetchFailed

log = structlog.get_logger()

_RANGE: Final = re.compile(r"bytes=(\d{1,15})-")
_SHUTDOWN_S: Final = 0.1
ENCRYPTED: Final = "it is encrypted (DRM), and only the rights holder's players can read it"


class FileRelay:
    """`failure` is what ended an answer before its time; FFmpeg takes that for the end of the file.

    `served_bytes` grows with what FFmpeg has taken.
    """

    def __init__(self, file: FileBytes) -> None:
        self._file = file
        self.path = f"/{secrets.token_hex(16)}"
        self.failure: FetchFailure | None = None
        self.served_bytes = 0

    @asynccontextmanager
    async def serve(self, made: socket.socket) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_get(self.path, self._answer)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=_SHUTDOWN_S)
        await runner.setup()
        await web.SockSite(runner, made).start()
        try:
            yield
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        asked = _RANGE.match(request.headers.get("Range", ""))
        offset = int(asked[1]) if asked and self._file.is_seekable else 0
        size_bytes = self._file.size_bytes
        if size_bytes is not None and offset >= size_bytes:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{size_bytes}"})
        answer = self._head(offset, is_part=asked is not None)
        await answer.prepare(request)
        await self._send(request, answer, offset)
        return answer

    def _head(self, offset: int, *, is_part: bool) -> web.StreamResponse:
        size_bytes = self._file.size_bytes
        if size_bytes is None:
            return web.StreamResponse(status=200)
        answer = web.StreamResponse(status=206 if is_part else 200, headers={"Accept-Ranges": "bytes"})
        answer.content_length = size_bytes - offset
        if is_part:
            answer.headers["Content-Range"] = f"bytes {offset}-{size_bytes - 1}/{size_bytes}"
        return answer

    async def _send(self, request: web.Request, answer: web.StreamResponse, offset: int) -> None:
        try:
            async with aclosing(self._file.read(offset)) as chunks:
                async for chunk in chunks:
                    _check_clear(chunk)
                    await answer.write(chunk)
                    self.served_bytes += len(chunk)
            await answer.write_eof()
        except FetchFailed as failed:
            log.info("file_not_readable", failure=failed.failure.label, detail=failed.failure.detail)
            self.failure = failed.failure
            if request.transport is not None:
                request.transport.abort()
        except ConnectionError:
            return  # FFmpeg went on to another place of the file


def _check_clear(chunk: bytes) -> None:
    if ENCRYPTED_MARK in chunk:
        raise FetchFailed(FetchFailure(kind=FailureKind.REFUSED, detail=ENCRYPTED))
