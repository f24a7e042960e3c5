"""An origin that serves the hostile corpus (`tests/samples/hostile`), and canaries that count who touches them.

A file is a template: `@CANARY@` and `@CANARY_PORT@` are where the canary listens, `@CANARY_FILE@` is a file that
nobody may read, `@ORIGIN_HOST@` is the origin itself. What no file can hold (bombs, endless bodies) is made here.
"""

import asyncio
import contextlib
import socket
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from sandbox.http_server import HttpServer

CORPUS = Path(__file__).resolve().parents[2] / "samples/hostile"
HEAD = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n"
ENTRY = "#EXTINF:2.0,\n/good.ts\n"
MADE = ("million_entries", "million_variants", "long_line", "gzip_bomb", "endless_body", "empty_then_html")


@dataclass
class Canary:
    """Listens on every loopback address, of both families, on one port."""

    path: Path
    port: int = 0
    touched: list[str] = field(default_factory=list)

    def _on_connection(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.touched.append(str(writer.get_extra_info("sockname")))
        writer.close()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Canary"]:
        async with contextlib.AsyncExitStack() as stack:
            for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
                listener = socket.socket(family, socket.SOCK_STREAM)
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listener.bind((host, self.port))
                self.port = listener.getsockname()[1]
                await stack.enter_async_context(
                    await asyncio.start_server(self._on_connection, sock=listener)
                )
            yield self


class HostileOrigin(HttpServer):
    """`/<name>.m3u8` is a file of the corpus, or one of `MADE`; `/good.ts` a real segment."""

    def __init__(self, canary: Canary, *, good: bytes) -> None:
        super().__init__(host="127.0.0.1", port=0)
        self._canary = canary
        self._good = good
        self._made: dict[str, Callable[[web.Request], object]] = {
            "/million_entries.m3u8": lambda _: HEAD + ENTRY * 1_000_000 + "#EXT-X-ENDLIST\n",
            "/million_variants.m3u8": lambda _: (
                "#EXTM3U\n" + "#EXT-X-STREAM-INF:BANDWIDTH=1\n/x\n" * 1_000_000
            ),
            "/long_line.m3u8": lambda _: HEAD + "#EXTINF:2.0," + "x" * 100_000_000 + "\n/good.ts\n",
            "/good.m3u8": lambda _: HEAD + ENTRY + "#EXT-X-ENDLIST\n",
            "/good.ts": lambda _: self._good,
        }

    @property
    def names(self) -> tuple[str, ...]:
        """Of all playlists."""
        return (*sorted(path.stem for path in CORPUS.glob("*.m3u8")), *MADE)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._answer(request)
        except ConnectionError:
            return web.Response(status=499)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        made = self._made.get(request.path)
        if made is not None:
            body = made(request)
            return web.Response(body=body.encode() if isinstance(body, str) else body)
        if request.path.startswith("/redirect/"):
            return self._redirect(request.path.removeprefix("/redirect/"))
        if request.path.startswith("/nested/"):
            depth = int(request.path.removeprefix("/nested/").removesuffix(".m3u8"))
            return web.Response(text=f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n/nested/{depth + 1}.m3u8\n")
        if request.path in ("/gzip_bomb.m3u8", "/big/bomb"):
            return await _bomb(request)
        if request.path in ("/endless_body.m3u8", "/big/endless", "/big/key", "/big/init", "/big/segment"):
            return await _flood(request, announced=request.path.startswith("/big/"))
        return web.Response(body=self._file(request.path))

    def _redirect(self, name: str) -> web.Response:
        canary = f"http://127.0.0.1:{self._canary.port}/redirected"
        targets = {
            "canary": (302, canary),
            "canary307": (307, canary.replace("127.0.0.1", "127.0.0.9")),
            "file": (302, f"file://{self._canary.path}"),
            "relative": (302, f"//127.0.0.1:{self._canary.port}/redirected"),
            "loop": (302, "/redirect/loop"),
            "nowhere": (302, ""),
            "split": (
                302,
                f"http://127.0.0.1:{self._canary.port}\\@{self.base_url.removeprefix('http://')}/",
            ),
        }
        status, location = targets[name]
        return web.Response(status=status, headers={"Location": location})

    def _file(self, path: str) -> bytes:
        name = path.removeprefix("/polyglot/") if path.startswith("/polyglot/") else ""
        file = CORPUS / (f"polyglot_{name}" if name else path.removeprefix("/"))
        if not file.is_file():
            return b"<html>what?</html>"
        words = {
            "@CANARY@": f"http://127.0.0.3:{self._canary.port}",
            "@CANARY_PORT@": str(self._canary.port),
            "@CANARY_FILE@": str(self._canary.path),
            "@ORIGIN_HOST@": self.base_url.removeprefix("http://"),
        }
        body = file.read_bytes()
        for word, meaning in words.items():
            body = body.replace(word.encode(), meaning.encode())
        return body


async def _bomb(request: web.Request) -> web.StreamResponse:
    """A gigabyte of zeros in a megabyte."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    response = web.StreamResponse(headers={"Content-Encoding": "gzip"})
    await response.prepare(request)
    for _ in range(1024):
        await response.write(packer.compress(bytes(1 << 20)))
        await asyncio.sleep(0)
    await response.write(packer.flush())
    return response


async def _flood(request: web.Request, *, announced: bool) -> web.StreamResponse:
    """Bytes for ever, or a gigabyte of which the length is told."""
    response = web.StreamResponse()
    if announced and request.path != "/big/endless":
        response.content_length = 1 << 30
    await response.prepare(request)
    chunk = (HEAD + ENTRY * 1000).encode()
    for _ in range((1 << 30) // len(chunk)):
        await response.write(chunk)
        await asyncio.sleep(0)
    return response
