"""A web server with one file, that knows ranges or does not, and counts what it sends; and a reader of sources."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from ingest.adapters.remux.child import Workshop
from ingest.adapters.remux.file_bytes import open_http_file
from ingest.adapters.remux.file_source import FileSource
from ingest.adapters.spool import FolderSpool
from ingest.domain.playlist import Segment
from ingest.domain.recorder import Progress
from ingest.workflow.ports import FetchedSegment, MediaSource
from sandbox.http_server import HttpServer
from shared.addresses import parse_allowed
from shared.http_client import SafeHttpClient
from shared.media_runner import MediaRunner, Sandbox, detect_sandbox


class FileServer(HttpServer):
    """`sent_bytes` counts bodies; `status` refuses what is asked, after `changes_after` requests it is another file."""

    def __init__(self, path: Path, *, has_ranges: bool = True) -> None:
        super().__init__(host="127.0.0.1", port=0)
        self.path = path
        self.has_ranges = has_ranges
        self.changes_after: int | None = None
        self.status = 200
        self.sent_bytes = 0
        self.requests = 0

    @property
    def url(self) -> str:
        return f"{self.base_url}/film"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        if self.status != 200:
            return web.Response(status=self.status)
        size = self.path.stat().st_size
        if not size and self.has_ranges:
            return web.Response(status=416, headers={"Content-Range": "bytes */0"})
        span = request.http_range if self.has_ranges else slice(0, None)
        start, stop = span.start or 0, min(span.stop or size, size)
        return await self._send(request, start, stop, size=size)

    async def _send(self, request: web.Request, start: int, stop: int, *, size: int) -> web.StreamResponse:
        is_other = self.changes_after is not None and self.requests > self.changes_after
        answer = web.StreamResponse(headers={"ETag": f'"{is_other}"'})
        if self.has_ranges and "Range" in request.headers:
            answer.set_status(206)
            answer.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        answer.content_length = stop - start
        await answer.prepare(request)
        with self.path.open("rb") as file:
            file.seek(start)
            while start < stop and (chunk := file.read(min(65536, stop - start))):
                await answer.write(chunk)
                start += len(chunk)
                self.sent_bytes += len(chunk)
        return answer


@dataclass
class Workbench:
    """Sources over real FFmpeg; `folder` is where all of them keep what they have."""

    http: SafeHttpClient
    workshop: Workshop
    spool: FolderSpool
    folder: Path

    def file(self, url: str, *, progress: Progress | None = None) -> FileSource:
        return FileSource(
            lambda: open_http_file(self.http, url, headers={}),
            workshop=self.workshop,
            spool=self.spool,
            progress=progress or Progress(),
        )

    @property
    def kept_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


@asynccontextmanager
async def workbench(
    folder: Path, *servers: HttpServer, sandbox: Sandbox | None = None
) -> AsyncIterator[Workbench]:
    allowed = parse_allowed(",".join(server.base_url.removeprefix("http://") for server in servers))
    (folder / "work").mkdir()
    (folder / "spool").mkdir()
    runner = MediaRunner(sandbox=sandbox or await detect_sandbox())
    spool = FolderSpool(folder / "spool", limit_bytes=10**9)
    async with SafeHttpClient(allowed=allowed, user_agent="test") as http:
        yield Workbench(http, Workshop(runner=runner, work_dir=folder / "work"), spool, folder)
    spool.close()


@dataclass
class Read:
    """What a source gave until its end."""

    segments: list[Segment] = field(default_factory=list)
    fetched: list[FetchedSegment] = field(default_factory=list)

    @property
    def places(self) -> list[tuple[int, int | None, int]]:
        """Sequence, first presentation time, length: what the timeline is made of."""
        return [
            (segment.sequence, fetched.media.pts_us, segment.duration_us)
            for segment, fetched in zip(self.segments, self.fetched, strict=True)
        ]

    @property
    def digests(self) -> list[str]:
        return [fetched.sha256 for fetched in self.fetched]

    @property
    def media(self) -> list[bytes]:
        """The samples of each segment, without the boxes that tell of their times."""
        return [b"".join(_media_boxes(fetched.body)) for fetched in self.fetched]

    def write(self, path: Path) -> Path:
        """All of it as one file."""
        init = self.fetched[0].init or b""
        path.write_bytes(init + b"".join(fetched.body for fetched in self.fetched))
        return path


def _media_boxes(body: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(body):
        size = int.from_bytes(body[start : start + 4], "big")
        if body[start + 4 : start + 8] == b"mdat":
            yield body[start : start + size]
        start += size


async def read_all(source: MediaSource, *, most: int | None = None, timeout_s: float = 30) -> Read:
    """Everything up to the end, or as many segments. Raises FetchFailed as the source does."""
    read, next_sequence = Read(), 0
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                playlist = await source.playlist(from_sequence=next_sequence)
                for segment in playlist.segments:
                    if segment.sequence >= next_sequence:
                        read.segments.append(segment)
                        read.fetched.append(await source.segment(segment, epoch=0, left_s=10))
                        next_sequence = segment.sequence + 1
                        if len(read.segments) == most:
                            return read
                if playlist.ended:
                    return read
    finally:
        await source.close()
