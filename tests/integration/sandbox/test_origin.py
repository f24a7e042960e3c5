"""The live origin over HTTP, with a clock that the test turns, and FFmpeg's own segments."""

import re
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from sandbox.film import make_film, read_frame_numbers
from sandbox.origin import HlsOrigin, VodOrigin
from sandbox.segmenter import MediaToolError

pytestmark = pytest.mark.needs_ffmpeg

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@dataclass
class FakeClock:
    now: datetime = field(default=START)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "film.mp4", duration_s=15)


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


async def get(http: aiohttp.ClientSession, url: str) -> tuple[int, bytes]:
    async with http.get(url) as response:
        return response.status, await response.read()


def media_url(origin: HlsOrigin, name: str = "stream.m3u8", *, rendition: int = 0) -> str:
    return f"{origin.base_url}/live/stream_{rendition}/{name}"


def listed(playlist: bytes) -> list[str]:
    return [line for line in playlist.decode().splitlines() if line and not line.startswith("#")]


async def test_nothing_is_served_before_the_stream_is_live(
    film: Path, http: aiohttp.ClientSession, clock: FakeClock
) -> None:
    async with HlsOrigin(film, clock=clock) as origin:
        before = await get(http, origin.url)
        origin.go_live()
        master = await get(http, origin.url)
        no_segment_yet = await get(http, media_url(origin))

    assert (before[0], master[0], no_segment_yet[0]) == (404, 200, 404)
    assert listed(master[1]) == ["stream_0/stream.m3u8"]
    assert b"RESOLUTION=320x180" in master[1]


async def test_segments_appear_at_the_pace_of_the_clock_and_leave_after_two_windows(
    film: Path, http: aiohttp.ClientSession, clock: FakeClock
) -> None:
    async with HlsOrigin(film, speed=2.0, window=1, clock=clock) as origin:
        origin.go_live()
        clock.advance(1.0)
        first = await get(http, media_url(origin))
        clock.advance(2.0)
        third = await get(http, media_url(origin))
        left_but_there = await get(http, media_url(origin, "000000.ts"))
        clock.advance(2.0)
        gone = await get(http, media_url(origin, "000000.ts"))
        to_come = await get(http, media_url(origin, "000006.ts"))

    assert listed(first[1]) == ["000000.ts"]
    assert listed(third[1]) == ["000001.ts", "000002.ts"]
    assert (left_but_there[0], gone[0], to_come[0]) == (200, 404, 404)


async def test_the_segments_hold_every_frame_once_and_the_playlist_tells_their_exact_length(
    film: Path, http: aiohttp.ClientSession, clock: FakeClock, tmp_path: Path
) -> None:
    numbers: list[list[int]] = []
    async with HlsOrigin(film, window=100, clock=clock) as origin:
        origin.go_live()
        clock.advance(15.0)
        _, playlist = await get(http, media_url(origin))
        for uri in listed(playlist):
            (tmp_path / uri).write_bytes((await get(http, media_url(origin, uri)))[1])
            numbers.append([number for _, number in read_frame_numbers(tmp_path / uri)])

    durations_s = [float(text) for text in re.findall(r"#EXTINF:([\d.]+)", playlist.decode())]
    assert [number for segment in numbers for number in segment] == list(range(375))
    assert durations_s == [len(segment) / 25 for segment in numbers] == [2.0] * 7 + [1.0]
    assert b"#EXT-X-TARGETDURATION:2\n" in playlist


async def test_the_end_is_told_to_clients_and_to_the_test(
    film: Path, http: aiohttp.ClientSession, clock: FakeClock
) -> None:
    async with HlsOrigin(film, duration_s=4.0, clock=clock) as origin:
        origin.go_live()
        clock.advance(3.9)
        running = await get(http, media_url(origin))
        ended_early = origin.ended.is_set()
        clock.advance(0.2)
        over = await get(http, media_url(origin))
        ended = origin.ended.is_set()

    assert (b"#EXT-X-ENDLIST" in running[1], ended_early) == (False, False)
    assert (b"#EXT-X-ENDLIST" in over[1], ended) == (True, True)


async def test_a_stream_can_be_ended_early(film: Path, http: aiohttp.ClientSession, clock: FakeClock) -> None:
    async with HlsOrigin(film, clock=clock) as origin:
        origin.go_live()
        clock.advance(5.0)
        origin.end_live()
        clock.advance(5.0)
        _, playlist = await get(http, media_url(origin))

    assert listed(playlist) == ["000000.ts", "000001.ts"]
    assert playlist.endswith(b"#EXT-X-ENDLIST\n")
    assert origin.ended.is_set()


