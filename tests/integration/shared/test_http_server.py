"""What the HTTP server takes from anybody who can connect, before any route sees it."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from shared.http_server import MAX_HEAD_BYTES, HttpServer

READ = 256 * 1024  # no event loop takes more from a socket at once
ENDLESS = 20_000_000


async def _length(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"{len(await request.body())} bytes")


@pytest.fixture
async def port() -> AsyncIterator[int]:
    app = Starlette(routes=[Route("/", _length, methods=["GET", "POST"])])
    server = HttpServer(app, host="127.0.0.1", port=0)
    await server.start()
    yield server.port
    await server.stop()


async def send(port: int, *parts: bytes) -> tuple[int, bytes]:
    """How much was taken of the parts, and what came back until the server closed the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    taken, answer = 0, b""
    with suppress(ConnectionError):
        for part in parts:
            for start in range(0, len(part), READ):
                writer.write(part[start : start + READ])
                await writer.drain()
                taken += len(part[start : start + READ])
    with suppress(ConnectionError):
        answer = await asyncio.wait_for(reader.read(), timeout=20)
    writer.close()
    return taken, answer


def statuses(answer: bytes) -> list[bytes]:
    return re.findall(rb"HTTP/1.1 (\d+) ", answer)


@pytest.mark.parametrize(
    "endless",
    [b"X-Long: " + b"a" * ENDLESS, b"".join(b"X-%d: a\r\n" % n for n in range(ENDLESS // 10))],
    ids=["one header", "many headers"],
)
async def test_headers_without_an_end_are_refused_before_they_fill_the_memory(
    port: int, endless: bytes
) -> None:
    taken, answer = await send(port, b"GET / HTTP/1.1\r\nHost: x\r\n", endless)

    assert taken < ENDLESS / 2
    assert statuses(answer) in ([b"431"], [])  # none where the close overtook it


async def test_an_address_without_an_end_is_refused_too(port: int) -> None:
    taken, _ = await send(port, b"GET /" + b"a" * ENDLESS)

    assert taken < ENDLESS / 2


async def test_headers_after_a_body_may_not_go_on_for_ever_either(port: int) -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"

    taken, _ = await send(port, head, b"X-Long: " + b"a" * ENDLESS)

    assert taken < ENDLESS / 2


async def test_long_headers_pass_up_to_the_limit(port: int) -> None:
    request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Long: %s\r\n\r\n"

    _, answer = await send(port, request % (b"a" * (MAX_HEAD_BYTES - len(request))))

    assert [b"200"] == statuses(answer)


async def test_a_long_body_is_no_header(port: int) -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % ENDLESS

    _, answer = await send(port, head, b"a" * ENDLESS)

    assert answer.endswith(b"%d bytes" % ENDLESS)


async def test_each_request_of_a_connection_has_its_own_headers(port: int) -> None:
    request = b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: %s\r\n\r\n" % (b"a" * (MAX_HEAD_BYTES // 2))
    last = request.replace(b"Host: x", b"Host: x\r\nConnection: close")

    _, answer = await send(port, *([request] * 5), last)

    assert [b"200"] * 6 == statuses(answer)
