"""Clips of a film with a frame counter and a click each second begin and end on the exact frame, with the sound."""

import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from clipper.adapters.cutter import FfmpegCutter
from clipper.workflow import CutClip, Editor
from ingest.domain.media_body import examine
from ingest.domain.timeline import MeasuredSegment, Timeline, place_segment
from sandbox.film import make_film, read_click_times_s, read_frame_numbers, sync_error_s
from sandbox.segmenter import INIT_NAME, SUFFIXES, Container
from shared.events import ClipReady, HighlightConfirmed, SegmentRef
from shared.ids import HighlightId, OrganizationId, StreamId
from shared.media_runner import MediaRunner, OutputInvalid, detect_sandbox
from shared.object_store import FolderObjectStore
from tests.fakes.shared.stored_profiles import FakeProfiles, default_profile

pytestmark = pytest.mark.needs_ffmpeg
NOW = datetime(2026, 1, 2, tzinfo=UTC)
FPS = 25
SEGMENT_S = 2
FILM_S = 12
SOUND_TOLERANCE_S = 0.020
COPY = ("-map", "0", "-c", "copy")


@dataclass(frozen=True)
class Bench:
    """An editor on real FFmpeg, and the folder store that it reads and writes."""

    editor: Editor
    store: FolderObjectStore
    cutter: FfmpegCutter

    async def clip(self, refs: Sequence[SegmentRef], *, from_s: float, to_s: float) -> tuple[ClipReady, Path]:
        (ready,) = await self.editor.cut(highlight(refs, from_s=from_s, to_s=to_s))
        assert isinstance(ready, ClipReady)
        return ready, self.store.file_of(ready.video_key)


def highlight(refs: Sequence[SegmentRef], *, from_s: float, to_s: float) -> HighlightConfirmed:
    return HighlightConfirmed(
        event_id=UUID(int=1),
        organization_id=OrganizationId("org_1"),
        occurred_at=NOW,
        stream_id=StreamId("str_0123456789ab"),
        highlight_id=HighlightId("hl_1"),
        revision=0,
        run=0,
        profile_key="profiles/p.json",
        start_us=round(from_s * 1e6),
        end_us=round(to_s * 1e6),
        peak_us=round((from_s + to_s) / 2 * 1e6),
        score=0.9,
        confidence=0.5,
        scores={},
        type="action",
        title="A title",
        segments=tuple(refs),
    )


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "film.mp4", duration_s=FILM_S, moments=((5, 7),))


@pytest.fixture
async def bench(tmp_path: Path) -> Bench:
    store = FolderObjectStore(
        tmp_path / "objects", public_base_url="http://test", signing_secret="s", clock=lambda: NOW
    )
    work_root = tmp_path / "work"
    work_root.mkdir()
    cutter = FfmpegCutter(MediaRunner(sandbox=await detect_sandbox()))
    editor = Editor(
        store=store,
        profiles=FakeProfiles({"profiles/p.json": default_profile()}),
        cutter=cutter,
        clock=lambda: NOW,
        work_root=work_root,
    )
    return Bench(editor, store, cutter)


CONTAINERS: tuple[Container, ...] = ("mpegts", "fmp4")


async def archive(
    store: FolderObjectStore,
    film: Path,
    folder: Path,
    *options: str,
    container: Container = "mpegts",
    epoch: int = 0,
    offset_s: float = 0,
) -> tuple[SegmentRef, ...]:
    """The film in segments of 2 s, placed by their own clock as ingest does; `offset_s` shifts that clock."""
    folder.mkdir()
    suffix = SUFFIXES[container]
    subprocess.run(
        [
            *("ffmpeg", "-v", "error", "-i", str(film), *options, "-output_ts_offset", f"{offset_s}"),
            *("-f", "hls", "-hls_time", f"{SEGMENT_S}", "-hls_playlist_type", "vod"),
            *("-hls_segment_type", container, "-hls_fmp4_init_filename", INIT_NAME),
            *("-hls_segment_filename", str(folder / f"%03d.{suffix}"), str(folder / "list.m3u8")),
        ],
        check=True,
    )
    files = sorted(folder.glob(f"*.{suffix}"))
    assert len(files) == FILM_S // SEGMENT_S
    init = (folder / INIT_NAME).read_bytes() if container == "fmp4" else None
    init_key = f"archive/{epoch}/init.mp4" if init else None
    if init_key and init:
        await store.put(init_key, init)
    return tuple([each async for each in _placed(store, files, init=init, init_key=init_key, epoch=epoch)])


async def _placed(
    store: FolderObjectStore, files: Sequence[Path], *, init: bytes | None, init_key: str | None, epoch: int
) -> AsyncIterator[SegmentRef]:
    timeline = Timeline(position_us=epoch * FILM_S * 1_000_000, segment_count=epoch)
    for at, path in enumerate(files):
        stored = await store.put_file(f"archive/{epoch}/{path.name}", path)
        listed_us = SEGMENT_S * 1_000_000
        media = examine(path.read_bytes(), listed_us=listed_us, init=init)
        measured = MeasuredSegment(listed_us=listed_us, probed_us=media.duration_us, pts_us=media.pts_us)
        placed, timeline = place_segment(timeline, segment=measured)
        yield SegmentRef(
            key=stored.key,
            epoch=epoch,
            sequence=at,
            start_us=placed.start_us,
            duration_us=placed.duration_us,
            size_bytes=stored.size_bytes,
            sha256=stored.sha256,
            container=media.container,
            init_key=init_key,
            discontinuity=epoch > 0 and at == 0,
        )


