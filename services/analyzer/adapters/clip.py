"""A window as one MP4 for a model: copied, not encoded, where the codecs allow; made by the media runner.

The model counts from the first picture, which is also what media time counts from.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ffmpeg

from analyzer.adapters.window_file import DEMUXERS, JOINED, join, window_start_us
from analyzer.domain.gemini.prompt import ClipSpan
from analyzer.workflow import MediaWindow, ProviderRefused
from shared.media_runner import MediaRunner, Probe

WALL_CLOCK_S = 60.0
_CLIP = "clip.mp4"
_COPIED_PICTURES = frozenset({"h264", "hevc"})


@dataclass(frozen=True, slots=True)
class Clip:
    """`span` is where the window lies in the file; media before it is context that a whole segment brought."""

    path: Path
    mime_type: str
    size_bytes: int
    span: ClipSpan


class ClipMaker:
    """Makes clips; holds nothing between windows."""

    def __init__(self, runner: MediaRunner, *, wall_clock_s: float = WALL_CLOCK_S) -> None:
        self._runner = runner
        self._wall_clock_s = wall_clock_s

    async def make(self, window: MediaWindow, *, include_audio: bool) -> Clip:
        """The clip, in the window's work folder.

        Raises ProviderRefused when nothing is left to show, and the media runner's errors.
        """
        joined = window.work_dir / JOINED
        await asyncio.to_thread(join, window, joined)
        demuxer = DEMUXERS[window.container]
        probe = await self._runner.probe(joined, demuxer=demuxer, work_dir=window.work_dir)
        arguments = _arguments(window, probe, demuxer=demuxer, include_audio=include_audio)
        await self._runner.run(
            arguments, work_dir=window.work_dir, wall_clock_s=self._wall_clock_s, output=Path(_CLIP)
        )
        path = window.work_dir / _CLIP
        start_us = window.start_us - window.media_start_us
        return Clip(
            path=path,
            mime_type="video/mp4" if probe.first("video") else "audio/mp4",
            size_bytes=path.stat().st_size,
            span=ClipSpan(start_us, start_us + window.length_us),
        )


def _arguments(window: MediaWindow, probe: Probe, *, demuxer: str, include_audio: bool) -> list[str]:
    source = ffmpeg.input(JOINED, f=demuxer)
    video = probe.first("video")
    audio = probe.first("audio") if include_audio else None
    if video is None and audio is None:
        raise ProviderRefused(
            f"window {window.stream_id} {window.position}: neither sound nor picture to show"
        )
    streams = ([source["v:0"]] if video else []) + ([source["a:0"]] if audio else [])
    options: dict[str, Any] = {"f": "mp4", "movflags": "+faststart", "map_metadata": -1}
    if video is not None:
        options |= _picture_options(video.codec)
    if audio is not None:
        options["c:a"] = "copy" if audio.codec == "aac" else "aac"
    end_us = window_start_us(window, probe) + window.length_us
    output = ffmpeg.output(*streams, _CLIP, t=f"{end_us / 1e6:.6f}", **options)
    return list(output.overwrite_output().compile()[1:])


def _picture_options(codec: str | None) -> dict[str, str]:
    if codec not in _COPIED_PICTURES:
        return {"c:v": "libx264", "preset": "veryfast", "pix_fmt": "yuv420p"}
    return {"c:v": "copy"} | ({"tag:v": "hvc1"} if codec == "hevc" else {})
