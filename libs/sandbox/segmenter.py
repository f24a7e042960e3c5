"""Cuts a media file into MPEG-TS or fMP4 segments at key frames with FFmpeg, and reads their exact durations.

Streams that HLS players expect (H.264, AAC) are copied; anything else is encoded once.
"""

import asyncio
import json
import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from sandbox.live_window import US_PER_S, LiveSegment

Container = Literal["mpegts", "fmp4"]
Tracks = Literal["both", "video", "audio"]
INIT_NAME = "init.mp4"
SUFFIXES: dict[Container, str] = {"mpegts": "ts", "fmp4": "m4s"}
_MAPS: dict[Tracks, tuple[str, ...]] = {
    "both": ("-map", "0:v:0", "-map", "0:a:0?"),
    "video": ("-map", "0:v:0"),
    "audio": ("-map", "0:a:0"),
}
CUT_MARGIN_S = 20  # read so much more, for FFmpeg drops frames at a cut that is no key frame


class MediaToolError(Exception):
    """FFmpeg or FFprobe refused a file; the message ends with what it said."""


@dataclass(frozen=True)
class SegmentedMedia:
    """A media file cut into segments that lie in `folder` under their `uri`; `init_uri` is empty but for fMP4."""

    folder: Path
    segments: tuple[LiveSegment, ...]
    width: int
    height: int
    frame_rate: float
    init_uri: str = ""

    @property
    def peak_bps(self) -> int:
        """Highest bit rate of any one segment."""
        return max(self._bits(segment) * US_PER_S // segment.duration_us for segment in self.segments)

    @property
    def average_bps(self) -> int:
        """Bit rate over the whole file."""
        return sum(self._bits(segment) for segment in self.segments) * US_PER_S // self.segments[-1].end_us

    def _bits(self, segment: LiveSegment) -> int:
        return (self.folder / segment.uri).stat().st_size * 8


async def run_media_tool(*arguments: str) -> bytes:
    """Run an FFmpeg tool to its end and return its standard output.

    Raises MediaToolError on an exit status other than 0.
    """
    process = await asyncio.create_subprocess_exec(
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        said = errors.decode(errors="replace")[-500:].strip()
        raise MediaToolError(f"{arguments[0]} ended with {process.returncode}: {said}")
    return output


async def segment_media(
    media: Path,
    *,
    folder: Path,
    segment_s: float = 2.0,
    duration_s: float | None = None,
    container: Container = "mpegts",
    tracks: Tracks = "both",
) -> SegmentedMedia:
    """Cut `media` into the existing `folder`, aiming at `segment_s` per segment; the list lies in `segments.m3u8`.

    With `duration_s`, the segment in which it ends is the last; no segment is shortened.
    Raises MediaToolError if the file has no video or cannot be read.
    """
    streams = await _probe(media)
    video = streams["video"]
    await run_media_tool(
        *("ffmpeg", "-v", "error", "-y", "-i", str(media), *_MAPS[tracks]),
        *(("-t", f"{duration_s + CUT_MARGIN_S}") if duration_s is not None else ()),
        *_codec_options(streams, segment_s=segment_s, tracks=tracks),
        *("-f", "hls", "-hls_time", f"{segment_s}", "-hls_playlist_type", "vod"),
        *("-hls_segment_type", container, "-hls_fmp4_init_filename", INIT_NAME),
        *(
            "-hls_segment_filename",
            str(folder / f"%06d.{SUFFIXES[container]}"),
            str(folder / "segments.m3u8"),
        ),
    )
    segments = parse_segments((folder / "segments.m3u8").read_text())
    end_us = math.inf if duration_s is None else duration_s * US_PER_S
    return SegmentedMedia(
        folder=folder,
        segments=tuple(segment for segment in segments if segment.start_us < end_us),
        width=video["width"],
        height=video["height"],
        frame_rate=float(Fraction(video["r_frame_rate"])),
        init_uri=INIT_NAME if container == "fmp4" else "",
    )


def parse_segments(playlist: str) -> tuple[LiveSegment, ...]:
    """Read names and durations from the playlist that FFmpeg wrote (its EXTINF has microseconds)."""
    segments: list[LiveSegment] = []
    duration_us = start_us = 0
    for line in playlist.splitlines():
        if line.startswith("#EXTINF:"):
            duration_us = round(float(line.removeprefix("#EXTINF:").split(",")[0]) * US_PER_S)
        elif line and not line.startswith("#"):
            segments.append(LiveSegment(uri=line, start_us=start_us, duration_us=duration_us))
            start_us += duration_us
    return tuple(segments)


async def _probe(media: Path) -> dict[str, Any]:
    """Return FFprobe's description of the first stream of each kind."""
    answer = json.loads(
        await run_media_tool("ffprobe", "-v", "error", "-show_streams", "-of", "json", str(media))
    )
    streams = {stream["codec_type"]: stream for stream in reversed(answer["streams"])}
    if "video" not in streams:
        raise MediaToolError(f"{media.name} has no video stream")
    return streams


def _codec_options(streams: dict[str, Any], *, segment_s: float, tracks: Tracks) -> tuple[str, ...]:
    video: tuple[str, ...] = ("-c:v", "copy") if tracks != "audio" else ()
    if video and streams["video"]["codec_name"] != "h264":
        key_frames = f"expr:gte(t,n_forced*{segment_s})"
        video = (
            "-c:v",
            "libx264",
            "-preset",
            "veryfast",
            "-pix_fmt",
            "yuv420p",
            "-force_key_frames",
            key_frames,
        )
    if tracks == "video":
        return video
    audio_is_aac = streams.get("audio", {}).get("codec_name", "aac") == "aac"
    return (*video, "-c:a", "copy" if audio_is_aac else "aac")
