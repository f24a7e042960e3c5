"""Pictures and sound in lists of their own become whole segments: real FFmpeg over scripted answers."""

import asyncio
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

from ingest.adapters.mixer import FfmpegMixer
from ingest.adapters.spool import FolderSpool
from ingest.domain.playlist import MediaPlaylist
from ingest.domain.policy import TrackerPolicy
from ingest.domain.recorder import Entry
from ingest.domain.ts import read_clock
from ingest.workflow.archive import Archive
from ingest.workflow.follower import Follower, FollowerPolicy
from ingest.workflow.ports import FetchedSegment
from ingest.workflow.source import HlsSource
from sandbox.faults_origin import FaultOrigin
from sandbox.film import make_film, read_frame_numbers, sync_error_s
from sandbox.scenario import parse_script
from shared import metrics
from shared.addresses import parse_allowed
from shared.clock import utc_now
from shared.http_client import SafeHttpClient
from shared.media_runner import MediaRunner, Sandbox
from shared.object_store import FolderObjectStore
from tests.fakes.ingest.http import Answer, FakeHttp
from tests.fakes.ingest.journal import FakeJournal
from tests.fakes.ingest.stage import FOLLOWED, LEASE

pytestmark = pytest.mark.needs_ffmpeg

BASE = "https://cdn.example/live"
FILM_S, FPS = 12, 25
MASTER = """#EXTM3U
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="other",AUTOSELECT=YES,URI="nothing.m3u8"
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="main",DEFAULT=YES,AUTOSELECT=YES,URI="sound.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=500000,RESOLUTION=320x180,AUDIO="a"
pictures.m3u8
"""
SEGMENTS = FILM_S // 2
KEY = b"0123456789abcdef"
Form = Literal["mpegts", "fmp4", "packed"]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "film.mp4", duration_s=FILM_S, fps=FPS)


def ffmpeg(*arguments: str) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-y", *arguments], check=True, stdin=subprocess.DEVNULL)


@dataclass
class Cut:
    """One rendition: its list line by line, and its files."""

    head: str
    entries: list[tuple[str, str]]
    files: dict[str, bytes]

    def listing(self, *, upto: int | None = None, after: int = 0) -> bytes:
        """Entries from `after`; all and the end of the list, or only those up to a number."""
        rows = "".join(f"{tags}\n{name}\n" for name, tags in self.entries[after:upto])
        end = "#EXT-X-ENDLIST\n" if upto is None else ""
        return f"{self.head}#EXT-X-MEDIA-SEQUENCE:{after}\n{rows}{end}".encode()


def cut(film: Path, name: str, *, track: str, segment_s: float, form: Form, start_s: float = 10.0) -> Cut:
    """Cut by FFmpeg, on a clock that begins at `start_s`."""
    folder = film.parent / f"{name}-{form}-{segment_s}-{start_s}"
    container = "fmp4" if form == "fmp4" else "mpegts"
    if not folder.exists():
        folder.mkdir()
        options = (
            *("-output_ts_offset", f"{start_s}", "-muxdelay", "0", "-muxpreload", "0", "-f", "hls"),
            *("-hls_time", f"{segment_s}", "-hls_list_size", "0", "-hls_segment_type", container),
            *("-hls_fmp4_init_filename", f"{name}-init.mp4"),
            *("-hls_segment_filename", str(folder / f"{name}%03d.seg")),
        )
        ffmpeg("-i", str(film), "-map", f"0:{track}:0", "-c", "copy", *options, str(folder / "list.m3u8"))
    lines = (folder / "list.m3u8").read_text().splitlines()
    tags = [line for line in lines if line.startswith("#EXTINF")]
    names = [line for line in lines if line and not line.startswith("#")]
    head = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n"
    if form == "fmp4":
        head += f'#EXT-X-MAP:URI="{name}-init.mp4"\n'
    files = {each.name: each.read_bytes() for each in folder.iterdir() if each.suffix != ".m3u8"}
    made = Cut(head=head, entries=list(zip(names, tags, strict=True)), files=files)
    return packed(made, folder) if form == "packed" else made


def packed(made: Cut, folder: Path) -> Cut:
    """The same frames without a container, behind the tag that tells their time (RFC 8216, 3.4)."""
    for name in list(made.files):
        clock = read_clock(made.files[name])
        assert clock is not None
        raw = folder / f"{name}.aac"
        ffmpeg("-i", str(folder / name), "-c", "copy", str(raw))
        time = round(clock.pts_us * 9 / 100).to_bytes(8, "big")
        private = b"com.apple.streaming.transportStreamTimestamp\x00" + time
        frame = b"PRIV" + len(private).to_bytes(4, "big") + bytes(2) + private
        made.files[name] = b"ID3\x04\x00\x00" + bytes([0, 0, 0, len(frame)]) + frame + raw.read_bytes()
        raw.unlink()
    return made


def encrypted(made: Cut) -> Cut:
    padder = PKCS7(128)
    for n, (name, _) in enumerate(made.entries):
        each, encryptor = padder.padder(), Cipher(AES128(KEY), CBC(n.to_bytes(16, "big"))).encryptor()
        clear = each.update(made.files[name]) + each.finalize()
        made.files[name] = encryptor.update(clear) + encryptor.finalize()
    return replace(made, head=f'{made.head}#EXT-X-KEY:METHOD=AES-128,URI="key"\n')


