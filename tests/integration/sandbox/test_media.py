"""The excerpt that the demo plays: small, complete, licensed, and with its truth."""

import json
import subprocess
from pathlib import Path

import pytest

MEDIA = Path(__file__).resolve().parents[3] / "libs/sandbox/media"


@pytest.mark.needs_ffmpeg
def test_the_excerpt_is_two_minutes_of_whole_frames_with_sound() -> None:
    told = subprocess.run(
        [
            "ffprobe",
            "-v",
            "error",
            "-count_packets",
            "-show_streams",
            "-of",
            "json",
            MEDIA / "arena_excerpt.mp4",
        ],
        check=True,
        capture_output=True,
    )
    video, audio = json.loads(told.stdout)["streams"]

    assert (video["codec_name"], video["width"], video["height"]) == ("h264", 640, 360)
    assert (video["nb_read_packets"], video["duration"]) == ("3003", "120.120000")
    assert audio["codec_name"] == "aac"
    assert (MEDIA / "arena_excerpt.mp4").stat().st_size < 8_000_000


def test_the_truth_and_the_licence_stand_beside_the_excerpt() -> None:
    truth = json.loads((MEDIA / "arena_excerpt.truth.json").read_text())

    late = [moment for moment in truth["moments"] if moment["end"] > truth["duration_s"]]
    assert (len(truth["moments"]), late) == (6, [])
    assert "GPL-2.0-or-later" in (MEDIA / "NOTICE.md").read_text()
