"""Cuts clips with FFmpeg by a full re-encode: exact to the picture, sound with it, playable while it downloads.

Seeking before the input misses by half a GOP on joined TS (16-19 pictures, measured), so whole runs are decoded and
trimmed by presentation times that were read from the media first.
"""

import asyncio
import shutil
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import ffmpeg

from clipper.adapters.packet_list import parse_packet_list
from clipper.domain.encoding import THUMBNAIL_WIDTH_MAX, Encoding, choose_encoding
from clipper.domain.frames import US_PER_S, FrameSpan, FrameTable, select_frames
from clipper.workflow import CutClip, LocalRun
from shared.media_runner import MediaRejected, MediaRunner, Stream
from shared.profile import Quality

WALL_CLOCK_S = 60.0
_INDEX_WALL_CLOCK_S = 20.0
_VERIFY_WALL_CLOCK_S = 45.0
_THUMBNAIL_WALL_CLOCK_S = 15.0
_SAMPLE_RATE_HZ = 48_000
_AAC_FRAME_US = 1024 * US_PER_S // _SAMPLE_RATE_HZ + 1
_TRACK_TIMESCALE = 90_000
_JPEG_QUALITY = 4
_DEMUXERS = {"mpegts": "mpegts", "fmp4": "mov"}


@dataclass(frozen=True, slots=True)
class _Part:
    """One run as a joined file, with what is in it and which of its pictures are shown."""

    name: str
    demuxer: str
    picture: Stream
    has_sound: bool
    table: FrameTable
    span: FrameSpan