@dataclass
class Bench:
    """A source of pictures and sound, and what it has told."""

    folder: Path
    pictures: Cut
    sound: Cut
    http: FakeHttp = field(default_factory=FakeHttp)

    def __post_init__(self) -> None:
        files = {**self.pictures.files, **self.sound.files, "master.m3u8": MASTER.encode(), "key": KEY}
        self.http.pages.update({f"{BASE}/{name}": body for name, body in files.items()})
        self.serve("pictures.m3u8", self.pictures.listing())
        self.serve("sound.m3u8", self.sound.listing())
        self.told = metrics.ingest_audio_apart._value.get()
        mixer = FfmpegMixer(MediaRunner(sandbox=Sandbox.LIMITS_ONLY), work_root=self.folder)
        self.source = HlsSource(
            self.http, f"{BASE}/master.m3u8", headers={"X-Token": "t"}, target_height=720, mixer=mixer
        )

    def serve(self, name: str, answer: Answer | Callable[[], Answer]) -> None:
        self.http.pages[f"{BASE}/{name}"] = answer

    @property
    def told_count(self) -> float:
        return metrics.ingest_audio_apart._value.get() - self.told

    async def read(self, *, left_s: float = 20.0, at_once: int = 3) -> list[FetchedSegment]:
        playlist = await self.source.playlist(from_sequence=0)
        return await self.segments(playlist, left_s=left_s, at_once=at_once)

    async def segments(
        self, playlist: MediaPlaylist, *, left_s: float = 20.0, at_once: int = 3
    ) -> list[FetchedSegment]:
        slots = asyncio.Semaphore(at_once)

        async def one(n: int) -> FetchedSegment:
            async with slots:
                return await self.source.segment(playlist.segments[n], epoch=0, left_s=left_s)

        return list(await asyncio.gather(*(one(n) for n in range(len(playlist.segments)))))


def joined(folder: Path, read: list[FetchedSegment]) -> Path:
    """Segment behind segment, as whoever plays them has them."""
    path = folder / "joined.ts"
    path.write_bytes(b"".join(each.body for each in read))
    return path


def sound_times(path: Path) -> list[int]:
    """Presentation times of the frames of sound, in ticks."""
    command = [
        "ffprobe",
        "-v",
        "error",
        "-select_streams",
        "a:0",
        "-show_entries",
        "packet=pts",
        "-of",
        "csv=p=0",
    ]
    told = subprocess.run([*command, str(path)], check=True, capture_output=True, text=True).stdout
    return [int(line.strip().rstrip(",")) for line in told.split() if line.strip(",")]


def has_both(segment: FetchedSegment) -> bool:
    clock = read_clock(segment.body)
    return clock is not None and clock.has_video and clock.has_audio


def assert_plays_right(folder: Path, read: list[FetchedSegment], *, frames: int = FILM_S * FPS) -> None:
    """All pictures, sound without hole or double, and the two together."""
    path = joined(folder, read)
    assert list(range(frames)) == [number for _, number in read_frame_numbers(path)]
    steps = {after - before for before, after in pairwise(sound_times(path))}
    assert steps <= {1919, 1920, 1921}
    assert sync_error_s(path, fps=FPS) < 0.05


@pytest.mark.parametrize("form", ["mpegts", "packed"])
async def test_each_segment_gets_the_sound_of_its_own_time(film: Path, tmp_path: Path, form: Form) -> None:
    pictures = cut(film, "v", track="v", segment_s=2, form="mpegts")
    bench = Bench(tmp_path, pictures, cut(film, "a", track="a", segment_s=1.97, form=form))
    read = await bench.read()
    assert [True] * SEGMENTS == [has_both(each) for each in read]
    assert_plays_right(tmp_path, read)
    for segment, (name, _) in zip(read, pictures.entries, strict=True):
        own, was = read_clock(segment.body), read_clock(pictures.files[name])
        assert own is not None and was is not None
        assert (was.pts_us, was.duration_us) == (own.pts_us, own.duration_us)
    assert 0 == bench.told_count


async def test_fragmented_mp4_becomes_a_transport_stream_with_sound(film: Path, tmp_path: Path) -> None:
    pictures = cut(film, "v", track="v", segment_s=2, form="fmp4")
    bench = Bench(tmp_path, pictures, cut(film, "a", track="a", segment_s=3.1, form="fmp4"))
    read = await bench.read()
    assert {("mpegts", None)} == {(each.media.container, each.init) for each in read}
    assert_plays_right(tmp_path, read)
    assert 0 == bench.told_count


async def test_encrypted_sound_is_decrypted(film: Path, tmp_path: Path) -> None:
    pictures = encrypted(cut(film, "v", track="v", segment_s=2, form="mpegts"))
    bench = Bench(tmp_path, pictures, encrypted(cut(film, "a", track="a", segment_s=1.97, form="mpegts")))
    assert_plays_right(tmp_path, await bench.read())


