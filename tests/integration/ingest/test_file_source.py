"""Files by URL become segments: exactly, bounded, resumable, and refused in words where they are none."""

import asyncio
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ingest.adapters.remux.file_bytes import BLOCK_BYTES
from ingest.adapters.remux.file_source import MOST_WAITING
from ingest.domain.actions import Cursor, FailureKind
from ingest.domain.recorder import Progress
from ingest.workflow.ports import FetchFailed
from sandbox.film import make_film, read_frame_numbers, sync_error_s
from shared.media_runner import Sandbox
from tests.integration.ingest.file_server import FileServer, Read, read_all, workbench

pytestmark = pytest.mark.needs_ffmpeg

FILM_S = 24


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "film.mp4", duration_s=FILM_S)


def converted(film: Path, name: str, *options: str) -> Path:
    made = film.with_name(name)
    if not made.exists():
        command = ["ffmpeg", "-v", "error", "-i", str(film), *options, str(made)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return made


COPIES: dict[str, tuple[str, ...]] = {
    "moov_first.mp4": ("-c", "copy", "-movflags", "+faststart"),
    "film.mov": ("-c", "copy"),
    "film.mkv": ("-c", "copy"),
    "film.flv": ("-c", "copy"),
    "film.ts": ("-c", "copy"),
}


def _slow(name: str, *, daily: str = "") -> Any:
    """One container in the daily tests, all of them with the fault tests."""
    return pytest.param(name, marks=() if name == daily else pytest.mark.faults)


# These count time in milliseconds; where the sound's exact time lies in one, FFmpeg learns as it reads.
ROUNDED = ("film.mkv", "film.flv")


async def read_file(path: Path, folder: Path, **changes: Any) -> Read:
    async with FileServer(path, **changes) as server, workbench(folder, server) as bench:
        return await read_all(bench.file(server.url))


def assert_tiles(read: Read) -> None:
    for (_, before_us, duration_us), (_, after_us, _) in pairwise(read.places):
        assert before_us is not None
        assert after_us == before_us + duration_us


def assert_same_film(read: Read, folder: Path) -> None:
    made = read.write(folder / "read.mp4")
    frames = read_frame_numbers(made)
    assert list(range(FILM_S * 25)) == [number for _, number in frames]
    assert sync_error_s(made) < 0.003


async def test_an_mp4_with_its_index_at_the_end_is_read_whole_and_exactly(film: Path, tmp_path: Path) -> None:
    read = await read_file(film, tmp_path)
    assert 6 == len(read.segments)
    assert_tiles(read)
    assert_same_film(read, tmp_path)


@pytest.mark.parametrize("name", [_slow(name) for name in COPIES])
async def test_a_container_is_copied_frame_by_frame(name: str, film: Path, tmp_path: Path) -> None:
    read = await read_file(converted(film, name, *COPIES[name]), tmp_path)
    assert_tiles(read)
    assert_same_film(read, tmp_path)


@pytest.mark.faults
async def test_modern_codecs_are_kept(film: Path, tmp_path: Path) -> None:
    options = ("-t", "6", "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus")
    read = await read_file(converted(film, "vp9.webm", *options), tmp_path)
    assert_tiles(read)
    assert b"vp09" in (read.fetched[0].init or b"")


@pytest.mark.faults
async def test_old_codecs_are_encoded_anew(film: Path, tmp_path: Path) -> None:
    options = ("-t", "6", "-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libvorbis")
    read = await read_file(converted(film, "vp8.webm", *options), tmp_path)
    assert_tiles(read)
    assert b"avc1" in (read.fetched[0].init or b"")
    frames = read_frame_numbers(read.write(tmp_path / "read.mp4"))
    assert list(range(150)) == [number for _, number in frames]


async def test_sound_alone_is_a_source_too(film: Path, tmp_path: Path) -> None:
    read = await read_file(converted(film, "sound.mp3", "-vn", "-c:a", "libmp3lame"), tmp_path)
    assert_tiles(read)
    assert FILM_S == pytest.approx(sum(segment.duration_us for segment in read.segments) / 1e6, abs=0.2)


async def test_without_ranges_a_file_is_read_from_start_to_end(film: Path, tmp_path: Path) -> None:
    padded = padded_to(converted(film, "film.ts", *COPIES["film.ts"]), bytes_at_least=2_000_000)
    read = await read_file(padded, tmp_path, has_ranges=False)
    assert_same_film(read, tmp_path)


def padded_to(path: Path, *, bytes_at_least: int) -> Path:
    """With null packets after its end, so that it does not come whole with the first answer."""
    made = path.with_name(f"padded-{path.name}")
    null_packet = b"\x47\x1f\xff\x10" + b"\xff" * 184
    made.write_bytes(path.read_bytes() + null_packet * (bytes_at_least // 188))
    return made


@pytest.mark.parametrize("name", ["film.mp4", *(_slow(name, daily="film.ts") for name in COPIES)])
async def test_a_successor_makes_the_same_segments(name: str, film: Path, tmp_path: Path) -> None:
    path = film if name == film.name else converted(film, name, *COPIES[name])
    async with FileServer(path) as server, workbench(tmp_path, server) as bench:
        whole = await read_all(bench.file(server.url))
        for stored in (1, 3, len(whole.segments)):
            last = whole.segments[stored - 1]
            cursor = Cursor(joined=True, sequence=last.sequence, identity=last.identity)
            rest = await read_all(bench.file(server.url, progress=Progress(cursor=cursor)))
            assert whole.places[stored:] == rest.places
            assert whole.media[stored:] == rest.media
            if name not in ROUNDED:
                assert whole.digests[stored:] == rest.digests


async def test_a_reading_that_breaks_off_goes_on_where_it_was(film: Path, tmp_path: Path) -> None:
    whole_folder, folder = tmp_path / "whole", tmp_path / "broken"
    whole_folder.mkdir()
    folder.mkdir()
    whole = await read_file(film, whole_folder)
    async with FileServer(film) as server, workbench(folder, server) as bench:
        server.status = 503
        source = bench.file(server.url)
        with pytest.raises(FetchFailed) as caught:
            while not (await source.playlist(from_sequence=0)).segments:
                pass
        assert (FailureKind.STATUS, 503) == (caught.value.failure.kind, caught.value.failure.status)
        server.status = 200
        assert whole.digests == (await read_all(source)).digests


async def test_without_a_sandbox_the_relay_serves_on_the_loopback(film: Path, tmp_path: Path) -> None:
    async with (
        FileServer(film) as server,
        workbench(tmp_path, server, sandbox=Sandbox.LIMITS_ONLY) as bench,
    ):
        assert_same_film(await read_all(bench.file(server.url)), tmp_path)


async def test_nothing_is_left_when_a_source_is_closed(film: Path, tmp_path: Path) -> None:
    async with FileServer(film) as server, workbench(tmp_path, server) as bench:
        await read_all(bench.file(server.url), most=2)
        assert 0 == bench.kept_bytes


async def test_a_file_of_gigabytes_costs_what_is_read_of_it(film: Path, tmp_path: Path) -> None:
    body = film.read_bytes()
    at = body.rindex(b"moov") - 4
    path = tmp_path / "long.mp4"
    unused = 5 * 1024**3
    with path.open("wb") as file:
        file.write(body[:at] + b"\0\0\0\1free" + unused.to_bytes(8, "big"))
        file.seek(at + unused)
        file.write(body[at:])
    folder = tmp_path / "bench"
    folder.mkdir()
    async with FileServer(path) as server, workbench(folder, server) as bench:
        read = await read_all(bench.file(server.url))
    assert_same_film(read, tmp_path)
    assert server.sent_bytes < len(body) + 16 * BLOCK_BYTES


@pytest.mark.faults
async def test_a_file_is_read_no_further_than_its_segments_are_taken(film: Path, tmp_path: Path) -> None:
    picture = "testsrc2=size=320x180:rate=25:duration=60,noise=alls=60:allf=t"
    path = tmp_path / "noise.mkv"
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        picture,
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
    ]
    subprocess.run([*command, "-qp", "16", "-g", "50", str(path)], check=True, stdin=subprocess.DEVNULL)
    folder = tmp_path / "bench"
    folder.mkdir()
    async with FileServer(path) as server, workbench(folder, server) as bench:
        source = bench.file(server.url)
        while len((await source.playlist(from_sequence=0)).segments) < MOST_WAITING:
            pass
        await source.playlist(from_sequence=0)
        held_bytes, sent_bytes = bench.kept_bytes, server.sent_bytes
        await source.playlist(from_sequence=0)
        grown_bytes = server.sent_bytes - sent_bytes
        await source.close()
    size_bytes = path.stat().st_size
    assert size_bytes > 40 * BLOCK_BYTES
    assert held_bytes < size_bytes * (MOST_WAITING + 1) * 4 / 60
    assert sent_bytes < held_bytes + 24 * BLOCK_BYTES
    assert 0 == grown_bytes


# -- refusals ------------------------------------------------------------------------------------------


async def refusal(path: Path, folder: Path, **changes: Any) -> str:
    with pytest.raises(FetchFailed) as caught:
        await read_file(path, folder, **changes)
    assert FailureKind.REFUSED is caught.value.failure.kind
    return caught.value.failure.detail


NO_MEDIA = {
    "a web page": b"<!DOCTYPE html><html></html>",
    "HLS playlist": b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n",
    "list of files": b"ffconcat version 1.0\nfile http://127.0.0.1:1/x\n",
    "DASH manifest": b'<?xml version="1.0"?><MPD></MPD>',
    "not a media file": b"\x00" * 5000,
    "empty": b"",
}


@pytest.mark.parametrize("words", NO_MEDIA)
async def test_what_is_no_media_file_is_refused_in_words(words: str, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(NO_MEDIA[words])
    assert words in await refusal(path, tmp_path)


@pytest.mark.faults
@pytest.mark.parametrize("sandbox", Sandbox)
async def test_no_file_makes_ffmpeg_open_another_address(
    sandbox: Sandbox, film: Path, tmp_path: Path
) -> None:
    hits: list[object] = []
    canary = await asyncio.start_server(lambda _, writer: hits.append(writer), "127.0.0.1", 0)
    url = f"http://127.0.0.1:{canary.sockets[0].getsockname()[1]}/segment.ts"
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{url}\n#EXT-X-ENDLIST\n".encode()
    concat, manifest = (
        f"ffconcat version 1.0\nfile {url}\n".encode(),
        f"<MPD><BaseURL>{url}</BaseURL></MPD>".encode(),
    )
    packets = (b"\x47\x1f\xff\x10" + b"\xff" * 184) * 4
    heads = (b"", b"\x00\x00\x00\x08ftyp", b"\x1aE\xdf\xa3", b"FLV\x01", b"OggS", b"ID3", packets)
    polyglots = [head + text for head in heads for text in (playlist, concat, manifest)]
    async with canary:
        for number, body in enumerate(polyglots):
            folder = tmp_path / str(number)
            folder.mkdir()
            (folder / "film.mp4").write_bytes(body)
            async with (
                FileServer(folder / "film.mp4") as server,
                workbench(folder, server, sandbox=sandbox) as bench,
            ):
                with pytest.raises(FetchFailed):
                    await read_all(bench.file(server.url))
    assert [] == hits


async def test_a_cut_off_mp4_is_refused_for_its_missing_index(film: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    path.write_bytes(film.read_bytes()[:200_000])
    assert "moov" in await refusal(path, tmp_path)


async def test_an_encrypted_mp4_is_refused(film: Path, tmp_path: Path) -> None:
    key = "00112233445566778899aabbccddeeff"
    options = ("-c", "copy", "-encryption_scheme", "cenc-aes-ctr", "-encryption_key", key)
    made = converted(film, "encrypted.mp4", *options, "-encryption_kid", key)
    assert "encrypted" in await refusal(made, tmp_path)


async def test_an_index_at_the_end_needs_ranges(film: Path, tmp_path: Path) -> None:
    body = film.read_bytes()
    at = body.index(b"mdat") - 4
    path = tmp_path / "late.mp4"
    free = (1_500_000).to_bytes(4, "big") + b"free" + bytes(1_499_992)
    path.write_bytes(body[:at] + free + body[at:])
    assert "range requests" in await refusal(path, tmp_path, has_ranges=False)


async def test_a_file_that_changes_meanwhile_is_refused(film: Path, tmp_path: Path) -> None:
    path = padded_to(converted(film, "film.ts", *COPIES["film.ts"]), bytes_at_least=20_000_000)
    async with FileServer(path) as server, workbench(tmp_path, server) as bench:
        server.changes_after = 12
        with pytest.raises(FetchFailed) as caught:
            await read_all(bench.file(server.url))
    assert "changed" in caught.value.failure.detail


async def test_recordings_that_were_joined_are_told_and_never_squeezed_into_one_time(
    film: Path, tmp_path: Path
) -> None:
    one = converted(film, "film.ts", *COPIES["film.ts"]).read_bytes()
    path = tmp_path / "joined.ts"
    path.write_bytes(one + one)
    assert "clock goes back" in await refusal(path, tmp_path)


@pytest.mark.parametrize(("status", "words"), [(401, "login"), (403, "denies"), (404, "not there")])
async def test_what_a_server_denies_is_told(status: int, words: str, film: Path, tmp_path: Path) -> None:
    async with FileServer(film) as server, workbench(tmp_path, server) as bench:
        server.status = status
        with pytest.raises(FetchFailed) as caught:
            await read_all(bench.file(server.url))
    assert words in caught.value.failure.detail