async def test_renditions_share_their_dates_and_their_head_start(
    film: Path, http: aiohttp.ClientSession, clock: FakeClock
) -> None:
    async with HlsOrigin(film, renditions=(film,), initial_segments=2, clock=clock) as origin:
        origin.go_live()
        _, master = await get(http, origin.url)
        first = await get(http, media_url(origin))
        second = await get(http, media_url(origin, rendition=1))
        missing = await get(http, media_url(origin, rendition=2))

    assert listed(master) == ["stream_0/stream.m3u8", "stream_1/stream.m3u8"]
    assert listed(first[1]) == ["000000.ts", "000001.ts"]
    assert first == second
    assert b"#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:04:01.000+00:00" in first[1]
    assert missing[0] == 404


async def test_a_fault_answers_in_the_place_of_the_origin_and_every_request_is_recorded(
    film: Path, http: aiohttp.ClientSession, clock: FakeClock
) -> None:
    answers: list[web.Response | None] = [web.Response(status=503), None]

    async def fail_once(_: web.Request) -> web.StreamResponse | None:
        return answers.pop(0)

    async with HlsOrigin(film, initial_segments=1, master=False, clock=clock) as origin:
        origin.go_live()
        origin.faults[r"\.ts$"] = fail_once
        origin.faults[r"stream\.m3u8$"] = lambda _: web.Response(text="<html>sorry</html>")
        _, html = await get(http, origin.url)
        statuses = [(await get(http, media_url(origin, "000000.ts")))[0] for _ in range(2)]

    assert html == b"<html>sorry</html>"
    assert statuses == [503, 200]
    assert [(r.at, r.path, r.status) for r in origin.requests] == [
        (START, "/live/stream_0/stream.m3u8", 200),
        (START, "/live/stream_0/000000.ts", 503),
        (START, "/live/stream_0/000000.ts", 200),
    ]


async def test_other_codecs_are_encoded_for_hls(
    film: Path, http: aiohttp.ClientSession, clock: FakeClock, tmp_path: Path
) -> None:
    other = tmp_path / "film.mkv"
    codecs = ("-c:v", "mpeg4", "-c:a", "libopus")
    subprocess.run(["ffmpeg", "-v", "error", "-i", str(film), "-t", "4", *codecs, str(other)], check=True)

    async with HlsOrigin(other, clock=clock) as origin:
        durations_us = [segment.duration_us for segment in origin.window.segments]

    assert durations_us == [2_000_000, 2_000_000]


async def test_the_same_film_can_be_had_as_fragmented_mp4(
    film: Path, http: aiohttp.ClientSession, clock: FakeClock, tmp_path: Path
) -> None:
    async with (
        HlsOrigin(film, initial_segments=2, container="fmp4", clock=clock) as origin,
        HlsOrigin(film, clock=clock) as plain,
    ):
        origin.go_live()
        _, playlist = await get(http, media_url(origin))
        names = re.findall(rb'URI="(.+)"', playlist) + [name.encode() for name in listed(playlist)]
        parts = [await get(http, media_url(origin, name.decode())) for name in names]
        durations = [[one.duration_us for one in each.window.segments] for each in (origin, plain)]

    assert [b"init.mp4", b"000000.m4s", b"000001.m4s"] == names
    assert playlist.index(b"EXT-X-MAP") < playlist.index(b"EXTINF")
    assert durations[0] == durations[1]
    joined = tmp_path / "joined.mp4"
    joined.write_bytes(b"".join(body for _, body in parts))
    assert list(range(100)) == [number for _, number in read_frame_numbers(joined)]


async def test_a_file_that_is_no_media_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no film")

    with pytest.raises(MediaToolError, match="ffprobe ended with 1"):
        await HlsOrigin(text).start()


async def test_a_folder_is_served_as_it_is_and_nothing_above_it(
    http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    folder = tmp_path / "vod"
    folder.mkdir()
    (folder / "vod.m3u8").write_text("#EXTM3U\n")
    (tmp_path / "secret.txt").write_text("secret")

    async with VodOrigin(folder, playlist="vod.m3u8") as origin:
        served = await get(http, origin.url)
        above = await get(http, f"{origin.base_url}/%2e%2e/secret.txt")
        missing = await get(http, f"{origin.base_url}/none.ts")

    assert served == (200, b"#EXTM3U\n")
    assert (above[0], missing[0]) == (404, 404)