@pytest.mark.faults
async def test_the_clock_may_wrap_within_a_segment(film: Path, tmp_path: Path) -> None:
    """Also where FFmpeg takes the wrap out of one file and not of the other, a minute before."""
    for start_s in (2**33 / 90_000 - 5, 2**33 / 90_000 - 65):
        pictures = cut(film, "v", track="v", segment_s=2, form="mpegts", start_s=start_s)
        sound = cut(film, "a", track="a", segment_s=1.97, form="mpegts", start_s=start_s)
        read = await Bench(tmp_path, pictures, sound).read()
        assert [True] * SEGMENTS == [has_both(each) for each in read]
        assert_plays_right(tmp_path, read)


async def test_sound_that_is_listed_later_is_waited_for(film: Path, tmp_path: Path) -> None:
    pictures = cut(film, "v", track="v", segment_s=2, form="mpegts")
    bench = Bench(tmp_path, pictures, cut(film, "a", track="a", segment_s=1.97, form="mpegts"))
    asked = iter(range(10_000))
    bench.serve("sound.m3u8", lambda: bench.sound.listing(upto=min(6, 1 + next(asked))))
    bench.serve("pictures.m3u8", pictures.listing(upto=4))
    read = await bench.read()
    assert ([True] * 4, 0) == ([has_both(each) for each in read], bench.told_count)
    assert_plays_right(tmp_path, read, frames=4 * 2 * FPS)


async def test_pictures_whose_sound_cannot_be_had_are_archived_alone_and_told(
    film: Path, tmp_path: Path
) -> None:
    pictures = cut(film, "v", track="v", segment_s=2, form="mpegts")
    sound = cut(film, "a", track="a", segment_s=1.97, form="mpegts")
    bench = Bench(tmp_path, pictures, sound)
    playlist = await bench.source.playlist(from_sequence=0)
    bench.serve("sound.m3u8", 404)
    first = await bench.segments(replace(playlist, segments=playlist.segments[:3]), left_s=3)
    assert ([False] * 3, 3) == ([has_both(each) for each in first], bench.told_count)
    assert [pictures.files[name] for name, _ in pictures.entries[:3]] == [each.body for each in first]
    bench.serve("sound.m3u8", sound.listing())
    rest = await bench.segments(replace(playlist, segments=playlist.segments[3:]))
    assert ([True] * 3, 3) == ([has_both(each) for each in rest], bench.told_count)


SCRIPT = """
stream: {audio: true, speed: 2, window: 6, initial_segments: 1}
faults: [{from_segment: 3, count: 1, target: audio, fault: status, code: 404}]
"""


@pytest.mark.faults
async def test_a_live_stream_is_archived_with_its_sound_and_without_what_is_lost(
    film: Path, tmp_path: Path
) -> None:
    """Followed from beginning to end; a part of the sound that is never there costs no picture."""
    for name in ("mix", "spool", "cut"):
        (tmp_path / name).mkdir()
    journal, before = FakeJournal(FOLLOWED), metrics.ingest_audio_apart._value.get()
    store = FolderObjectStore(
        tmp_path / "objects", public_base_url="http://x", signing_secret="s" * 32, clock=utc_now
    )
    async with FaultOrigin(film, script=parse_script(SCRIPT)) as origin:
        allowed = parse_allowed(origin.base_url.removeprefix("http://"))
        async with SafeHttpClient(allowed=allowed, user_agent="test") as http:
            mixer = FfmpegMixer(MediaRunner(sandbox=Sandbox.LIMITS_ONLY), work_root=tmp_path / "mix")
            follower = Follower(
                await journal.open(LEASE),
                LEASE,
                source=HlsSource(http, origin.url, headers={}, target_height=720, mixer=mixer),
                archive=Archive(store, FolderSpool(tmp_path / "spool", limit_bytes=10**9)),
                journal=journal,
                policy=FollowerPolicy(tracker=TrackerPolicy(drain_floor_s=10.0)),
                clock=utc_now,
            )
            origin.go_live()
            async with asyncio.timeout(60):
                await follower.run()
    bodies = [store_body(tmp_path, each) for each in journal.entries if each.segment]
    clocks = [read_clock(body) for body in bodies]
    assert [True] * SEGMENTS == [clock is not None and clock.has_video for clock in clocks]
    assert 1 <= metrics.ingest_audio_apart._value.get() - before <= 2
    assert SEGMENTS - 1 <= sum(clock is not None and clock.has_audio for clock in clocks)
    (tmp_path / "joined.ts").write_bytes(b"".join(bodies))
    assert list(range(FILM_S * FPS)) == [number for _, number in read_frame_numbers(tmp_path / "joined.ts")]
    steps = [after - before for before, after in pairwise(sound_times(tmp_path / "joined.ts"))]
    assert [step for step in steps if abs(step - 1920) > 1 and step < 90_000] == []
    assert 1 == sum(step >= 90_000 for step in steps)
    assert [] == list((tmp_path / "mix").iterdir())


def store_body(folder: Path, entry: Entry) -> bytes:
    assert entry.segment is not None
    return (folder / "objects" / entry.segment.ref.key).read_bytes()
