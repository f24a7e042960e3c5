"""RTMP and SRT become segments: through the relay, with the wall clock of arrival, and gaps between connections."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ingest.adapters.remux.dial import Dialler
from ingest.adapters.remux.openers import push_address
from ingest.adapters.remux.push_source import PushSource
from ingest.adapters.remux.wire_relay import TcpRelay
from ingest.domain.actions import Cursor, FailureKind, FetchFailure
from ingest.domain.playlist import MediaPlaylist, Segment
from ingest.domain.recorder import Progress
from ingest.domain.timeline import Timeline
from ingest.workflow.ports import FetchFailed
from sandbox.film import make_film, read_frame_numbers, sync_error_s
from shared.addresses import HostPort
from shared.clock import utc_now
from shared.relay_socket import made_here
from tests.integration.ingest.file_server import Read, Workbench, read_all, workbench
from tests.integration.shared.test_http_client import Answers, self_signed

pytestmark = pytest.mark.needs_ffmpeg

FILM_S = 6


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "film.mp4", duration_s=FILM_S)


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@asynccontextmanager
async def sender(
    film: Path, url: str, muxer: str, *options: str, rate: str = "4"
) -> AsyncIterator[asyncio.subprocess.Process]:
    """FFmpeg as the server: it waits for one caller, plays the film to it `rate` times as fast, and ends."""
    head = ("-v", "error", "-readrate", rate, "-i", str(film), "-c", "copy")
    process = await asyncio.create_subprocess_exec(
        "ffmpeg", *head, "-f", muxer, *options, url, stdin=asyncio.subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def push(
    bench: Workbench,
    url: str,
    *,
    progress: Progress | None = None,
    is_allowed: bool = True,
    login: str = "",
) -> PushSource:
    parts = urlsplit(url)
    allowed = frozenset({HostPort(str(parts.hostname), parts.port or 0)}) if is_allowed else frozenset()
    return PushSource(
        push_address(url.replace("://", f"://{login}"), dialler=Dialler(allowed=allowed)),
        workshop=bench.workshop,
        spool=bench.spool,
        progress=progress or Progress(),
        clock=utc_now,
        end_patience_s=1.0,
    )


class Patient:
    """Asks again for a playlist that failed, as a follower does, and keeps why."""

    def __init__(self, source: PushSource) -> None:
        self._source = source
        self.segment = source.segment
        self.forget_variant = source.forget_variant
        self.refuse_delta = source.refuse_delta
        self.close = source.close
        self.failures: list[FetchFailure] = []

    async def playlist(self, *, from_sequence: int) -> MediaPlaylist:
        while True:
            try:
                return await self._source.playlist(from_sequence=from_sequence)
            except FetchFailed as failed:
                self.failures.append(failed.failure)
                await asyncio.sleep(0.05)


async def read_pushed(source: PushSource, *, most: int | None = None) -> Read:
    return await read_all(Patient(source), most=most)


async def test_rtmp_is_read_frame_by_frame_with_the_wall_clock_of_arrival(film: Path, tmp_path: Path) -> None:
    url = f"rtmp://127.0.0.1:{free_port()}/live/key"
    before = utc_now()
    async with workbench(tmp_path) as bench, sender(film, url, "flv", "-listen", "1"):
        read = await read_pushed(push(bench, url))
    made = read.write(tmp_path / "read.mp4")
    assert list(range(FILM_S * 25)) == [number for _, number in read_frame_numbers(made)]
    assert sync_error_s(made) < 0.003
    walls = [segment.wall_at for segment in read.segments]
    assert before < walls[0] < utc_now()
    assert walls[1] - walls[0] == timedelta(microseconds=read.segments[0].duration_us)


@pytest.mark.faults
async def test_srt_is_read_frame_by_frame(film: Path, tmp_path: Path) -> None:
    port = free_port(socket.SOCK_DGRAM)
    listener = f"srt://127.0.0.1:{port}?mode=listener&passphrase=a-long-secret"
    async with workbench(tmp_path) as bench, sender(film, listener, "mpegts"):
        read = await read_pushed(push(bench, f"srt://127.0.0.1:{port}?passphrase=a-long-secret"))
    numbers = [number for _, number in read_frame_numbers(read.write(tmp_path / "read.mp4"))]
    # A sender that goes away in SRT takes with it what it has not sent.
    assert list(range(100)) == numbers[:100]


async def test_a_successor_tells_the_time_between_as_a_gap(film: Path, tmp_path: Path) -> None:
    url = f"rtmp://127.0.0.1:{free_port()}/live/key"
    stopped_at = utc_now() - timedelta(seconds=100)
    timeline = Timeline(
        position_us=8_000_000, segment_count=4, wall_at=stopped_at, wall_position_us=8_000_000
    )
    progress = Progress(cursor=Cursor(joined=True, sequence=3, timeline=timeline))
    async with workbench(tmp_path) as bench, sender(film, url, "flv", "-listen", "1"):
        source = Patient(push(bench, url, progress=progress))
        playlist = await source.playlist(from_sequence=0)
        while len(playlist.segments) < 2:
            playlist = await source.playlist(from_sequence=0)
        await source.close()
    gap, first = playlist.segments[:2]
    assert (4, True, 5, True) == (gap.sequence, gap.gap, first.sequence, first.discontinuity)
    assert first.wall_at is not None
    missing_us = (first.wall_at - stopped_at) // timedelta(microseconds=1)
    assert missing_us == pytest.approx(gap.duration_us, abs=2)
    assert 100_000_000 < gap.duration_us < 120_000_000


async def test_an_address_that_is_not_public_is_never_dialled(tmp_path: Path) -> None:
    hits: list[object] = []
    canary = await asyncio.start_server(lambda reader, writer: hits.append(writer), "127.0.0.1", 0)
    port = canary.sockets[0].getsockname()[1]
    async with canary, workbench(tmp_path) as bench:
        source = push(bench, f"rtmp://127.0.0.1:{port}/live/key", is_allowed=False)
        with pytest.raises(FetchFailed) as caught:
            await source.playlist(from_sequence=0)
        await source.close()
    assert [] == hits
    assert FailureKind.REFUSED is caught.value.failure.kind


async def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    async with workbench(tmp_path) as bench:
        source = push(bench, f"rtmp://127.0.0.1:{free_port()}/live/key")
        with pytest.raises(FetchFailed) as caught:
            await source.playlist(from_sequence=0)
        await source.close()
    failure = caught.value.failure
    assert (FailureKind.NETWORK, "connection refused") == (failure.kind, failure.detail)


@pytest.mark.faults
async def test_a_server_that_comes_back_goes_on_behind_a_gap(film: Path, tmp_path: Path) -> None:
    port = free_port()
    url = f"rtmp://127.0.0.1:{port}/live/key"
    async with workbench(tmp_path) as bench:
        source = Patient(push(bench, url))
        async with sender(film, url, "flv", "-listen", "1", rate="1"):
            first = await until_listed(source, "gap", 0)
        async with sender(film, url, "flv", "-listen", "1", rate="1"):
            second = await until_listed(source, "discontinuity", 1)
        await source.close()
    assert [False] * len(first) == [segment.gap for segment in first]
    gap, after = [segment for segment in second if segment.gap or segment.discontinuity]
    before = second[second.index(gap) - 1]
    assert (True, gap.sequence + 1) == (gap.gap, after.sequence)
    assert before.wall_at is not None
    assert after.wall_at is not None
    between = after.wall_at - before.wall_at - timedelta(microseconds=before.duration_us)
    assert gap.duration_us == pytest.approx(between // timedelta(microseconds=1), abs=2)


async def until_listed(source: Patient, mark: str, count: int) -> list[Segment]:
    """Two segments and so many of the mark."""
    async with asyncio.timeout(30):
        while True:
            segments = (await source.playlist(from_sequence=0)).segments
            if len(segments) >= 2 and sum(getattr(segment, mark) for segment in segments) >= count:
                return list(segments)


async def test_tls_is_made_by_the_relay_and_checked_against_the_name(tmp_path: Path) -> None:
    pem = self_signed(tmp_path, "good.example")
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_side.load_cert_chain(pem)
    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_side)
    port = server.sockets[0].getsockname()[1]
    dialler = Dialler(
        allowed=frozenset({HostPort("127.0.0.1", port)}),
        resolver=Answers(["127.0.0.1"]),
        tls=ssl.create_default_context(cafile=str(pem)),
    )
    async with server:
        good = TcpRelay(dialler, HostPort("good.example", port), is_tls=True)
        assert b"hello" == await said_through(good, b"hello")
        other = TcpRelay(dialler, HostPort("other.example", port), is_tls=True)
        assert b"" == await said_through(other, b"hello")
    assert other.failure is not None
    assert "certificate" in other.failure.detail


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.readexactly(5))
    writer.close()


async def said_through(relay: TcpRelay, text: bytes) -> bytes:
    made = made_here(socket.SOCK_STREAM)
    port = made.getsockname()[1]
    async with relay.serve(made):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(text)
        try:
            return await reader.read(5)
        finally:
            writer.close()
