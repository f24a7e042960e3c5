"""Stands between the product and an S3 server, hands calls on, and goes wrong as it is told."""

import asyncio
import hashlib
from base64 import b64encode
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web
from aiohttp.test_utils import unused_port
from multidict import CIMultiDict
from yarl import URL

Respond = Callable[["Front", web.Request], Awaitable[web.StreamResponse]]
PASSED_ON = ("Content-Type", "Content-Length", "Content-Range", "ETag", "Last-Modified", "x-amz-meta-sha256")


@dataclass
class Front:
    """`wrong` holds what happens to the next calls, by kind of call; None hands one on as it comes."""

    target: str
    session: aiohttp.ClientSession
    url: str = ""
    calls: list[str] = field(default_factory=list)
    wrong: dict[str, deque[Respond | None]] = field(default_factory=dict)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    at_once: int = 0
    most_at_once: int = 0

    def begin(self) -> None:
        """Forget what was told and seen: another test begins."""
        self.calls.clear()
        self.wrong.clear()
        self.arrived, self.released = asyncio.Event(), asyncio.Event()
        self.most_at_once = 0

    def next(self, kind: str, *responses: Respond | None) -> None:
        self.wrong.setdefault(kind, deque()).extend(responses)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        kind = kind_of(request)
        self.calls.append(kind)
        planned = self.wrong.get(kind)
        respond = planned.popleft() if planned else None
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await (respond or hand_on)(self, request)
        finally:
            self.at_once -= 1

    async def ask(self, request: web.Request) -> tuple[int, CIMultiDict[str], bytes]:
        """What the server answers to this call."""
        body = await request.read()
        url = URL(self.target + request.raw_path, encoded=True)
        asked = {name: value for name, value in request.headers.items() if name != "Expect"}
        async with self.session.request(request.method, url, data=body, headers=asked) as answer:
            told = {name: answer.headers[name] for name in PASSED_ON if name in answer.headers}
            return answer.status, CIMultiDict(told), await answer.read()


def kind_of(request: web.Request) -> str:
    query = request.query
    if "uploadId" in query:
        return {"PUT": "part", "POST": "complete", "DELETE": "abort"}[request.method]
    if "uploads" in query:
        return "begin"
    if "delete" in query:
        return "delete many"
    return "list" if "list-type" in query else request.method.lower()


async def hand_on(front: Front, request: web.Request) -> web.StreamResponse:
    status, headers, body = await front.ask(request)
    return web.Response(status=status, headers=headers, body=body)


async def hands_on_in_turn(front: Front, request: web.Request) -> web.StreamResponse:
    """S3 looks and stores in one step; the server behind us does it in two."""
    async with front.turn:
        return await hand_on(front, request)


def answers(status: int, code: str, message: str = "told by the test") -> Respond:
    """An error document instead of handing the call on."""

    async def respond(_front: Front, request: web.Request) -> web.StreamResponse:
        await request.read()
        document = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        return web.Response(
            status=status,
            body=b"" if "HEAD" == request.method else document.encode(),
            content_type="text/xml",
        )

    return respond


def says(document: str) -> Respond:
    """An answer of success with this document, instead of handing the call on."""

    async def respond(_front: Front, request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.Response(text=document, content_type="text/xml")

    return respond


async def wants_an_md5(front: Front, request: web.Request) -> web.StreamResponse:
    """As older servers do, which know none of the newer checksums."""
    md5 = hashlib.md5(await request.read(), usedforsecurity=False).digest()
    if request.headers.get("Content-MD5") != b64encode(md5).decode():
        return await answers(400, "MissingContentMD5")(front, request)
    return await hand_on(front, request)


async def hangs(front: Front, request: web.Request) -> web.StreamResponse:
    """Takes the call, and says nothing until the front ends."""
    await request.read()
    front.arrived.set()
    await front.released.wait()
    return _cut(request)


async def resets_the_upload(_front: Front, request: web.Request) -> web.StreamResponse:
    await request.content.read(1)
    return _cut(request)


async def loses_the_answer(front: Front, request: web.Request) -> web.StreamResponse:
    """The server does it, and nobody hears of it."""
    await front.ask(request)
    return _cut(request)


async def stops_half_way(front: Front, request: web.Request) -> web.StreamResponse:
    status, headers, body = await front.ask(request)
    response = web.StreamResponse(status=status, headers=headers)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    return _cut(request)


async def hangs_half_way(front: Front, request: web.Request) -> web.StreamResponse:
    status, headers, body = await front.ask(request)
    response = web.StreamResponse(status=status, headers=headers)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    front.arrived.set()
    await front.released.wait()
    return _cut(request)


async def drips(front: Front, request: web.Request) -> web.StreamResponse:
    """Never silent for long, and never done."""
    status, headers, body = await front.ask(request)
    response = web.StreamResponse(status=status, headers=headers)
    await response.prepare(request)
    for at in range(len(body)):
        await response.write(body[at : at + 1])
        await asyncio.sleep(0.02)
    return response


async def changes_the_body(front: Front, request: web.Request) -> web.StreamResponse:
    status, headers, body = await front.ask(request)
    return web.Response(status=status, headers=headers, body=bytes(255 - byte for byte in body))


async def tells_another_etag(front: Front, request: web.Request) -> web.StreamResponse:
    status, headers, body = await front.ask(request)
    headers["ETag"] = '"0123456789abcdef0123456789abcdef"'
    return web.Response(status=status, headers=headers, body=body)


def _cut(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


@asynccontextmanager
async def front_of(target: str) -> AsyncIterator[Front]:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        front = Front(target, session)
        application = web.Application(client_max_size=1 << 30)
        application.router.add_route("*", "/{name:.*}", front.handle)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", unused_port())
        await site.start()
        front.url = site.name
        try:
            yield front
        finally:
            front.released.set()
            await runner.cleanup()
