"""A test film reads back exactly, also from a clip that was cut, scaled and encoded again."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from sandbox.film import FilmError, make_film, read_click_times_s, read_frame_numbers, sync_error_s

pytestmark = pytest.mark.needs_ffmpeg

FPS = 25
MOMENT = (4.0, 6.0)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "film.mp4", duration_s=8, moments=(MOMENT,), fps=FPS)


def ffmpeg(*arguments: str) -> bytes:
    command = ["ffmpeg", "-v", "error", "-y", *arguments]
    return subprocess.run(command, check=True, capture_output=True).stdout


def test_every_frame_shows_its_number_at_its_time(film: Path) -> None:
    frames = read_frame_numbers(film)

    assert [number for _, number in frames] == list(range(8 * FPS))
    assert [pts_s for pts_s, _ in frames] == pytest.approx([n / FPS for n in range(8 * FPS)], abs=1e-6)


def test_clicks_stand_at_full_seconds_also_within_a_loud_moment(film: Path) -> None:
    clicks = read_click_times_s(film)

    assert clicks == pytest.approx(tuple(range(8)), abs=0.001)


def test_a_transport_stream_keeps_picture_and_sound_together(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.ts", duration_s=3)

    frames = read_frame_numbers(film)

    assert [number for _, number in frames] == list(range(3 * FPS))
    assert frames[0][0] > 1.0  # MPEG-TS time does not begin at 0
    assert sync_error_s(film) < 0.001


@pytest.mark.parametrize("start_frame", [63, 100])
def test_a_scaled_clip_tells_where_it_was_cut(film: Path, tmp_path: Path, start_frame: int) -> None:
    clip = tmp_path / "clip.mp4"
    cut = ("-ss", f"{start_frame / FPS}", "-i", str(film), "-t", "3")
    ffmpeg(*cut, "-s", "640x360", "-c:v", "libx264", "-crf", "28", "-c:a", "aac", "-b:a", "64k", str(clip))

    frames = read_frame_numbers(clip)

    assert [number for _, number in frames] == list(range(start_frame, start_frame + 3 * FPS))
    assert sync_error_s(clip) < 0.002


def test_sound_that_was_shifted_is_noticed(film: Path, tmp_path: Path) -> None:
    shifted = tmp_path / "shifted.mp4"
    ffmpeg("-i", str(film), "-itsoffset", "0.1", "-i", str(film), "-map", "0:v", "-map", "1:a", *(
        "-c", "copy", str(shifted)
    ))  # fmt: skip

    assert sync_error_s(shifted) == pytest.approx(0.1, abs=0.005)


def test_a_moment_is_louder_and_moves_more_than_the_rest(film: Path) -> None:
    pcm = ffmpeg("-i", str(film), "-ac", "1", "-ar", "48000", "-f", "s16le", "pipe:1")
    sound = np.frombuffer(pcm, dtype="<i2").astype(float)[: 8 * 48_000].reshape(8, 48_000)
    raw = ffmpeg("-i", str(film), "-vf", "format=gray", "-f", "rawvideo", "pipe:1")
    picture = np.frombuffer(raw, dtype=np.uint8).reshape(8, FPS, 180, 320)[:, :, 16:].astype(float)

    loudness = np.sqrt((sound**2).mean(axis=1))
    motion = np.abs(np.diff(picture, axis=1)).mean(axis=(1, 2, 3))

    inside, outside = [4, 5], [0, 1, 2, 3, 6, 7]
    assert loudness[inside].min() > 3 * loudness[outside].max()
    assert motion[inside].min() > 10 * motion[outside].max()


def test_a_file_without_sound_or_picture_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "film.mp4"
    text.write_text("no film")

    with pytest.raises(FilmError, match=r"reading film\.mp4 failed"):
        read_frame_numbers(text)
    with pytest.raises(FilmError, match=r"reading film\.mp4 failed"):
        read_click_times_s(text)


def test_a_film_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FilmError, match=r"making film\.mp4 failed"):
        make_film(tmp_path / "missing" / "film.mp4", duration_s=1)
    with pytest.raises(ValueError, match="a film has 1 to 65536 frames"):
        make_film(tmp_path / "film.mp4", duration_s=0)
