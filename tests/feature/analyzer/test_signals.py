"""The signals provider on real media: finds what happens, and nothing where nothing happens."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from analyzer.adapters.signals import SignalsProvider
from analyzer.domain.analysis import Analysis
from analyzer.workflow import MediaWindow, ProviderRefused
from sandbox.film import make_film
from shared.ids import Position, StreamId
from shared.media_runner import MediaRejected, MediaRunner, detect_sandbox
from shared.profile import Dimension, Profile, Quality, combined_score
from tests.fakes.shared.stored_profiles import default_profile

pytestmark = pytest.mark.needs_ffmpeg
MEDIA = Path(__file__).resolve().parents[3] / "../shared/media"
THRESHOLD = 0.70
MOMENT_S = (11.0, 16.0)


@dataclass(frozen=True)
class Desk:
    provider: SignalsProvider
    folder: Path

    async def judge(
        self, files: Sequence[Path], *, media_start_s: float, from_s: float, to_s: float
    ) -> Analysis:
        work_dir = self.folder / f"window-{from_s}"
        work_dir.mkdir()
        copies = [work_dir / f"segment-{at}" for at in range(len(files))]
        for source, copy in zip(files, copies, strict=True):
            copy.write_bytes(source.read_bytes())
        window = MediaWindow(
            stream_id=StreamId("str_0123456789ab"),
            position=Position(0, 0),
            start_us=round(from_s * 1e6),
            end_us=round(to_s * 1e6),
            media_start_us=round(media_start_s * 1e6),
            files=tuple(copies),
            container="mpegts",
            init=None,
            work_dir=work_dir,
        )
        return await self.provider.score(window, default_profile())


@pytest.fixture
async def desk(tmp_path: Path) -> Desk:
    return Desk(SignalsProvider(MediaRunner(sandbox=await detect_sandbox())), tmp_path)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("film")
    return make_film(folder / "film.mp4", duration_s=24, moments=(MOMENT_S,))


def as_ts(source: Path, target: Path, *options: str) -> Path:
    subprocess.run(
        ["ffmpeg", "-v", "error", "-i", str(source), *options, "-f", "mpegts", str(target)], check=True
    )
    return target


def scores(analysis: Analysis) -> list[float]:
    return [combined_score(default_profile(), moment.scores) for moment in analysis.moments]


async def test_the_one_moment_of_a_film_is_found_in_its_place(desk: Desk, film: Path, tmp_path: Path) -> None:
    media = as_ts(film, tmp_path / "a.ts", "-c", "copy")

    analysis = await desk.judge([media], media_start_s=0, from_s=0, to_s=24)

    (moment,) = analysis.moments
    assert MOMENT_S[0] <= moment.peak_us / 1e6 <= MOMENT_S[1]
    assert combined_score(default_profile(), moment.scores) >= THRESHOLD
    assert analysis.degraded


async def test_times_count_from_the_windows_start_when_its_media_begins_earlier(
    desk: Desk, film: Path, tmp_path: Path
) -> None:
    media = as_ts(film, tmp_path / "a.ts", "-c", "copy")

    whole = await desk.judge([media], media_start_s=100, from_s=100, to_s=120)
    later = await desk.judge([media], media_start_s=100, from_s=104, to_s=120)

    assert abs(later.moments[0].peak_us + 4_000_000 - whole.moments[0].peak_us) <= 1_000_000
    assert set(later.snap_points_us) <= {point_us - 4_000_000 for point_us in whole.snap_points_us}


async def test_cuts_are_snap_points_exact_to_the_frame(desk: Desk, film: Path, tmp_path: Path) -> None:
    media = as_ts(film, tmp_path / "a.ts", "-c", "copy")

    analysis = await desk.judge([media], media_start_s=0, from_s=0, to_s=24)

    nearest_us = min(analysis.snap_points_us, key=lambda point_us: abs(point_us - MOMENT_S[0] * 1e6))
    assert abs(nearest_us - MOMENT_S[0] * 1e6) <= 1_000


async def test_the_same_media_is_judged_the_same_at_any_time_of_the_stream(
    desk: Desk, film: Path, tmp_path: Path
) -> None:
    media = as_ts(film, tmp_path / "a.ts", "-c", "copy")

    first = await desk.judge([media], media_start_s=0, from_s=0, to_s=20)
    again = await desk.judge([media], media_start_s=500, from_s=500, to_s=520)

    assert again == first


@pytest.mark.parametrize(
    ("options", "note"),
    [
        (("-an", "-c", "copy"), "judged by the picture alone"),
        (("-vn", "-c", "copy"), "judged by the sound alone"),
    ],
)
async def test_half_of_the_media_is_judged_by_what_is_there(
    desk: Desk, film: Path, tmp_path: Path, options: tuple[str, ...], note: str
) -> None:
    media = as_ts(film, tmp_path / "a.ts", *options)

    analysis = await desk.judge([media], media_start_s=0, from_s=0, to_s=24)

    assert analysis.note == note
    assert MOMENT_S[0] <= analysis.moments[0].peak_us / 1e6 <= MOMENT_S[1]


async def test_bytes_that_are_no_media_are_an_error_and_no_empty_answer(desk: Desk, tmp_path: Path) -> None:
    page = tmp_path / "page.ts"
    page.write_bytes(b"<html>not found</html>" * 100)

    with pytest.raises(MediaRejected):
        await desk.judge([page], media_start_s=0, from_s=0, to_s=2)


async def test_a_profile_that_measurements_cannot_serve_is_refused(desk: Desk, tmp_path: Path) -> None:
    profile = Profile(
        name="goals",
        quality=Quality.FAST,
        dimensions=(Dimension(name="goal", definition="a goal", weight=1.0),),
    )
    window = MediaWindow(
        stream_id=StreamId("str_0123456789ab"),
        position=Position(0, 0),
        start_us=0,
        end_us=1,
        media_start_us=0,
        files=(),
        container="mpegts",
        init=None,
        work_dir=tmp_path,
    )

    with pytest.raises(ProviderRefused):
        await desk.provider.score(window, profile)


async def test_a_fight_is_chosen_and_loud_credits_are_not(desk: Desk) -> None:
    folder = MEDIA / "agent327_hls"
    if not folder.is_dir():
        pytest.skip("needs ../shared/media/agent327_hls")
    segments = sorted(folder.glob("360p_*.ts"))

    fight = await desk.judge(segments[9:12], media_start_s=90, from_s=90, to_s=110)
    credits_ = await desk.judge(segments[20:23], media_start_s=200, from_s=208, to_s=228)

    assert max(scores(fight)) >= THRESHOLD
    assert max(scores(credits_), default=0.0) < THRESHOLD


async def test_a_still_and_silent_recording_has_no_moments(desk: Desk, tmp_path: Path) -> None:
    recording = MEDIA / "autoeditor_example.mp4"
    if not recording.is_file():
        pytest.skip("needs ../shared/media/autoeditor_example.mp4")
    media = as_ts(recording, tmp_path / "a.ts", "-ss", "17", "-t", "22", "-c:v", "copy", "-c:a", "aac")

    analysis = await desk.judge([media], media_start_s=0, from_s=0, to_s=20)

    assert analysis.moments == ()