@pytest.mark.parametrize(
    ("container", "from_s", "to_s", "first", "last"),
    [
        ("mpegts", 0, 3, 0, 74),
        ("mpegts", 3.4, 8.6, 85, 214),
        ("mpegts", 4, 6, 100, 149),
        ("mpegts", 4.96, 9.04, 124, 225),
        ("mpegts", 5.01, 7.99, 126, 199),
        ("mpegts", 9, 12, 225, 299),
        ("fmp4", 0, 3, 0, 74),
        ("fmp4", 5.01, 8.6, 126, 214),
    ],
)
async def test_a_clip_begins_and_ends_on_the_exact_frame_and_its_sound_keeps_time(
    bench: Bench,
    film: Path,
    tmp_path: Path,
    container: Container,
    from_s: float,
    to_s: float,
    first: int,
    last: int,
) -> None:
    refs = await archive(bench.store, film, tmp_path / "segments", *COPY, container=container)

    ready, clip = await bench.clip(refs, from_s=from_s, to_s=to_s)

    frames = read_frame_numbers(clip)
    assert [number for _, number in frames] == list(range(first, last + 1))
    assert frames[0][0] == 0.0
    assert sync_error_s(clip) <= SOUND_TOLERANCE_S
    assert ready.start_us == first * 1_000_000 // FPS
    assert ready.duration_us == (last + 1 - first) * 1_000_000 // FPS


@pytest.mark.parametrize(
    ("container", "offset_s"),
    [("mpegts", 50_000), ("mpegts", 95_437), ("fmp4", 400_000)],
    ids=["late", "across the wrap of 33 bits", "beyond 32 bits"],
)
async def test_timestamps_inside_the_media_may_start_anywhere(
    bench: Bench, film: Path, tmp_path: Path, container: Container, offset_s: float
) -> None:
    refs = await archive(
        bench.store, film, tmp_path / "segments", *COPY, container=container, offset_s=offset_s
    )

    _, clip = await bench.clip(refs, from_s=3, to_s=11)

    assert [number for _, number in read_frame_numbers(clip)] == list(range(75, 275))
    assert sync_error_s(clip) <= SOUND_TOLERANCE_S


async def test_open_groups_of_pictures_are_decoded_from_the_segment_before(
    bench: Bench, film: Path, tmp_path: Path
) -> None:
    x264 = "keyint=50:min-keyint=50:scenecut=0:open-gop=1:bframes=3:repeat-headers=1"
    options = ("-c:v", "libx264", "-x264-params", x264, "-c:a", "copy")
    refs = await archive(bench.store, film, tmp_path / "segments", *options)
    assert refs[2].start_us < 4_000_000  # the pictures that lead the key frame

    _, clip = await bench.clip(refs, from_s=4, to_s=7)

    assert [number for _, number in read_frame_numbers(clip)] == list(range(100, 175))


@pytest.mark.parametrize("container", CONTAINERS)
async def test_a_clip_across_a_discontinuity_joins_both_sides_exactly(
    bench: Bench, film: Path, tmp_path: Path, container: Container
) -> None:
    before = await archive(bench.store, film, tmp_path / "a", *COPY, container=container)
    after = await archive(
        bench.store, film, tmp_path / "b", *COPY, container=container, epoch=1, offset_s=777
    )

    ready, clip = await bench.clip((*before, *after), from_s=10, to_s=14)

    numbers = [number for _, number in read_frame_numbers(clip)]
    assert numbers == [*range(250, 300), *range(50)]
    assert [round(click_s, 2) for click_s in read_click_times_s(clip)] == [0, 1, 2, 3]
    assert ready.duration_us == 4_000_000


async def test_a_side_with_another_size_and_without_sound_is_brought_into_line(
    bench: Bench, film: Path, tmp_path: Path
) -> None:
    other = ("-an", "-vf", "scale=640:480", "-c:v", "libx264", "-preset", "ultrafast", "-g", "50")
    before = await archive(bench.store, film, tmp_path / "a", *COPY)
    after = await archive(bench.store, film, tmp_path / "b", *other, epoch=1)

    ready, clip = await bench.clip((*before, *after), from_s=10, to_s=14)

    assert len(read_frame_numbers(clip)) == 100
    assert (ready.width, ready.height) == (320, 180)


async def test_a_stream_without_sound_gives_a_clip_without_sound(
    bench: Bench, film: Path, tmp_path: Path
) -> None:
    refs = await archive(bench.store, film, tmp_path / "segments", "-an", "-c:v", "copy")

    _, clip = await bench.clip(refs, from_s=3, to_s=5)

    assert [number for _, number in read_frame_numbers(clip)] == list(range(75, 125))


async def test_the_thumbnail_is_the_frame_at_the_peak(bench: Bench, film: Path, tmp_path: Path) -> None:
    refs = await archive(bench.store, film, tmp_path / "segments", *COPY)

    ready, _ = await bench.clip(refs, from_s=1, to_s=4)

    picture = Path(shutil.copy(bench.store.file_of(ready.thumbnail_key), tmp_path / "picture.jpg"))
    assert [number for _, number in read_frame_numbers(picture)] == [62]


async def test_a_clip_that_is_shorter_than_it_should_be_is_not_accepted(
    bench: Bench, film: Path, tmp_path: Path
) -> None:
    refs = await archive(bench.store, film, tmp_path / "segments", *COPY)
    kept: list[Path] = []
    verify = bench.cutter.verify

    async def verify_against_more(clip: CutClip) -> None:
        kept.append(clip.path)
        longer = replace(clip.spans[0], length_us=clip.spans[0].length_us + 100_000)
        await verify(replace(clip, spans=(longer,)))

    bench.cutter.verify = verify_against_more  # type: ignore[method-assign]

    with pytest.raises(OutputInvalid):
        await bench.clip(refs, from_s=1, to_s=3)

    assert len(kept) == 1
    assert [key async for key in bench.store.list("clips/")] == []