class FfmpegCutter:
    """The Cutter that re-encodes everything with libx264 and AAC."""

    def __init__(self, runner: MediaRunner, *, wall_clock_s: float = WALL_CLOCK_S) -> None:
        """`wall_clock_s` bounds the encode; index, check and thumbnail have bounds of their own."""
        self._runner = runner
        self._wall_clock_s = wall_clock_s

    async def cut(self, runs: tuple[LocalRun, ...], *, quality: Quality, work_dir: Path) -> CutClip:
        parts = [await self._open(run, work_dir, number) for number, run in enumerate(runs)]
        encoding = choose_encoding(
            quality,
            width=parts[0].picture.width or 0,
            height=parts[0].picture.height or 0,
            frames=sum(len(part.span.offsets_us) for part in parts),
        )
        path = work_dir / "clip.mp4"
        command = _encode(parts, encoding, path.name)
        await self._runner.run(command, work_dir=work_dir, wall_clock_s=self._wall_clock_s, output=path)
        return CutClip(
            path=path,
            width=encoding.width,
            height=encoding.height,
            spans=tuple(part.span for part in parts),
            has_sound=any(part.has_sound for part in parts),
        )

    async def verify(self, clip: CutClip) -> None:
        pictures = sum(len(span.offsets_us) for span in clip.spans)
        await self._runner.verify_output(
            clip.path,
            expected_duration_us=clip.duration_us,
            tolerance_us=max(clip.duration_us // pictures, _AAC_FRAME_US),
            kinds=("video", "audio") if clip.has_sound else ("video",),
            wall_clock_s=_VERIFY_WALL_CLOCK_S,
        )

    async def thumbnail(self, clip: CutClip, *, at_us: int) -> Path:
        path = clip.path.with_name("thumbnail.jpg")
        await self._runner.run(
            _thumbnail(clip.path.name, path.name, at_us=at_us),
            work_dir=clip.path.parent,
            wall_clock_s=_THUMBNAIL_WALL_CLOCK_S,
            output=path,
        )
        return path

    async def _open(self, local: LocalRun, work_dir: Path, number: int) -> _Part:
        joined = work_dir / f"run-{number}.media"
        await asyncio.to_thread(_join, local, joined)
        demuxer = _DEMUXERS[local.run.segments[0].container]
        probe = await self._runner.probe(joined, demuxer=demuxer, work_dir=work_dir)
        picture = probe.first("video")
        if picture is None:
            raise MediaRejected(f"run {number} from {local.run.origin_us} us has no picture")
        table = await self._frames(joined, demuxer=demuxer, work_dir=work_dir)
        span = select_frames(
            table, origin_us=local.run.origin_us, from_us=local.run.from_us, to_us=local.run.to_us
        )
        return _Part(joined.name, demuxer, picture, probe.first("audio") is not None, table, span)

    async def _frames(self, joined: Path, *, demuxer: str, work_dir: Path) -> FrameTable:
        """The times of all pictures, read from the packets without decoding any."""
        listed = ffmpeg.input(joined.name, f=demuxer, copyts=None).output(
            "pipe:1", map="0:v:0", c="copy", f="framecrc"
        )
        completed = await self._runner.run(
            listed.compile()[1:], work_dir=work_dir, wall_clock_s=_INDEX_WALL_CLOCK_S
        )
        return parse_packet_list(completed.stdout.decode())


def _join(local: LocalRun, joined: Path) -> None:
    """Segments of one run may simply stand one after the other, TS as well as fmp4."""
    with joined.open("wb") as target:
        for path in (*((local.init,) if local.init else ()), *local.files):
            with path.open("rb") as source:
                shutil.copyfileobj(source, target)


def _encode(parts: list[_Part], encoding: Encoding, output: str) -> list[str]:
    sources = [ffmpeg.input(part.name, f=part.demuxer) for part in parts]
    with_sound = any(part.has_sound for part in parts)
    streams: list[Any] = []
    for source, part in zip(sources, parts, strict=True):
        streams.append(_picture(source, part, encoding, alone=len(parts) == 1))
        if with_sound:
            streams.append(_sound(source, part))
    if len(parts) > 1:
        streams = _concatenated(streams, with_sound=with_sound)
    sound_options = {"c:a": "aac", "b:a": f"{encoding.audio_kbps}k"} if with_sound else {}
    command = ffmpeg.output(
        *streams,
        output,
        **{"c:v": "libx264", "fps_mode": "passthrough", "enc_time_base": -1},
        preset=encoding.preset,
        crf=encoding.crf,
        pix_fmt="yuv420p",
        video_track_timescale=_TRACK_TIMESCALE,
        movflags="+faststart",
        map_metadata=-1,
        f="mp4",
        **sound_options,
    )
    return ["-copyts", *command.overwrite_output().compile()[1:]]


def _picture(source: Any, part: _Part, encoding: Encoding, *, alone: bool) -> Any:
    """The pictures of the span, from time 0; brought to the clip's size where they differ from it."""
    span = part.span
    trimmed = (
        source["v:0"]
        .filter("trim", start_pts=span.start_pts, end_pts=span.end_pts)
        .filter("setpts", f"PTS-({span.start_pts})")
    )
    size = (part.picture.width, part.picture.height)
    if alone and size == (encoding.width, encoding.height):
        return trimmed
    return (
        trimmed.filter("scale", encoding.width, encoding.height, force_original_aspect_ratio="decrease")
        .filter("pad", encoding.width, encoding.height, "(ow-iw)/2", "(oh-ih)/2")
        .filter("setsar", 1)
    )


def _sound(source: Any, part: _Part) -> Any:
    """The sound from the first picture's time to the end of the last one's; silence where the source has none."""
    length = _decimal(Fraction(part.span.length_us, US_PER_S))
    if not part.has_sound:
        return ffmpeg.input(f"anullsrc=r={_SAMPLE_RATE_HZ}:cl=stereo", f="lavfi", t=length)["a:0"]
    start, end = (_decimal(part.table.seconds(pts)) for pts in (part.span.start_pts, part.span.end_pts))
    return (
        source["a:0"]
        .filter("atrim", start=start, end=end)
        .filter("asetpts", f"PTS-({start}/TB)")
        .filter("aresample", _SAMPLE_RATE_HZ, **{"async": 1, "first_pts": 0})
        .filter("aformat", sample_fmts="fltp", channel_layouts="stereo")
        .filter("apad", whole_dur=length)
        .filter("atrim", end=length)
    )


def _concatenated(streams: list[Any], *, with_sound: bool) -> list[Any]:
    kinds = 2 if with_sound else 1
    joined = ffmpeg.concat(*streams, n=len(streams) // kinds, v=1, a=kinds - 1).node
    return [joined[kind] for kind in range(kinds)]


def _thumbnail(clip: str, output: str, *, at_us: int) -> list[str]:
    """A seek in our own MP4 is exact; half a millisecond early finds the picture that begins at `at_us`."""
    at_s = _decimal(Fraction(max(0, at_us - 500), US_PER_S))
    picture = (
        ffmpeg.input(clip, f="mov", ss=at_s)["v:0"]
        .filter("scale", f"min({THUMBNAIL_WIDTH_MAX},iw)", -2, flags="area")
        .output(output, f="mjpeg", pix_fmt="yuvj420p", **{"frames:v": 1, "q:v": _JPEG_QUALITY})
    )
    command: list[str] = picture.overwrite_output().compile()[1:]
    return command


def _decimal(seconds: Fraction) -> str:
    """Seconds with microseconds, as FFmpeg's options take them."""
    return f"{round(seconds * US_PER_S) / US_PER_S:.6f}"
