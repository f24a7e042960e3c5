"""How a fault answers a request in the place of the right body: statuses, resets, drips, redirects.

Which fault strikes when is told by `sandbox.faults_timeline` and the script; nothing of that is known here.
"""

import asyncio
import random
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from sandbox.faults import (
    AnswerFault,
    Corrupt,
    Delay,
    Drip,
    EmptyBody,
    Endless,
    Garbage,
    Html,
    Redirect,
    Reset,
    Status,
    Truncate,
)
from sandbox.faults_media import corrupted

PAGE: Final = (
    "<!DOCTYPE html>\n<html><head><title>Sorry</title></head><body>Please try again.</body></html>\n"
)
HOP: Final = "hop"
LEFT: Final = 499
DRIP_STEP_S: Final = 0.25
ENDLESS_CHUNK: Final = b"\x00" * 65_536
_LINGER_NOTHING: Final = struct.pack("ii", 1, 0)


@dataclass(frozen=True, kw_only=True)
class RightAnswer:
    """What the origin would have sent."""

    body: bytes
    content_type: str
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()

    def response(self, body: bytes | None = None) -> web.Response:
        response = web.Response(
            body=self.body if body is None else body, status=self.status, content_type=self.content_type
        )
        response.headers.update(self.headers)
        return response


async def answer_with(
    fault: AnswerFault, request: web.Request, right: RightAnswer, *, draw: random.Random
) -> web.StreamResponse:
    """The answer of `fault`; the response may be sent, or broken off, by now. Who left hears no more of it."""
    try:
        return await _ANSWERS[type(fault)](fault, request, right, draw)
    except ConnectionError:
        return web.Response(status=LEFT)


async def _status(fault: Any, _: web.Request, __: RightAnswer, ___: random.Random) -> web.StreamResponse:
    headers = {} if fault.retry_after_s is None else {"Retry-After": str(fault.retry_after_s)}
    return web.Response(status=fault.code, text=f"{fault.code}\n", headers=headers)


async def _delay(fault: Any, _: web.Request, right: RightAnswer, __: random.Random) -> web.StreamResponse:
    await asyncio.sleep(fault.delay_s)
    return right.response()


async def _reset(
    fault: Any, request: web.Request, right: RightAnswer, _: random.Random
) -> web.StreamResponse:
    response = await _begun(request, right, length=len(right.body))
    if fault.after_bytes:
        await response.write(right.body[: fault.after_bytes])
    transport = request.transport
    if transport is not None:
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOTHING)
        transport.abort()
    return response


async def _truncate(
    fault: Any, request: web.Request, right: RightAnswer, _: random.Random
) -> web.StreamResponse:
    short = right.body[: int(len(right.body) * fault.keep)]
    if not fault.announce:
        return right.response(short)
    response = await _begun(request, right, length=len(right.body))
    await response.write(short)
    if request.transport is not None:
        request.transport.close()
    return response


async def _corrupt(fault: Any, _: web.Request, right: RightAnswer, draw: random.Random) -> web.StreamResponse:
    return right.response(corrupted(right.body, flips=fault.flips, draw=draw))


async def _garbage(fault: Any, _: web.Request, right: RightAnswer, draw: random.Random) -> web.StreamResponse:
    return right.response(b"\x00" + draw.randbytes(fault.size_bytes - 1))


async def _html(_: Any, __: web.Request, ___: RightAnswer, ____: random.Random) -> web.StreamResponse:
    return web.Response(text=PAGE, content_type="text/html")


async def _empty(_: Any, __: web.Request, right: RightAnswer, ___: random.Random) -> web.StreamResponse:
    return right.response(b"")


async def _redirect(
    fault: Any, request: web.Request, right: RightAnswer, _: random.Random
) -> web.StreamResponse:
    if HOP in request.query and not fault.loop:
        return right.response()
    onward = fault.to or str(request.rel_url.update_query({HOP: "1"}))
    return web.Response(status=fault.code, headers={"Location": onward})


async def _drip(fault: Any, request: web.Request, right: RightAnswer, _: random.Random) -> web.StreamResponse:
    response = await _begun(request, right, length=len(right.body))
    step = max(1, round(fault.bytes_per_s * DRIP_STEP_S))
    for at in range(0, len(right.body), step):
        await response.write(right.body[at : at + step])
        await asyncio.sleep(DRIP_STEP_S)
    return response


async def _endless(_: Any, request: web.Request, right: RightAnswer, __: random.Random) -> web.StreamResponse:
    response = await _begun(request, right, length=None)
    await response.write(right.body)
    while True:
        await response.write(ENDLESS_CHUNK)


async def _begun(request: web.Request, right: RightAnswer, *, length: int | None) -> web.StreamResponse:
    response = web.StreamResponse(status=right.status, headers=dict(right.headers))
    response.content_type = right.content_type
    response.content_length = length
    await response.prepare(request)
    return response


_Answer = Callable[[Any, web.Request, RightAnswer, random.Random], Awaitable[web.StreamResponse]]
_ANSWERS: Final[dict[type[AnswerFault], _Answer]] = {
    Status: _status,
    Delay: _delay,
    Reset: _reset,
    Truncate: _truncate,
    Corrupt: _corrupt,
    Garbage: _garbage,
    Html: _html,
    EmptyBody: _empty,
    Redirect: _redirect,
    Drip: _drip,
    Endless: _endless,
}
